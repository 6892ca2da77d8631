//! The batch that is being filled.

use std::time::Duration;

use tokio::time::Instant;

use super::RecorderOptions;
use crate::{
    ledger::{Batch, Gap},
    log::{Offset, Partition},
    record::Record,
};

/// Records and moves that follow each other; what does not follow is not taken.
#[derive(Debug)]
pub(super) struct Pending {
    batch: Batch,
    bytes: usize,
    since: Option<Instant>,
    max_records: usize,
    max_bytes: usize,
    linger: Duration,
}

impl Pending {
    pub(super) fn new(options: &RecorderOptions) -> Self {
        Self {
            batch: Batch::default(),
            bytes: 0,
            since: None,
            max_records: options.max_records.max(1),
            max_bytes: options.max_bytes,
            linger: options.linger,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// How many more records fit.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= self.max_bytes {
            0
        } else {
            self.max_records.saturating_sub(self.batch.records.len())
        }
    }

    /// How long to wait for more; nothing when it is time to apply.
    pub(super) fn wait(&self) -> Duration {
        self.since.map_or(self.linger, |since| self.linger.saturating_sub(since.elapsed()))
    }

    pub(super) fn is_due(&self) -> bool {
        !self.is_empty() && (self.room() == 0 || self.wait().is_zero())
    }

    pub(super) fn add_record(&mut self, record: Record) {
        self.bytes += record.event.len();
        self.batch.records.push(record);
    }

    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.touch();
        self.batch.gaps.push(gap);
    }

    /// Notes that the batch takes the partition from `from` to `to`.
    pub(super) fn add_move(&mut self, partition: Partition, from: Offset, to: Offset) {
        self.touch();
        self.batch.moves.entry(partition).or_insert((from, to)).1 = to;
    }

    fn touch(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn take(&mut self) -> Batch {
        self.bytes = 0;
        self.since = None;
        std::mem::take(&mut self.batch)
    }
}
