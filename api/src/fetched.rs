//! The records of hits, from the ledger: waited for where it does not have them yet, told as gone where it never will.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use index::Hit;
use ingest::{
    ledger::Ledger,
    log::{LogId, Positions},
    record::{Record, RecordId},
};

use crate::{errors::ApiError, search::Search};

/// How long one request waits for a record that is indexed and not yet in the ledger. The two are fed from the same
/// log and are rarely further apart.
pub(crate) const PENDING_WAIT: Duration = Duration::from_secs(2);

/// Between two looks whether the ledger has it: the first, after which each is twice as long, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// Bytes of events after which no more hits are dealt with.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Records that are fetched from the ledger at once.
const FETCH: usize = 200;

/// What the ledger gave for hits.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Records, in the order of the hits.
    pub(crate) records: Vec<Record>,
    /// Those that the ledger does not have and will not get: retention removed them, or the log lost them.
    pub(crate) gone: Vec<RecordId>,
    /// How many hits, from the first on, were dealt with.
    pub(crate) done: usize,
    /// The hit behind these, when the ledger does not have it yet.
    pub(crate) pending: Option<RecordId>,
}

/// Where the log ended at some time after records had been found.
///
/// They came from the log, so a ledger that has read up to there and does not have one of them will never have it.
#[derive(Debug)]
pub(crate) struct LogEnd {
    log: LogId,
    ends: Positions,
}

impl LogEnd {
    /// The earlier of two ends. One that was measured later lies before only when the log lost its end.
    fn earlier(mut self, other: Self) -> Self {
        if self.log != other.log {
            return other;
        }
        for (partition, end) in other.ends {
            self.ends.entry(partition).and_modify(|known| *known = end.min(*known)).or_insert(end);
        }
        self
    }

    async fn is_reached(&self, ledger: &dyn Ledger) -> Result<bool, ApiError> {
        if ledger.current_log().await?.as_ref() != Some(&self.log) {
            return Ok(false);
        }
        let reached = ledger.positions(&self.log).await?;
        Ok(self
            .ends
            .iter()
            .all(|(partition, end)| reached.get(partition).copied().unwrap_or_default() >= *end))
    }
}

impl Search {
    /// The records of `hits` up to the first one that the ledger still does not have after `wait`.
    ///
    /// `end` is kept between calls for the same hits, so that they are settled however fast the log grows.
    pub(crate) async fn fetch(
        &self,
        hits: &[Hit],
        end: &mut Option<LogEnd>,
        wait: Duration,
    ) -> Result<Fetched, ApiError> {
        let deadline = Instant::now() + wait;
        let (mut fetched, mut bytes) = (Fetched::default(), 0);
        for part in hits.chunks(FETCH) {
            let ids: Vec<RecordId> = part.iter().map(|hit| hit.id).collect();
            let (records, is_final) = self.settle(&ids, end, deadline).await?;
            let mut records = records.into_iter().peekable();
            for id in ids {
                match records.next_if(|record| record.envelope.id == id) {
                    Some(record) => {
                        bytes += record.event.len();
                        fetched.records.push(record);
                    }
                    None if is_final => fetched.gone.push(id),
                    None => return Ok(Fetched { pending: Some(id), ..fetched }),
                }
                fetched.done += 1;
                if bytes > MAX_BYTES {
                    return Ok(fetched);
                }
            }
        }
        Ok(fetched)
    }

    /// The records of these ids, and whether those that are missing will not come.
    async fn settle(
        &self,
        ids: &[RecordId],
        end: &mut Option<LogEnd>,
        deadline: Instant,
    ) -> Result<(Vec<Record>, bool), ApiError> {
        let ledger = self.ledger()?;
        let mut records = ledger.get(ids).await?;
        if records.len() == ids.len() {
            return Ok((records, true));
        }
        let measured = self.log_end().await;
        *end = match (end.take(), measured) {
            (Some(known), Some(measured)) => Some(known.earlier(measured)),
            (known, measured) => known.or(measured),
        };
        let mut pause = POLL.0;
        loop {
            // Looked at before the records are: what the ledger has by then is among them.
            let is_final = match &*end {
                Some(end) => end.is_reached(&*ledger).await?,
                None => false,
            };
            records = ledger.get(ids).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if is_final || records.len() == ids.len() || left.is_zero() {
                return Ok((records, is_final));
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// Nothing while the log does not answer: then what is missing may still come.
    async fn log_end(&self) -> Option<LogEnd> {
        let log: Arc<_> = self.log()?;
        let measure = async {
            // A log that is replaced between the two is noticed by the ledger's being at another one.
            let id = log.id().await.ok()?;
            let bounds = log.bounds().await.ok()?;
            Some(LogEnd {
                log: id,
                ends: bounds.into_iter().map(|(partition, (_, end))| (partition, end)).collect(),
            })
        };
        tokio::time::timeout(PENDING_WAIT, measure).await.ok()?
    }
}
