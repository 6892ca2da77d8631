//! What `/readyz` looks at in this process, each by name.

use std::{sync::Arc, time::Duration};

use api::{
    errors::chain,
    health::Check,
    later::Later,
    rebuild::{RebuildState, Rebuilder},
};
use async_trait::async_trait;
use index::Index;
use ingest::{
    failing::Failing,
    journal::{Journal, State},
    lag::Lag,
    ledger::Ledger,
    log::Log,
    recorder::Status,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The journal takes records.
pub(crate) struct JournalCheck(pub(crate) Journal);

#[async_trait]
impl Check for JournalCheck {
    fn name(&self) -> &'static str {
        "journal"
    }

    async fn check(&self) -> Result<String, String> {
        let stats = self.0.stats();
        let used = format!("{} of {} bytes used", stats.bytes, stats.max_bytes);
        match stats.state {
            State::Writable => Ok(used),
            State::Full => Err(format!("full: {used}; log and ledger have to catch up")),
            State::NoSpace => Err("its disk is full; free space on it".to_owned()),
            State::Ended => Err("it takes nothing more in this process".to_owned()),
        }
    }
}

/// The log can be reached, and takes what the journal has for it.
pub(crate) struct LogCheck {
    /// The log, once it is there.
    pub(crate) log: Later<Arc<dyn Log>>,
    /// What the relay says of it, once there is a relay.
    pub(crate) failing: Later<watch::Receiver<Option<Failing>>>,
}

#[async_trait]
impl Check for LogCheck {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn check(&self) -> Result<String, String> {
        let log = self.log.get().ok_or("not connected yet")?;
        if let Some(failing) = self.failing.get().and_then(|failing| failing.borrow().clone()) {
            return Err(format!("failing for {:.0} s: {}", failing.lasted().as_secs_f64(), failing.reason));
        }
        let bounds = log.bounds().await.map_err(|e| chain(&e))?;
        Ok(format!("{} partitions", bounds.len()))
    }
}

/// The ledger's database answers.
pub(crate) struct LedgerCheck(pub(crate) Later<Arc<dyn Ledger>>);

#[async_trait]
impl Check for LedgerCheck {
    fn name(&self) -> &'static str {
        "ledger"
    }

    async fn check(&self) -> Result<String, String> {
        let ledger = self.0.get().ok_or("not connected yet")?;
        ledger.current_log().await.map_err(|e| chain(&e))?;
        Ok("answers".to_owned())
    }
}

/// The recorder keeps up.
pub(crate) struct RecorderCheck {
    /// What it says of itself; nothing before it could start.
    pub(crate) status: Later<watch::Receiver<Status>>,
    /// How far behind it may be.
    pub(crate) max_lag: Duration,
}

#[async_trait]
impl Check for RecorderCheck {
    fn name(&self) -> &'static str {
        "recorder-lag"
    }

    async fn check(&self) -> Result<String, String> {
        let status = self.status.get().ok_or("not started: log and ledger have to be connected first")?;
        let status = status.borrow();
        match &status.ledger_away {
            Some(why) => Err(format!("what is read cannot be written to the ledger: {why}")),
            None => within(status.lag, self.max_lag),
        }
    }
}

/// The indexer keeps up.
pub(crate) struct IndexerCheck {
    /// How far it is.
    pub(crate) lag: watch::Receiver<Lag>,
    /// How far behind it may be.
    pub(crate) max_lag: Duration,
}

#[async_trait]
impl Check for IndexerCheck {
    fn name(&self) -> &'static str {
        "indexer-lag"
    }

    async fn check(&self) -> Result<String, String> {
        within(*self.lag.borrow(), self.max_lag)
    }
}

/// The index holds what the ledger holds.
pub(crate) struct IndexCheck {
    /// The index, which knows what it lacks.
    pub(crate) index: Index,
    /// Who brings it.
    pub(crate) rebuilder: Rebuilder,
}

#[async_trait]
impl Check for IndexCheck {
    fn name(&self) -> &'static str {
        "index"
    }

    async fn check(&self) -> Result<String, String> {
        let Some(lacking) = self.index.standing().lacking else { return Ok("whole".to_owned()) };
        Err(match self.rebuilder.state() {
            RebuildState::Running { done, total } => {
                format!("{lacking}; it is being made anew from the ledger: {done} of {total} records")
            }
            RebuildState::Failed { error } => {
                format!("{lacking}; it is made anew from the ledger again soon, the last try failed: {error}")
            }
            RebuildState::Idle | RebuildState::Done { .. } => {
                format!("{lacking}; it is about to be made anew from the ledger")
            }
        })
    }
}

fn within(lag: Lag, max: Duration) -> Result<String, String> {
    let text = format!("{} records, {:.0} s behind", lag.records, lag.behind.as_secs_f64());
    if lag.behind <= max { Ok(text) } else { Err(format!("{text}; {} s are allowed", max.as_secs())) }
}

/// The process is not on its way to its end, so that traffic goes elsewhere before the listener closes.
pub(crate) struct RunningCheck(pub(crate) CancellationToken);

#[async_trait]
impl Check for RunningCheck {
    fn name(&self) -> &'static str {
        "running"
    }

    async fn check(&self) -> Result<String, String> {
        if self.0.is_cancelled() { Err("stopping".to_owned()) } else { Ok("yes".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_judged_by_time() {
        let lag = |millis| Lag { records: 7, behind: Duration::from_millis(millis) };
        assert!(within(lag(1_000), Duration::from_secs(1)).is_ok());
        assert_eq!(
            within(lag(2_400), Duration::from_secs(1)).unwrap_err(),
            "7 records, 2 s behind; 1 s are allowed"
        );
    }
}
