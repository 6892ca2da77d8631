//! Room that is promised to records before they are known: whoever was let begin can always say how it ended.

use std::fmt;

use super::{AppendError, Journal, Written, cost, pin::Pin, queue::Items};
use crate::{
    record::Draft,
    sealed::{after_sealing, before_sealing},
};

/// Room in the journal for what somebody is about to do: for the record that opens it, and for the one that closes it.
///
/// From the opening record on the journal is not released, until the hold is [finished](Hold::finish): what began and
/// did not end is still there at the next start. Dropping a hold gives its room back; one that was begun and never
/// finished keeps the journal in this boot.
pub struct Hold {
    journal: Journal,
    bytes: u64,
    pin: Option<Pin>,
}

impl Journal {
    /// Promises room for `records` records of `bytes` in all.
    ///
    /// # Errors
    /// [`AppendError::Full`] when there is none.
    pub fn hold(&self, records: u64, bytes: usize) -> Result<Hold, AppendError> {
        let bytes = if self.seal().is_some() { after_sealing(bytes) } else { bytes };
        let bytes = bytes as u64 + records * super::OVERHEAD_BYTES;
        self.0.shared.queue.reserve(bytes, || self.limit())?;
        Ok(Hold { journal: self.clone(), bytes, pin: None })
    }
}

impl Hold {
    /// The largest event that one record may have in the room that is left, before anything of it is sealed.
    pub fn bytes(&self) -> usize {
        let bytes = self.bytes.saturating_sub(super::OVERHEAD_BYTES) as usize;
        if self.journal.seal().is_some() { before_sealing(bytes) } else { bytes }
    }

    /// Whether what the room was promised for has begun.
    pub const fn is_begun(&self) -> bool {
        self.pin.is_some()
    }

    /// Hands over the records that open it: the journal is kept from here on.
    ///
    /// # Errors
    /// As [`Hold::submit`].
    pub async fn begin(&mut self, drafts: Vec<Draft>) -> Result<Written, AppendError> {
        if self.pin.is_none() {
            self.pin = Some(self.journal.pin_end());
        }
        let begun = self.submit(drafts).await;
        if begun.is_err() {
            self.unpin();
        }
        begun
    }

    /// Hands records over in the room that is held. What is larger needs free room, as any other.
    ///
    /// # Errors
    /// As [`Journal::submit`], but [`AppendError::Full`] only for what is larger than what is held.
    pub async fn submit(&mut self, drafts: Vec<Draft>) -> Result<Written, AppendError> {
        let drafts = self.journal.sealed(drafts).await?;
        let bytes = cost(drafts.iter().map(|draft| &draft.event));
        let held = bytes.min(self.bytes);
        let written = self.journal.push(Items::Drafts(drafts), bytes, held).await?;
        self.bytes -= held;
        Ok(written)
    }

    /// What was begun is over, and its closing record is where it should be.
    pub fn finish(mut self) {
        self.unpin();
    }

    fn unpin(&mut self) {
        if let Some(pin) = self.pin.take() {
            pin.release();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.journal.0.shared.queue.unreserve(self.bytes);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, pin, .. } = self;
        f.debug_struct("Hold").field("bytes", bytes).field("pin", pin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use async_trait::async_trait;
    use uuid::Uuid;

    use super::super::{
        JournalOptions,
        tests::{drafts, events, options},
    };
    use super::*;
    use crate::{
        log::Offset,
        sealed::{self, NoKey, Seal, Sealed},
    };

    const ROOM: usize = 100_000;

    /// Makes bodies as large as sealing does when nothing of them can be packed.
    #[derive(Debug, Default)]
    struct Growing(AtomicBool);

    #[async_trait]
    impl Seal for Growing {
        fn is_on(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }

        async fn seal(&self, mut draft: Draft) -> Result<Draft, NoKey> {
            let grown = sealed::replace(&draft.event, |_, body| {
                let data = [body.raw().as_bytes(), &[0; 80]].concat();
                Some(Sealed { key: Uuid::nil(), data: Some(data) }.write())
            });
            if let Some(grown) = grown {
                draft.event = grown.into();
            }
            Ok(draft)
        }
    }

    fn sealing(dir: &std::path::Path, is_on: bool) -> (Journal, Arc<Growing>) {
        let seal = Arc::new(Growing(is_on.into()));
        let options = JournalOptions { max_bytes: 2 << 20, seal: Some(seal.clone()), ..options() };
        (Journal::open(dir, options).unwrap().0, seal)
    }

    /// An event of so many bytes, nearly all of them bodies.
    fn with_bodies(bytes: usize) -> Draft {
        const AROUND: usize = r#"{"requestObject":"","responseObject":""}"#.len();
        let half = (bytes - AROUND) / 2;
        let (first, second) = ("a".repeat(half), "b".repeat(bytes - AROUND - half));
        drafts([format!(r#"{{"requestObject":"{first}","responseObject":"{second}"}}"#)]).remove(0)
    }

    fn small(dir: &std::path::Path) -> Journal {
        Journal::open(dir, JournalOptions { max_bytes: 2 << 20, ..options() }).unwrap().0
    }

    async fn fill(journal: &Journal) {
        while journal.append(drafts(["x".repeat(20_000)])).await.is_ok() {}
    }

    async fn close(mut hold: Hold, last: Draft) -> Result<(), AppendError> {
        hold.submit(vec![last]).await?.durable().await?;
        hold.finish();
        Ok(())
    }

    #[tokio::test]
    async fn a_promise_is_kept_though_the_journal_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let mut hold = journal.hold(2, 2 * ROOM).unwrap();
        hold.begin(drafts(["a".repeat(ROOM)])).await.unwrap().durable().await.unwrap();
        fill(&journal).await;
        assert_eq!(journal.append(drafts(["y".repeat(ROOM)])).await, Err(AppendError::Full));
        close(hold, drafts(["z".repeat(ROOM)]).remove(0)).await.unwrap();
        assert_eq!(events(&journal).await.last().unwrap(), &"z".repeat(ROOM));
    }

    #[tokio::test]
    async fn without_room_nothing_is_promised_and_what_is_given_back_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let all = journal.hold(1, (2 << 20) - 100_000).unwrap();
        assert_eq!(journal.hold(1, ROOM).err(), Some(AppendError::Full));
        assert_eq!(journal.append(drafts(["y".repeat(ROOM)])).await, Err(AppendError::Full));
        drop(all);
        let hold = journal.hold(1, ROOM).unwrap();
        close(hold, drafts(["small"]).remove(0)).await.unwrap();
        journal.append(drafts(["y".repeat(ROOM)])).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_larger_than_its_promise_needs_free_room() {
        let dir = tempfile::tempdir().unwrap();
        let journal = small(dir.path());
        let hold = journal.hold(1, 1_000).unwrap();
        fill(&journal).await;
        let large = drafts(["z".repeat(ROOM)]).remove(0);
        assert_eq!(close(hold, large).await, Err(AppendError::Full));
    }

    #[tokio::test]
    async fn a_promise_is_kept_though_what_closes_it_is_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = sealing(dir.path(), true);
        let mut hold = journal.hold(2, ROOM + 1_000).unwrap();
        let opening = format!(r#"{{"verb":"{}"}}"#, "x".repeat(989));
        hold.begin(drafts([opening])).await.unwrap().durable().await.unwrap();
        while journal.append(vec![with_bodies(1_000)]).await.is_ok() {}
        let room = hold.bytes();
        assert!(room >= ROOM, "{room}");
        close(hold, with_bodies(room)).await.unwrap();
        assert!(events(&journal).await.last().unwrap().len() > room * 5 / 4, "nothing was sealed");
    }

    #[tokio::test]
    async fn what_fits_is_less_when_sealing_begins_after_the_promise() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, seal) = sealing(dir.path(), false);
        let hold = journal.hold(1, ROOM).unwrap();
        while journal.append(vec![with_bodies(1_000)]).await.is_ok() {}
        assert_eq!(hold.bytes(), ROOM);
        seal.0.store(true, Ordering::Relaxed);
        let room = hold.bytes();
        assert!(room < ROOM * 3 / 4 + 1, "{room}");
        close(hold, with_bodies(room)).await.unwrap();
    }

    #[tokio::test]
    async fn what_began_stays_in_the_journal_until_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(dir.path(), JournalOptions { max_bytes: 64 << 20, ..options() }).unwrap().0;
        let mut hold = journal.hold(2, 2 * ROOM).unwrap();
        let opened = hold.begin(drafts(["opening"])).await.unwrap().durable().await.unwrap();
        let mut lost = journal.hold(2, 2 * ROOM).unwrap();
        // Segments are of 4 MiB: all of this is several of them.
        for _ in 0..12 {
            journal.append(drafts(["x".repeat(1 << 20)])).await.unwrap();
        }
        journal.release(journal.bounds().end);
        assert!(journal.bounds().start < opened.next, "{:?}", journal.bounds());
        hold.finish();
        lost.begin(drafts(["opening"])).await.unwrap().durable().await.unwrap();
        journal.release(journal.bounds().end);
        let first = journal.bounds().start;
        assert!(first >= opened.next, "{:?}", journal.bounds());

        drop(lost);
        for _ in 0..12 {
            journal.append(drafts(["x".repeat(1 << 20)])).await.unwrap();
        }
        journal.release(Offset(u64::MAX));
        assert_eq!(journal.bounds().start, first, "what was never finished keeps the journal in this boot");
    }
}
