//! The metrics of this crate: every one declared once.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{lag::Lag, ledger::Applied};

const RECORDED: &str = "muniment_recorded_records_total";
const DUPLICATES: &str = "muniment_duplicate_records_total";
const BATCH: &str = "muniment_recorder_batch_seconds";
const RECORDER_LAG: &str = "muniment_recorder_lag_records";
const RECORDER_LAG_SECONDS: &str = "muniment_recorder_lag_seconds";
const FENCED: &str = "muniment_recorder_fenced_total";
const SET_ASIDE: &str = "muniment_recorder_set_aside_total";
const GAPS: &str = "muniment_recorder_gaps_total";
const JOURNALED: &str = "muniment_journaled_records_total";
const JOURNALED_BYTES: &str = "muniment_journaled_bytes_total";
const SYNC: &str = "muniment_journal_sync_seconds";
const BLOCK: &str = "muniment_journal_block_records";
const LOST: &str = "muniment_journal_lost_records_total";
const HELD: &str = "muniment_journal_bytes";
const DELIVERED: &str = "muniment_delivered_records_total";
const RELAY_LAG: &str = "muniment_relay_lag_records";
const RELAY_LAG_SECONDS: &str = "muniment_relay_lag_seconds";
const OUTPUT_EVENTS: &str = "muniment_output_events_total";
const OUTPUT_FAILURES: &str = "muniment_output_failures_total";
const OUTPUT_REFUSED: &str = "muniment_output_refused_events_total";
const OUTPUT_GAPS: &str = "muniment_output_gaps_total";
const OUTPUT_LAG: &str = "muniment_output_lag_records";
const OUTPUT_LAG_SECONDS: &str = "muniment_output_lag_seconds";

/// Says what the metrics mean, to whoever exports them.
pub fn describe() {
    describe_counter!(RECORDED, Unit::Count, "Records that are new in the ledger");
    describe_counter!(DUPLICATES, Unit::Count, "Records that the ledger had already");
    describe_histogram!(BATCH, Unit::Seconds, "Time of the transaction of a batch in the ledger");
    describe_gauge!(RECORDER_LAG, Unit::Count, "Entries of the log that are not in the ledger");
    describe_gauge!(
        RECORDER_LAG_SECONDS,
        Unit::Seconds,
        "How long the oldest entry of the log that is not in the ledger has been there"
    );
    describe_counter!(
        FENCED,
        Unit::Count,
        "Batches that were not written because another recorder owns the partition"
    );
    describe_counter!(SET_ASIDE, Unit::Count, "Entries of the log that are no records and are kept aside");
    describe_counter!(GAPS, Unit::Count, "Ranges of the log that will not come");
    describe_counter!(JOURNALED, Unit::Count, "Records that the journal made durable");
    describe_counter!(JOURNALED_BYTES, Unit::Bytes, "Bytes of the records that the journal made durable");
    describe_histogram!(SYNC, Unit::Seconds, "Time of the fdatasync of a block of the journal");
    describe_histogram!(BLOCK, Unit::Count, "Records of a block of the journal: how many share a sync");
    describe_counter!(
        LOST,
        Unit::Count,
        "Records that could not be written and whose sender did not wait for it: --audit-mode batch, or a sender that went"
    );
    describe_gauge!(HELD, Unit::Bytes, "Bytes of the records that the journal holds");
    describe_counter!(DELIVERED, Unit::Count, "Records that the relay moved to the log");
    describe_gauge!(RELAY_LAG, Unit::Count, "Records of the journal that are not in the log");
    describe_gauge!(
        RELAY_LAG_SECONDS,
        Unit::Seconds,
        "How long the oldest record of the journal that is not in the log has been there"
    );
    describe_counter!(OUTPUT_EVENTS, Unit::Count, "Events that an output has, by output");
    describe_counter!(OUTPUT_FAILURES, Unit::Count, "Tries that an output did not take, by output");
    describe_counter!(OUTPUT_REFUSED, Unit::Count, "Events that an output refuses for good, by output");
    describe_counter!(
        OUTPUT_GAPS,
        Unit::Count,
        "Ranges of the journal that an output does not get, by output"
    );
    describe_gauge!(
        OUTPUT_LAG,
        Unit::Count,
        "Records of the journal that an output has not passed, by output"
    );
    describe_gauge!(
        OUTPUT_LAG_SECONDS,
        Unit::Seconds,
        "How long the oldest record of the journal that an output has not passed has been there, by output"
    );
}

/// A batch is in the ledger.
pub(crate) fn applied(applied: Applied, took: Duration) {
    counter!(RECORDED).increment(applied.inserted);
    counter!(DUPLICATES).increment(applied.duplicates);
    histogram!(BATCH).record(took);
}

/// How far the ledger is behind the log.
pub(crate) fn recorder_lag(lag: Lag) {
    gauge!(RECORDER_LAG).set(lag.records as f64);
    gauge!(RECORDER_LAG_SECONDS).set(lag.behind.as_secs_f64());
}

/// Another recorder owns a partition that this one took for its own.
pub(crate) fn fenced() {
    counter!(FENCED).increment(1);
}

/// An entry of the log was no record and is kept aside.
pub(crate) fn set_aside() {
    counter!(SET_ASIDE).increment(1);
}

/// A range of the log will not come.
pub(crate) fn gap() {
    counter!(GAPS).increment(1);
}

/// The journal synced a block.
pub(crate) fn journal_synced(bytes: u64, records: u64, took: Duration) {
    counter!(JOURNALED).increment(records);
    counter!(JOURNALED_BYTES).increment(bytes);
    histogram!(SYNC).record(took);
    histogram!(BLOCK).record(records as f64);
}

/// Records could not be written, and nobody waits to be told.
pub(crate) fn journal_lost(records: u64) {
    counter!(LOST).increment(records);
}

/// What the journal holds. Whoever calls has the catalog locked, so that the latest figure stands.
pub(crate) fn journal_bytes(bytes: u64) {
    gauge!(HELD).set(bytes as f64);
}

/// The relay moved records to the log.
pub(crate) fn relayed(records: usize) {
    counter!(DELIVERED).increment(records as u64);
}

/// How far the log is behind the journal.
pub(crate) fn relay_lag(lag: Lag) {
    gauge!(RELAY_LAG).set(lag.records as f64);
    gauge!(RELAY_LAG_SECONDS).set(lag.behind.as_secs_f64());
}

/// An output has these events.
pub(crate) fn output_events(output: &'static str, events: usize) {
    counter!(OUTPUT_EVENTS, "output" => output).increment(events as u64);
}

/// An output did not take what it was given.
pub(crate) fn output_failed(output: &'static str) {
    counter!(OUTPUT_FAILURES, "output" => output).increment(1);
}

/// An output refuses these events for good.
pub(crate) fn output_refused(output: &'static str, events: usize) {
    counter!(OUTPUT_REFUSED, "output" => output).increment(events as u64);
}

/// An output does not get a range of the journal.
pub(crate) fn output_gap(output: &'static str) {
    counter!(OUTPUT_GAPS, "output" => output).increment(1);
}

/// How far an output is behind the journal.
pub(crate) fn output_lag(output: &'static str, lag: Lag) {
    gauge!(OUTPUT_LAG, "output" => output).set(lag.records as f64);
    gauge!(OUTPUT_LAG_SECONDS, "output" => output).set(lag.behind.as_secs_f64());
}
