//! The relay: it moves journaled records to the log, in order, and lets the journal forget them when they are safe.
//!
//! At a start it begins where the journal begins, so what was appended but not yet released is appended again:
//! the ledger removes the duplicates. With a log that keeps one replica only, the journal keeps a record until the
//! recorders have published a position behind it.

mod held;

use std::{convert::Infallible, ops::Range, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::held::Held;
use crate::{
    failing::{Failing, Tries},
    journal::{Entry, Journal, ReadError},
    lag,
    log::{Log, LogError, LogId, Offset, Poison, Positions, Safety},
    metrics,
    record::Record,
    retry::{Backoff, retry},
};

/// Records that are appended together: enough that the log's round trip is a small part of the cost.
const BATCH: usize = 1000;

/// How often the log is looked at while the journal keeps records that it may forget after a look.
const LOOK: Duration = Duration::from_secs(1);

/// How often the log is looked at otherwise: one that was made anew is to be noticed also while nothing happens.
const IDLE_LOOK: Duration = Duration::from_secs(10);

/// Waits between tries while the log does not answer. It is tried for as long as it takes: the journal holds what
/// comes, and refuses when it is full.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How long the rest of the journal may take at a stop. What is not moved then is moved at the next start.
const DRAIN: Duration = Duration::from_secs(10);

/// How far the log has what was journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Everything before this offset of the journal is in the log.
    pub next: Offset,
    /// How safe the latest of it is there; nothing before the first append.
    pub safety: Option<Safety>,
}

impl Delivered {
    fn nothing_of(journal: &Journal) -> Self {
        Self { next: journal.bounds().start, safety: None }
    }
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

/// Whether an append that fails is tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Endless,
    None,
}

/// Measures how far a log that has not answered yet is behind the journal, for as long as this is polled.
pub async fn measure_lag(journal: Journal) -> Infallible {
    let nothing = watch::Sender::new(Delivered::nothing_of(&journal));
    lag_of(journal, nothing.subscribe()).await
}

async fn lag_of(journal: Journal, delivered: watch::Receiver<Delivered>) -> Infallible {
    lag::of_journal(journal, || delivered.borrow().next, metrics::relay_lag).await
}

/// Moves records from a journal to a log.
pub struct Relay {
    journal: Journal,
    log: Arc<dyn Log>,
    recorders: String,
    delivered: watch::Sender<Delivered>,
    held: Held,
    id: Option<LogId>,
    tries: Tries,
    looked: Option<Instant>,
    /// [`LOOK`] and [`IDLE_LOOK`], but for tests.
    looks: (Duration, Duration),
}

impl Relay {
    /// A relay; `recorders` is the group whose published positions count while the log has one replica only.
    pub fn new(journal: Journal, log: Arc<dyn Log>, recorders: &str) -> Self {
        let delivered = Delivered::nothing_of(&journal);
        Self {
            journal,
            log,
            recorders: recorders.to_owned(),
            delivered: watch::Sender::new(delivered),
            held: Held::default(),
            id: None,
            tries: Tries::new(),
            looked: None,
            looks: (LOOK, IDLE_LOOK),
        }
    }

    /// Follows how far the log has what was journaled. The offset goes back when the log is made anew.
    pub fn delivered(&self) -> watch::Receiver<Delivered> {
        self.delivered.subscribe()
    }

    /// Follows whether the log answers; nothing while it does.
    pub fn failing(&self) -> watch::Receiver<Option<Failing>> {
        self.tries.follow()
    }

    /// Moves records until `cancel` is cancelled, then what was journaled until then when the log takes it at once.
    /// While the log does not answer, it tries again.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn run(self, cancel: CancellationToken) -> Result<(), RelayError> {
        let lag = lag_of(self.journal.clone(), self.delivered());
        tokio::select! {
            ended = self.relay(cancel) => ended,
            never = lag => match never {},
        }
    }

    async fn relay(mut self, cancel: CancellationToken) -> Result<(), RelayError> {
        let mut appended = self.journal.changed();
        while !cancel.is_cancelled() {
            if self.until_look().is_zero() {
                self.look(&cancel).await;
            }
            let next = self.delivered.borrow().next;
            let end = *appended.borrow_and_update();
            if end > next {
                self.forward(next..end, &cancel, Patience::Endless).await?;
                continue;
            }
            let news = appended.wait_for(|end| *end > next);
            tokio::select! {
                _ = news => {}
                () = tokio::time::sleep(self.until_look()) => {}
                () = cancel.cancelled() => {}
            }
        }
        match tokio::time::timeout(DRAIN, self.drain()).await {
            Ok(drained) => drained,
            Err(_) => {
                warn!("the log did not take the rest of the journal in time; it will at the next start");
                Ok(())
            }
        }
    }

    /// Moves what the journal has now, unless the log fails.
    async fn drain(&mut self) -> Result<(), RelayError> {
        let end = self.journal.bounds().end;
        let never = CancellationToken::new();
        while self.tries.follow().borrow().is_none() {
            let next = self.delivered.borrow().next;
            if next >= end {
                break;
            }
            self.forward(next..end, &never, Patience::None).await?;
        }
        Ok(())
    }

    /// How long until the log is to be looked at; at once before the first append.
    fn until_look(&self) -> Duration {
        let every = if self.held.wants_look() { self.looks.0 } else { self.looks.1 };
        self.looked.map_or(Duration::ZERO, |at| every.saturating_sub(at.elapsed()))
    }

    /// Appends the next batch to the log.
    async fn forward(
        &mut self,
        range: Range<Offset>,
        cancel: &CancellationToken,
        patience: Patience,
    ) -> Result<(), RelayError> {
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
            let (log, records, tries) = (self.log.clone(), records.clone(), self.tries.clone());
            async move { tries.note(log.append(&records)).await }
        };
        // What the log refuses today an operator can mend: the records stay in the journal and are tried again.
        let passing = |_: &LogError| patience == Patience::Endless;
        let Ok(safety) = retry("the relay's log", BACKOFF, cancel, passing, append).await else {
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

    /// Makes sure that the log is still the one that was appended to, and lets the journal forget what is safe there.
    async fn look(&mut self, cancel: &CancellationToken) {
        let waits = !self.held.is_empty();
        let ask = || {
            let (log, tries) = (self.log.clone(), self.tries.clone());
            let group = waits.then(|| self.recorders.clone());
            async move { tries.note(ask(&*log, group)).await }
        };
        let Ok((id, positions)) = retry("the relay's log", BACKOFF, cancel, |_| true, ask).await else {
            return;
        };
        self.looked = Some(Instant::now());
        if self.id.replace(id.clone()).is_some_and(|former| former != id) {
            return self.begin_again(&id);
        }
        if let Some((ends, published)) = positions {
            self.held.seen(ends, &published);
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

/// The log's id and, where `recorders` are waited for, where it ends and what they published.
async fn ask(
    log: &dyn Log,
    recorders: Option<String>,
) -> Result<(LogId, Option<(Positions, Positions)>), LogError> {
    let Some(group) = recorders else {
        return Ok((log.id().await?, None));
    };
    // Asked before the ends, which no position of this log can then be behind.
    let published = log.published(&group).await?;
    let ends = log.bounds().await?.into_iter().map(|(p, (_, end))| (p, end)).collect();
    // Asked last: the ends of a log that was made anew in between would let go of what the former one lost.
    Ok((log.id().await?, Some((ends, published))))
}

fn record(entry: Entry) -> Result<Record, RelayError> {
    let Entry { offset, record } = entry;
    record.map_err(|Poison { reason, .. }| RelayError::Poison { offset, reason })
}

#[cfg(test)]
mod tests;
