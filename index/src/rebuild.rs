//! Makes the index anew from the ledger while queries go on, and puts it in the place of the old one.
//!
//! Completeness: from some position of the log on, everything that the indexer adds goes to both generations (or, without an
//! indexer, the new one will be fed from the ledger's own position on). The scan begins when the ledger has
//! everything before that position. So every record is in the scan, or behind the position, or both; and adding
//! one twice leaves one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ingest::{
    ledger::Ledger,
    log::{LogId, Positions},
    record::RecordId,
    time::Day,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Index, IndexError, gaps::lost_ranges, generation::Generation, standing::Standing, writer::Writer,
};

/// Records of one read from the ledger: some megabytes.
pub(crate) const PAGE: usize = 2_000;

/// Bytes of events between two commits of the new generation.
pub(crate) const MAX_UNCOMMITTED_BYTES: usize = 32 * 1024 * 1024;

/// How long the indexer may take to commit, and the ledger to reach the indexer's position. Both take a second or
/// two when they work at all.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(60);

/// Between two looks at whether they have.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records that were added.
    pub done: u64,
    /// Records that the ledger held at the beginning.
    pub total: u64,
    /// The day that is being read.
    pub day: Day,
}

impl Index {
    /// Makes the index anew from `ledger` and swaps. Queries use the old one until then. Returns how many records
    /// were read.
    ///
    /// # Errors
    /// When the ledger or the disk fails or `cancel` is cancelled; then the index is as it was.
    pub async fn rebuild(
        &self,
        ledger: &dyn Ledger,
        cancel: &CancellationToken,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<u64, IndexError> {
        self.clone().blocking(Self::begin_rebuild).await?;
        let rebuilt = self.fill(ledger, cancel, progress).await;
        self.clone().blocking(Self::end_rebuild).await?;
        rebuilt
    }

    /// Makes an empty generation that waits to be attached.
    fn begin_rebuild(&self) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        if writing.next.is_some() || writing.waiting.is_some() {
            return Err(IndexError::Rebuilding);
        }
        self.0.begin(&mut writing, Arc::new(Generation::create(self.dir())?))?;
        // Before an indexer has said where it begins there is no position that the new one could have.
        let is_settled = |current: &Writer| {
            current.uncommitted_bytes() == 0 && (!self.is_fed() || current.standing().log.is_some())
        };
        if writing.current.as_ref().is_none_or(is_settled) {
            writing.attach();
        }
        Ok(())
    }

    /// Drops what is left of a rebuild that did not come to its end.
    fn end_rebuild(&self) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        writing.abandon();
        self.0.share_out(&mut writing)
    }

    async fn fill(
        &self,
        ledger: &dyn Ledger,
        cancel: &CancellationToken,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<u64, IndexError> {
        let start = self.start_of_rebuild(ledger, cancel).await?;
        let (gaps, _) = lost_ranges(ledger).await?;
        let days = ledger.days().await?;
        let total = days.iter().map(|(_, count)| count).sum();
        let mut done = 0;
        if let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) {
            let range = *first..last.plus(1);
            let mut after: Option<RecordId> = None;
            loop {
                if cancel.is_cancelled() {
                    return Err(IndexError::Cancelled);
                }
                let page = ledger.scan(range.clone(), after, PAGE).await?;
                let Some(last) = page.last().map(|record| record.envelope.id) else { break };
                after = Some(last);
                done += page.len() as u64;
                self.prepare(&page).await?;
                self.clone().blocking(move |index| index.add_to_next(&page)).await?;
                progress(Progress { done, total, day: last.day() });
            }
        }
        self.clone().blocking(move |index| index.finish_rebuild(start.as_ref(), gaps)).await?;
        Ok(done)
    }

    fn add_to_next(&self, page: &[ingest::record::Record]) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let readable = self.0.readable(page);
        let next = writing.next.as_mut().ok_or(IndexError::RebuildFailed)?;
        next.add(readable.as_deref().unwrap_or(page))?;
        if next.uncommitted_bytes() >= MAX_UNCOMMITTED_BYTES {
            let standing = next.standing().clone();
            next.commit(&standing)?;
        }
        Ok(())
    }

    fn finish_rebuild(&self, start: Option<&Standing>, gaps: u64) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let next = writing.next.as_mut().ok_or(IndexError::RebuildFailed)?;
        // With an indexer the new generation has had every position of the old one since it was attached.
        let standing = start.unwrap_or(next.standing()).clone();
        next.commit(&standing)?;
        next.note_gaps(gaps, None)?;
        self.swap(&mut writing)
    }

    /// Waits until everything that the scan will not see comes by the indexer. Without an indexer: where one will
    /// have to begin.
    async fn start_of_rebuild(
        &self,
        ledger: &dyn Ledger,
        cancel: &CancellationToken,
    ) -> Result<Option<Standing>, IndexError> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            if !self.is_fed() {
                let attached = self.clone().blocking(|index| {
                    index.0.writing().attach();
                    Ok(())
                });
                attached.await?;
                let Some(log) = ledger.current_log().await? else { return Ok(Some(Standing::default())) };
                let positions = ledger.positions(&log).await?;
                return Ok(Some(Standing::at(log, positions)));
            }
            let attached_at = self.0.writing().next.as_ref().map(|next| next.standing().clone());
            let is_complete = match attached_at {
                Some(Standing { log: Some(log), positions, .. }) => covers(ledger, &log, &positions).await?,
                // The indexer has committed nothing yet: whether the log has lost its beginning is not known.
                Some(Standing { log: None, .. }) | None => false,
            };
            if is_complete {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                return Err(IndexError::LedgerBehind(CATCH_UP.as_secs()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = cancel.cancelled() => return Err(IndexError::Cancelled),
            }
        }
    }
}

/// Whether the ledger has everything before these positions, and has done with any log before this one.
pub(crate) async fn covers(
    ledger: &dyn Ledger,
    log: &LogId,
    positions: &Positions,
) -> Result<bool, IndexError> {
    match ledger.current_log().await? {
        None => return Ok(positions.values().all(|offset| offset.0 == 0)),
        Some(current) if current != *log => return Ok(false),
        Some(_) => {}
    }
    let has = ledger.positions(log).await?;
    Ok(positions.iter().all(|(partition, offset)| has.get(partition).copied().unwrap_or_default() >= *offset))
}
