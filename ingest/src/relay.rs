//! The relay: it moves journaled records to the log, in order, and lets the journal forget them when they are safe.
//!
//! At a start it begins where the journal begins, so what was appended but not yet released is appended again:
//! the ledger removes the duplicates. With a log that keeps one replica only, the journal keeps a record until the
//! recorders have published a position behind it.

mod held;

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::held::Held;
use crate::{
    journal::{Entry, Journal, ReadError},
    log::{Log, LogError, LogId, Offset, Poison, Safety},
    metrics,
    record::Record,
    retry::{Backoff, Stopped, retry},
};

/// Records that are appended together: enough that the log's round trip is a small part of the cost.
const BATCH: usize = 1000;

/// How often what the recorders published is asked for while the journal keeps records for them.
const ASK: Duration = Duration::from_secs(1);

/// Waits between tries while the log does not answer. It is tried for as long as it takes: the journal holds what
/// comes, and refuses when it is full.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How far the log has what was journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Everything before this offset of the journal is in the log.
    pub next: Offset,
    /// How safe the latest of it is there; nothing before the first append.
    pub safety: Option<Safety>,
}

/// Why the relay stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The journal holds bytes that are no record; a newer Muniment may have written them.
    #[error("the journal's entry {} cannot be moved to the log: {reason}", offset.0)]
    Poison {
        /// Its place.
        offset: Offset,
        /// Why it is no record.
        reason: String,
    },
    /// The journal cannot be read.
    #[error("the relay cannot read the journal")]
    Journal(#[source] ReadError),
}

/// Moves records from a journal to a log.
pub struct Relay {
    journal: Journal,
    log: Arc<dyn Log>,
    recorders: String,
    delivered: watch::Sender<Delivered>,
    held: Held,
    id: Option<LogId>,
}

impl Relay {
    /// A relay; `recorders` is the group whose published positions count while the log has one replica only.
    pub fn new(journal: Journal, log: Arc<dyn Log>, recorders: &str) -> Self {
        let delivered = Delivered { next: journal.bounds().start, safety: None };
        Self {
            journal,
            log,
            recorders: recorders.to_owned(),
            delivered: watch::Sender::new(delivered),
            held: Held::default(),
            id: None,
        }
    }

    /// Follows how far the log has what was journaled. The offset goes back when the log is made anew.
    pub fn delivered(&self) -> watch::Receiver<Delivered> {
        self.delivered.subscribe()
    }

    /// Moves records until `cancel` is cancelled. While the log does not answer, it tries again.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), RelayError> {
        let mut appended = self.journal.changed();
        while !cancel.is_cancelled() {
            let next = self.delivered.borrow().next;
            let end = *appended.borrow_and_update();
            if end > next {
                self.forward(next..end, &cancel).await?;
                if !self.held.due(ASK) {
                    continue;
                }
            }
            self.release(&cancel).await;
            let next = self.delivered.borrow().next;
            let news = appended.wait_for(|end| *end > next);
            tokio::select! {
                _ = news => {}
                () = tokio::time::sleep(ASK), if !self.held.is_empty() => {}
                () = cancel.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Appends the next batch to the log.
    async fn forward(&mut self, range: Range<Offset>, cancel: &CancellationToken) -> Result<(), RelayError> {
        let entries = match self.journal.read(range.start, BATCH).await {
            Ok(entries) => entries,
            Err(ReadError::Released { first }) => {
                self.advance(first, None);
                return Ok(());
            }
            Err(e) => return Err(RelayError::Journal(e)),
        };
        let Some(next) = entries.last().map(|e| Offset(e.offset.0 + 1)) else {
            // The whole range is a gap, which the journal tells of in a record of its own.
            self.advance(range.end, None);
            return Ok(());
        };
        let records = entries.into_iter().map(record).collect::<Result<Arc<[_]>, _>>()?;
        let append = || {
            let (log, records) = (self.log.clone(), records.clone());
            async move { log.append(&records).await }
        };
        // What the log refuses today an operator can mend: the records stay in the journal and are tried again.
        let Ok(safety) = retry("the relay's log", BACKOFF, cancel, |_| true, append).await else {
            return Ok(());
        };
        debug!(records = records.len(), next = next.0, ?safety, "moved to the log");
        metrics::relayed(records.len());
        self.advance(next, Some(safety));
        Ok(())
    }

    fn advance(&mut self, next: Offset, safety: Option<Safety>) {
        self.delivered.send_modify(|d| {
            d.next = next;
            d.safety = safety.or(d.safety);
        });
        match safety {
            Some(Safety::OneReplica) => self.held.appended(next),
            _ if self.held.is_empty() => self.held.safe(next),
            _ => self.held.appended(next),
        }
    }

    /// Lets the journal forget what is safe.
    async fn release(&mut self, cancel: &CancellationToken) {
        if !self.held.is_empty() {
            let (log, group) = (self.log.clone(), self.recorders.clone());
            let ask = async || {
                Ok::<_, LogError>((log.id().await?, log.bounds().await?, log.published(&group).await?))
            };
            let asked = retry("the relay's log", BACKOFF, cancel, |_| true, ask).await;
            let (id, bounds, published) = match asked {
                Ok(answer) => answer,
                Err(Stopped::Cancelled | Stopped::Permanent(_)) => return,
            };
            if self.id.replace(id.clone()).is_some_and(|former| former != id) {
                return self.begin_again(&id);
            }
            self.held.seen(bounds.iter().map(|(p, (_, end))| (*p, *end)).collect(), &published);
        }
        if let Some(to) = self.held.take_released() {
            let journal = self.journal.clone();
            // Removing files has nothing to answer; what fails is logged and tried again at the next release.
            let _ = tokio::task::spawn_blocking(move || journal.release(to)).await;
        }
    }

    /// The log was made anew: what the journal still has is appended once more.
    fn begin_again(&mut self, id: &LogId) {
        let start = self.journal.bounds().start;
        warn!(log = %id, from = start.0, "the log was made anew: what the journal still has is appended again");
        self.held = Held::default();
        self.delivered.send_replace(Delivered { next: start, safety: None });
    }
}

fn record(entry: Entry) -> Result<Record, RelayError> {
    let Entry { offset, record } = entry;
    record.map_err(|Poison { reason, .. }| RelayError::Poison { offset, reason })
}

#[cfg(test)]
mod tests;
