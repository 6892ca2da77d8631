//! The metrics of this crate.

use std::time::Duration;

/// Documents that were added to the index.
const ADDED: &str = "muniment_index_documents_total";
/// Values that their column did not take.
const MISFITS: &str = "muniment_index_misfits_total";
/// How long commits took.
const COMMIT: &str = "muniment_index_commit_seconds";
/// Ranges of the log that were gone before they were indexed.
const LOST: &str = "muniment_index_lost_ranges_total";
/// How long queries took.
const QUERY: &str = "muniment_query_seconds";
/// Queries that gave a part of their result.
const PARTIAL: &str = "muniment_query_partial_total";

/// Says what the metrics mean, to whoever exports them.
pub fn describe() {
    metrics::describe_counter!(ADDED, "Documents that were added to the index");
    metrics::describe_counter!(
        MISFITS,
        "Values of another type than the column that they belong to, by member of the event"
    );
    metrics::describe_histogram!(COMMIT, metrics::Unit::Seconds, "How long commits of the index took");
    metrics::describe_counter!(LOST, "Ranges of the log that were gone before they were indexed");
    metrics::describe_histogram!(QUERY, metrics::Unit::Seconds, "How long queries took, by kind");
    metrics::describe_counter!(PARTIAL, "Queries that gave a part of their result, by reason");
}

pub(crate) fn added(count: usize) {
    metrics::counter!(ADDED).increment(count as u64);
}

pub(crate) fn misfit(member: &'static str) {
    metrics::counter!(MISFITS, "member" => member).increment(1);
}

pub(crate) fn committed(took: Duration) {
    metrics::histogram!(COMMIT).record(took);
}

pub(crate) fn lost() {
    metrics::counter!(LOST).increment(1);
}

pub(crate) fn queried(kind: &'static str, took: Duration) {
    metrics::histogram!(QUERY, "kind" => kind).record(took);
}

pub(crate) fn partial(reason: &'static str) {
    metrics::counter!(PARTIAL, "reason" => reason).increment(1);
}
