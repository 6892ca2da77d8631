//! Room that is promised to a record before it is known: whoever was let begin can always say how it ended.

use std::{fmt, sync::Arc};

use super::{AppendError, Journal, OVERHEAD_BYTES, Receipt, queue::Items, shared::Shared};
use crate::record::Draft;

/// Room in the journal. Dropping it gives the room back.
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Journal {
    /// Promises room for one record of at most `bytes`, which [`Journal::append_reserved`] uses.
    ///
    /// # Errors
    /// [`AppendError::Full`] when there is none.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, AppendError> {
        let bytes = bytes as u64 + OVERHEAD_BYTES;
        let shared = self.0.shared.clone();
        shared.queue.reserve(bytes, || self.limit())?;
        Ok(Reservation { shared, bytes })
    }

    /// Appends one record in the room that was promised to it. One that is larger needs free room as any other.
    ///
    /// # Errors
    /// As [`Journal::append`], but [`AppendError::Full`] only for a record that is larger than what was promised.
    pub async fn append_reserved(&self, draft: Draft, room: Reservation) -> Result<Receipt, AppendError> {
        let bytes = draft.event.len() as u64 + OVERHEAD_BYTES;
        if bytes > room.bytes {
            drop(room);
            return self.append(vec![draft]).await;
        }
        // The promise stands until the record itself is counted.
        let queue = &self.0.shared.queue;
        let answered = queue.push(Items::Drafts(vec![draft]), bytes, || u64::MAX).await?;
        drop(room);
        answered.await.unwrap_or(Err(AppendError::Ended))
    }
}

impl Reservation {
    /// The largest event that it has room for.
    pub fn bytes(&self) -> usize {
        (self.bytes - OVERHEAD_BYTES) as usize
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.queue.unreserve(self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        JournalOptions,
        tests::{drafts, events, options},
    };
    use super::*;

    const ROOM: usize = 100_000;

    fn small(dir: &std::path::Path) -> Journal {
        Journal::open(dir, JournalOptions { max_bytes: 2 << 20, ..options() }).unwrap().0
    }

    async fn fill(journal: &Journal) {
        while journal.append(drafts(["x".repeat(20_000)])).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_promise_is_kept_though_the_journal_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let room = journal.reserve(ROOM).unwrap();
        fill(&journal).await;
        assert_eq!(journal.append(drafts(["y".repeat(ROOM)])).await, Err(AppendError::Full));
        let last = drafts(["z".repeat(ROOM)]).remove(0);
        journal.append_reserved(last, room).await.unwrap();
        assert_eq!(events(&journal).await.last().unwrap(), &"z".repeat(ROOM));
    }

    #[tokio::test]
    async fn without_room_nothing_is_promised_and_what_is_given_back_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let all = journal.reserve((2 << 20) - 100_000).unwrap();
        assert_eq!(journal.reserve(ROOM).err(), Some(AppendError::Full));
        assert_eq!(journal.append(drafts(["y".repeat(ROOM)])).await, Err(AppendError::Full));
        drop(all);
        let room = journal.reserve(ROOM).unwrap();
        journal.append_reserved(drafts(["small"]).remove(0), room).await.unwrap();
        journal.append(drafts(["y".repeat(ROOM)])).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_larger_than_its_promise_needs_free_room() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let room = journal.reserve(1_000).unwrap();
        fill(&journal).await;
        let large = drafts(["z".repeat(ROOM)]).remove(0);
        assert_eq!(journal.append_reserved(large, room).await, Err(AppendError::Full));
    }
}
