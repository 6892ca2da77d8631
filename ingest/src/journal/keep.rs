//! Who still wants what the journal may forget.
//!
//! A keeper never takes room from anybody: what stays for keepers only counts as free, and goes as soon as a record
//! or the disk needs its place.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use tracing::warn;

use super::{Journal, Shared, catalog::Catalog, catalog::Segment, segment};
use crate::log::Offset;

/// Wants what it has not passed yet to stay after it was released. Dropping it lets go.
pub struct Keeper {
    shared: Arc<Shared>,
    number: u64,
}

/// What may be forgotten, and who wants it all the same.
#[derive(Default)]
pub(super) struct Keep {
    /// Everything before it was released.
    released: Offset,
    last: u64,
    keepers: Vec<Wanted>,
}

/// What one keeper wants.
struct Wanted {
    number: u64,
    from: Offset,
    /// Bytes that the journal may hold for it.
    within: u64,
}

impl Journal {
    /// Keeps what stands at and after `from` when it is released, for as long as the journal holds at most `within`
    /// bytes. Reading what went all the same fails with [`ReadError::Released`](super::ReadError::Released).
    pub fn keeper(&self, from: Offset, within: u64) -> Keeper {
        let shared = self.0.shared.clone();
        let number = shared.catalog().keep.add(from, within);
        Keeper { shared, number }
    }
}

impl Keeper {
    /// Wants nothing before `to` any more.
    ///
    /// Removes files: call it where blocking is allowed.
    pub fn passed(&self, to: Offset) {
        let wanted = |w: &&mut Wanted| w.number == self.number;
        if let Some(own) = self.shared.catalog().keep.keepers.iter_mut().find(wanted) {
            own.from = to;
        }
        self.shared.remove_while(Catalog::forgettable);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.catalog().keep.keepers.retain(|w| w.number != self.number);
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Keep {
    fn add(&mut self, from: Offset, within: u64) -> u64 {
        self.last += 1;
        self.keepers.push(Wanted { number: self.last, from, within });
        self.last
    }

    fn release(&mut self, to: Offset) {
        self.released = to.max(self.released);
    }
}

impl Catalog {
    /// The oldest segment when it was released.
    fn released(&self) -> Option<&Segment> {
        self.before(self.keep.released)
    }

    /// The same when no keeper wants it, or one wants more than it may.
    fn forgettable(&self) -> Option<&Segment> {
        let end = self.segments.get(1)?.first;
        let bytes = self.bytes();
        self.released().filter(|_| self.keep.keepers.iter().all(|w| w.from >= end || bytes > w.within))
    }

    /// Bytes of what was not released yet: no keeper's wish counts.
    pub(super) fn needed_bytes(&self) -> u64 {
        let released = self.segments.iter().skip(1).take_while(|s| s.first <= self.keep.released).count();
        self.segments.iter().skip(released).map(|s| s.bytes).sum()
    }
}

impl Shared {
    /// Lets everything before `to` go, but for what is pinned.
    pub(super) fn release(&self, to: Offset) {
        let to = self.pins.first().map_or(to, |pinned| pinned.min(to));
        self.catalog().keep.release(to);
        self.remove_while(Catalog::forgettable);
    }

    /// Makes `bytes` fit into what the journal may hold, as far as only keepers are in the way.
    pub(super) fn make_room(&self, bytes: u64, max_bytes: u64) {
        self.remove_while(|catalog| catalog.released().filter(|_| catalog.bytes() + bytes > max_bytes));
    }

    /// Removes everything that only keepers want; whether there was something.
    pub(super) fn forget_kept(&self) -> bool {
        let first = self.catalog().first();
        self.remove_while(Catalog::released);
        self.catalog().first() > first
    }

    fn remove_while(&self, oldest: impl Fn(&Catalog) -> Option<&Segment>) {
        let next = || {
            let catalog = self.catalog();
            let is_pinned = |end: Offset| self.pins.first().is_some_and(|pinned| pinned < end);
            let oldest =
                oldest(&catalog).filter(|_| catalog.segments.get(1).is_some_and(|s| !is_pinned(s.first)));
            oldest.map(|s| segment::name(s.first))
        };
        if next().is_none() {
            return;
        }
        let Some(storage) = self.storage.upgrade() else { return };
        let removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(file) = next() {
            // Durable one by one, so that after a crash no hole is found between what is left.
            if let Err(e) = storage.remove(&file).and_then(|()| storage.sync()) {
                warn!(error = %e, file, "a released journal segment cannot be removed");
                return;
            }
            self.catalog().segments.pop_front();
        }
        drop(removing);
        crate::metrics::journal_bytes(self.catalog().bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{
        JournalOptions, ReadError, State,
        tests::{drafts, options},
    };
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    /// A journal of 8 MiB with segments of one.
    fn open(dir: &Path) -> Journal {
        Journal::open(dir, JournalOptions { max_bytes: 8 * MEBIBYTE, ..options() }).unwrap().0
    }

    async fn append(journal: &Journal, mebibytes: u64) {
        for _ in 0..mebibytes * 10 {
            journal.append(drafts(["x".repeat(100_000)])).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_keeper_wants_stays_until_it_has_passed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let keeper = journal.keeper(Offset(0), 8 * MEBIBYTE);
        append(&journal, 4).await;
        let end = journal.bounds().end;
        journal.release(end);
        assert_eq!(journal.bounds().start, Offset(0));
        assert!(!journal.read(Offset(0), 1).await.unwrap().is_empty());
        keeper.passed(Offset(20));
        let first = journal.bounds().start;
        assert!(Offset(0) < first && first <= Offset(20), "{first:?}");
        keeper.passed(end);
        let last = journal.bounds().start;
        assert!(last > Offset(20), "{last:?}");
    }

    #[tokio::test]
    async fn what_nobody_released_stays_though_keepers_have_passed() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let keeper = journal.keeper(Offset(0), 8 * MEBIBYTE);
        append(&journal, 4).await;
        keeper.passed(journal.bounds().end);
        assert_eq!(journal.bounds().start, Offset(0));
    }

    #[tokio::test]
    async fn a_dropped_keeper_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let keeper = journal.keeper(Offset(0), 8 * MEBIBYTE);
        append(&journal, 3).await;
        let end = journal.bounds().end;
        journal.release(end);
        assert_eq!(journal.stats().first, Offset(0));
        drop(keeper);
        journal.release(end);
        assert_eq!(journal.stats().segments, 1);
    }

    #[tokio::test]
    async fn past_its_bound_a_keeper_loses_the_oldest_and_reading_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let _keeper = journal.keeper(Offset(0), 3 * MEBIBYTE);
        for _ in 0..6 {
            append(&journal, 1).await;
            journal.release(journal.bounds().end);
        }
        let stats = journal.stats();
        assert!((2 * MEBIBYTE..=3 * MEBIBYTE).contains(&stats.bytes), "{stats:?}");
        let first = journal.bounds().start;
        let read = journal.read(Offset(0), 1).await;
        assert!(matches!(read, Err(ReadError::Released { first: told }) if told == first), "{read:?}");
    }

    #[tokio::test]
    async fn a_journal_is_never_full_because_of_a_keeper() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        let _keeper = journal.keeper(Offset(0), u64::MAX);
        append(&journal, 6).await;
        journal.release(journal.bounds().end);
        assert_eq!(journal.bounds().start, Offset(0));
        let room = journal.hold(1, 5 << 20).unwrap();
        append(&journal, 2).await;
        drop(room);
        append(&journal, 4).await;
        let stats = journal.stats();
        assert_eq!(stats.state, State::Writable);
        assert!(stats.bytes <= 8 * MEBIBYTE && stats.first > Offset(0), "{stats:?}");
    }
}
