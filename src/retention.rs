//! Removes the days that are older than is kept, from the ledger and from the index.

use std::{sync::Arc, time::Duration};

use api::{bodies::DayKeys, errors::chain, later::Later};
use index::Index;
use ingest::{
    journal::Journal,
    ledger::Ledger,
    pipeline::Fact,
    time::{Clock, Day},
};
use tokio_util::sync::CancellationToken;

use crate::chronicle;

/// How often it is looked for days that ended. Looking costs next to nothing.
const EVERY: Duration = Duration::from_secs(600);

/// What is removed from, and when.
#[derive(Debug)]
pub(crate) struct Retention {
    /// Days that are kept besides today's.
    pub(crate) days: u32,
    /// What the day is.
    pub(crate) clock: Clock,
    /// The ledger, where this process runs its recorder.
    pub(crate) ledger: Option<Later<Arc<dyn Ledger>>>,
    /// The index, where this process has one.
    pub(crate) index: Option<Index>,
    /// Where the removal is recorded.
    pub(crate) journal: Journal,
    /// The keys of sealed bodies, which go with their days.
    pub(crate) keys: DayKeys,
}

impl Retention {
    /// Removes what is due, again and again until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if let Some(ledger) = &self.ledger {
            // A database that connects late has its turn at once; one that is away for long does not hold up the index.
            let _ = tokio::time::timeout(EVERY, stop.run_until_cancelled(ledger.wait())).await;
        }
        while !stop.is_cancelled() {
            self.remove(self.clock.now().day().plus(-(self.days as i32)), &stop).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn remove(&self, first: Day, stop: &CancellationToken) {
        let mut removed = Vec::new();
        if let Some(ledger) = self.ledger.as_ref().and_then(Later::get) {
            match ledger.expire(first).await {
                Ok(days) => removed = days,
                Err(error) => tracing::warn!(error = chain(&error), "old days stay in the ledger for now"),
            }
            if let Err(error) = self.keys.expire(first).await {
                tracing::warn!(error = chain(&error), "keys of old days stay in the ledger for now");
            }
        }
        if let Some(index) = self.index.clone() {
            match tokio::task::spawn_blocking(move || index.expire(first)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = chain(&error), "old days stay in the index for now"),
                Err(error) => tracing::warn!(error = chain(&error), "old days stay in the index for now"),
            }
        }
        // Last, as it waits while the journal is full.
        if !removed.is_empty() {
            let fact = Fact::Retention { days: removed.iter().map(ToString::to_string).collect() };
            chronicle::record(&self.journal, &self.clock, &fact, stop).await;
        }
    }
}
