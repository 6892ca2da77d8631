//! The metrics of this crate, by name.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::ledger::Applied;

/// A batch is in the ledger.
pub(crate) fn applied(applied: Applied, took: Duration) {
    counter!("muniment_recorded_records_total").increment(applied.inserted);
    counter!("muniment_duplicate_records_total").increment(applied.duplicates);
    histogram!("muniment_recorder_batch_seconds").record(took);
}

/// How far the ledger is behind the log.
pub(crate) fn recorder_lag(records: u64, behind: Duration) {
    gauge!("muniment_recorder_lag_records").set(records as f64);
    gauge!("muniment_recorder_lag_seconds").set(behind.as_secs_f64());
}

/// Another recorder owns a partition that this one took for its own.
pub(crate) fn fenced() {
    counter!("muniment_recorder_fenced_total").increment(1);
}

/// An entry of the log was no record and is kept aside.
pub(crate) fn set_aside() {
    counter!("muniment_recorder_set_aside_total").increment(1);
}

/// A range of the log will not come.
pub(crate) fn gap() {
    counter!("muniment_recorder_gaps_total").increment(1);
}

/// The journal synced a block.
pub(crate) fn journal_synced(bytes: u64, records: u64, took: Duration) {
    counter!("muniment_journaled_records_total").increment(records);
    counter!("muniment_journaled_bytes_total").increment(bytes);
    histogram!("muniment_journal_sync_seconds").record(took);
    histogram!("muniment_journal_block_records").record(records as f64);
}

/// What the journal holds.
pub(crate) fn journal_bytes(bytes: u64) {
    gauge!("muniment_journal_bytes").set(bytes as f64);
}

/// The relay moved records to the log.
pub(crate) fn relayed(records: usize) {
    counter!("muniment_delivered_records_total").increment(records as u64);
}
