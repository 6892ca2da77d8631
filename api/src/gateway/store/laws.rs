//! The laws of [`Store`], as tests that every implementation runs.
//!
//! Each law is a function that is given a way to make an empty store; [`tests!`] makes a test of each.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests: a broken law panics")]

mod history;
mod reads;
mod writes;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
pub use history::*;
pub use reads::*;
pub use writes::*;

use super::{Change, Read, Revision, Store, Watch, WatchError, WriteError};

/// How long a law waits for what an idle machine does within a second or two.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Makes one test of each law. `$fresh` is an async function that makes an empty store and what keeps it alive.
#[macro_export]
macro_rules! store_law_tests {
    ($fresh:expr) => {
        $crate::store_law_tests!(@ $fresh;
            what_was_written_is_read
            an_absent_key_cannot_be_updated_or_deleted
            a_conflict_tells_what_is_there
            of_many_writers_that_expect_one_state_one_succeeds
            revisions_grow_with_every_change_of_any_key
            a_value_larger_than_the_engine_takes_changes_nothing
            a_value_lives_its_time_and_is_deleted
            an_update_sets_the_time_to_live_anew
            a_list_has_every_key_of_its_prefix_in_order
            pages_are_one_state_while_others_write
            a_list_at_a_revision_is_what_was_then
            a_list_larger_than_a_message_is_whole
            a_state_that_is_yet_to_come_is_refused
            a_watch_gives_each_change_once_and_in_order_to_each_of_many
            a_watch_resumes_after_every_revision
            a_watch_tells_values_before_and_after
            a_watch_of_a_prefix_sees_no_neighbour
            a_watch_after_a_later_revision_begins_there
            compaction_forgets_what_was_replaced_and_keeps_what_is
            a_watch_that_nobody_reads_misses_nothing_silently
        );
    };
    (@ $fresh:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (store, _alive) = $fresh().await;
                $crate::gateway::store::laws::$law(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub use crate::store_law_tests as tests;

/// Any store.
pub type AnyStore = Arc<dyn Store>;

/// A value that names its content.
pub fn value(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

/// The state that a failed write found.
///
/// # Panics
/// When it did not fail for that reason.
pub fn conflict(outcome: Result<Revision, WriteError>) -> Read {
    match outcome {
        Err(WriteError::Conflict(read)) => read,
        other => panic!("no conflict but {other:?}"),
    }
}

/// The next changes of a watch, at least so many, and nothing but growing revisions and marks.
///
/// # Panics
/// When they do not come, or come out of order.
pub async fn changes(watch: &mut Watch, count: usize) -> Vec<Change> {
    let mut seen: Vec<Change> = Vec::new();
    let mut reached = Revision(0);
    while seen.len() < count {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{} of {count} changes after a minute", seen.len()));
        let batch = next.expect("the watch goes on").unwrap();
        for change in &batch.changes {
            let last = seen.last().map_or(reached, |last: &Change| last.revision.max(reached));
            assert!(change.revision > last || seen.last().is_some_and(|l| l.revision == change.revision));
            assert!(change.revision <= batch.reached, "a batch reaches its own changes");
        }
        assert!(batch.reached >= reached, "marks grow");
        seen.extend(batch.changes);
        reached = batch.reached;
    }
    seen
}

/// How a watch ends.
///
/// # Panics
/// When it does not.
pub async fn end(watch: &mut Watch) -> WatchError {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match watch.next().await.expect("a watch says why it ends") {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await
    .expect("the watch ends")
}
