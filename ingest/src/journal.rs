//! The journal: where a record becomes durable before anyone is told that it is taken.
//!
//! Appends from any number of tasks wait in a bounded queue for one writer thread, which writes all that wait
//! as one block and syncs once (group commit). Blocks stand in segment files that are reserved ahead; a
//! released segment is removed whole. What a start makes of a folder after a crash is told in `scan`.

mod append;
mod block;
mod catalog;
mod fact;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod full_disk;
mod hold;
mod keep;
mod open;
mod pin;
mod queue;
mod read;
mod scan;
mod segment;
mod shared;
mod stats;
mod storage;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt, io,
    ops::Range,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

pub use self::{
    append::{AppendError, Receipt, Written},
    hold::Hold,
    keep::Keeper,
    open::{DEFAULT_MAX_BYTES, JournalOptions, Lost, OpenError, Opened, Torn},
    pin::Pin,
    read::{Entry, ReadError},
    stats::{State, Stats},
};
use self::{
    queue::Items,
    shared::Shared,
    storage::{Dir, Storage},
    tail::{Tail, WriteError},
    writer::Writer,
};
use crate::{
    log::Offset,
    pipeline::Previous,
    record::{Boot, Draft, MAX_EVENT_BYTES, Record, Seq},
    sealed::{NoKey, Seal, before_sealing},
    time::Clock,
};

/// The largest segment: what is reserved ahead, and about what is released at a time.
const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The smallest segment, below which making files would cost more than writing them.
const MIN_SEGMENT_BYTES: u64 = 1024 * 1024;

/// A full journal has about this many segments, so that releasing one makes room soon.
const SEGMENTS: u64 = 16;

/// About what envelope and framing add to an event, for bounds only.
const OVERHEAD_BYTES: u64 = 512;

/// A durable queue of records with offsets 0, 1, 2 … over all boots. Clones are handles of the same journal.
///
/// When the last handle is dropped, what was queued is still written and the folder is free for another open.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Whoever has this has the folder locked.
    _storage: Arc<dyn Storage>,
    boot: Boot,
    max_bytes: u64,
    seal: Option<Arc<dyn Seal>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal in the folder `dir`, which is made when it is missing, and begins a boot: its first
    /// record names the boot before it. The folder stays locked until the last handle is dropped.
    ///
    /// Reads all files once: call it where blocking is allowed.
    ///
    /// # Errors
    /// See [`OpenError`]. A full disk is none: appends fail with [`AppendError::NoSpace`] until there is room.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Self, Opened), OpenError> {
        let io = |source| OpenError::Io { file: dir.display().to_string(), source };
        let storage =
            Dir::lock(dir).map_err(io)?.ok_or_else(|| OpenError::InUse(dir.display().to_string()))?;
        let segment_bytes = (options.max_bytes / SEGMENTS).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        Self::open_in(Arc::new(storage), options, segment_bytes)
    }

    fn open_in(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
        segment_bytes: u64,
    ) -> Result<(Self, Opened), OpenError> {
        let JournalOptions { max_bytes, source, clock, seal, accept_gap } = options;
        let (catalog, opened) = scan::scan(&*storage, accept_gap)?;
        opened.report();
        let boot = new_boot(&clock, opened.previous);
        let shared = Arc::new(Shared::new(catalog, Arc::downgrade(&storage)));
        let mut writer = Writer {
            shared: shared.clone(),
            tail: Tail::new(storage.clone(), shared.clone(), segment_bytes),
            max_bytes,
            boot,
            last: Seq(0),
            next: opened.next,
            previous: opened.previous,
            lead: fact::of_boot(&opened, &source, &clock),
            source,
            clock,
            buffer: Vec::new(),
        };
        match writer.write_lead() {
            Ok(()) => {}
            Err(WriteError::NoSpace) => {
                shared.set_no_space(true);
                warn!("the journal's disk is full: nothing is taken in until there is room");
            }
            Err(WriteError::Failed(source)) => {
                return Err(OpenError::Io { file: segment::name(opened.next), source });
            }
        }
        let thread = std::thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || writer.run()).map_err(OpenError::Thread)?;
        let writer = Mutex::new(Some(thread));
        let inner = Inner { shared, _storage: storage, boot, max_bytes, seal, writer };
        Ok((Self(Arc::new(inner)), opened))
    }

    /// This start.
    pub fn boot(&self) -> Boot {
        self.0.boot
    }

    /// Numbers the records and returns when they are durable. They get consecutive numbers.
    ///
    /// When the future is dropped, they may be journaled or not.
    ///
    /// # Errors
    /// None of the records is acknowledged. Unless it is [`AppendError::Full`] or [`AppendError::NoKey`], the first of
    /// them may be there all the same, now or at the next start: append them again.
    pub async fn append(&self, drafts: Vec<Draft>) -> Result<Receipt, AppendError> {
        self.submit(drafts).await?.durable().await
    }

    /// Hands records over, which get consecutive numbers behind everything that was handed over before, and returns
    /// as soon as they wait for the writer: they are durable when [`Written::durable`] says so, and with them whatever
    /// was handed over before and is well.
    ///
    /// # Errors
    /// [`AppendError::Full`] when there is no room, [`AppendError::NoKey`] when a body cannot be sealed,
    /// [`AppendError::Ended`] when the boot is over.
    pub async fn submit(&self, drafts: Vec<Draft>) -> Result<Written, AppendError> {
        let drafts = self.sealed(drafts).await?;
        let bytes = cost(drafts.iter().map(|draft| &draft.event));
        self.push(Items::Drafts(drafts), bytes, 0).await
    }

    /// What seals bodies, while it does.
    fn seal(&self) -> Option<&dyn Seal> {
        self.0.seal.as_deref().filter(|seal| seal.is_on())
    }

    async fn sealed(&self, drafts: Vec<Draft>) -> Result<Vec<Draft>, AppendError> {
        let Some(seal) = self.seal() else { return Ok(drafts) };
        let mut sealed = Vec::with_capacity(drafts.len());
        for draft in drafts {
            sealed.push(seal.seal(draft).await.map_err(|NoKey| AppendError::NoKey)?);
        }
        Ok(sealed)
    }

    /// The largest event that is taken: what sealing adds must fit too.
    pub fn max_event_bytes(&self) -> usize {
        if self.seal().is_some() { before_sealing(MAX_EVENT_BYTES) } else { MAX_EVENT_BYTES }
    }

    /// Appends records that were numbered elsewhere and returns when they are durable.
    pub(crate) async fn append_records(&self, records: Vec<Record>) -> Result<Receipt, AppendError> {
        let bytes = cost(records.iter().map(|record| &record.event));
        self.push(Items::Records(records), bytes, 0).await?.durable().await
    }

    /// Bytes that may be added to what is on the disk. What stays for keepers only gives way to them.
    fn limit(&self) -> u64 {
        self.0.max_bytes.saturating_sub(self.0.shared.catalog().needed_bytes())
    }

    /// Queues records of `bytes`, of which `held` were promised to them.
    async fn push(&self, items: Items, bytes: u64, held: u64) -> Result<Written, AppendError> {
        let queue = &self.0.shared.queue;
        // Without a look ahead, what has no room would wait for its turn to be told so.
        if held < bytes && queue.bytes() + bytes - held > self.limit() {
            return Err(AppendError::Full);
        }
        queue.push(items, bytes, held, || self.limit()).await.map(Written)
    }

    /// Whether the last write found the disk full: what is handed over now is not likely to be written.
    pub fn has_no_space(&self) -> bool {
        self.0.shared.no_space()
    }

    /// At most `max` records at and after `from`, at least one when one is there; empty at the end.
    ///
    /// Where records are lost, offsets skip.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, from: Offset, max: usize) -> Result<Vec<Entry>, ReadError> {
        let shared = self.0.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.read(from, max));
        read.await.map_err(|e| ReadError::Io(io::Error::other(e)))?
    }

    /// Follows the offset after the last durable record.
    pub fn changed(&self) -> watch::Receiver<Offset> {
        self.0.shared.next.subscribe()
    }

    /// The first offset that is there, and the one after the last durable record.
    pub fn bounds(&self) -> Range<Offset> {
        let catalog = self.0.shared.catalog();
        catalog.first()..catalog.next
    }

    /// Allows everything before `to` to be forgotten: whole segments are removed, oldest first. What is pinned stays,
    /// and everything after it; so does what a [`Keeper`] still wants, as long as nobody needs its place.
    ///
    /// Removes files: call it where blocking is allowed. What cannot be removed is kept and tried again at the next call.
    pub fn release(&self, to: Offset) {
        self.0.shared.release(to);
    }

    /// The journal in numbers, now.
    pub fn stats(&self) -> Stats {
        let Inner { shared, max_bytes, .. } = &*self.0;
        let queued_bytes = shared.queue.bytes();
        let catalog = shared.catalog();
        let (bytes, needed) = (catalog.bytes(), catalog.needed_bytes());
        let state = match () {
            () if shared.ended.is_cancelled() => State::Ended,
            () if shared.no_space() => State::NoSpace,
            () if needed + queued_bytes + OVERHEAD_BYTES > *max_bytes => State::Full,
            () => State::Writable,
        };
        let (segments, first, next) = (catalog.segments.len(), catalog.first(), catalog.next);
        Stats { state, bytes, max_bytes: *max_bytes, queued_bytes, segments, first, next }
    }

    /// Returns when nothing more can be journaled in this boot: the disk failed, or the journal was closed.
    pub async fn ended(&self) {
        self.0.shared.ended.cancelled().await;
    }

    /// Takes nothing more, writes what is queued and returns when it is durable. Reading goes on.
    pub async fn close(&self) {
        let inner = self.0.clone();
        // The writer's own failure was answered to those who wait for it.
        let _ = tokio::task::spawn_blocking(move || inner.close()).await;
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("boot", &self.0.boot).field("bounds", &self.bounds()).finish()
    }
}

impl Inner {
    fn close(&self) {
        self.shared.queue.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            warn!("the journal's writer panicked");
        }
        self.shared.ended.cancel();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// About how many bytes records of these events take.
fn cost<'e>(events: impl Iterator<Item = &'e bytes::Bytes>) -> u64 {
    events.map(|event| event.len() as u64 + OVERHEAD_BYTES).sum()
}

/// A boot of this instant, but later than the one before it even when the clock went back.
fn new_boot(clock: &Clock, previous: Option<Previous>) -> Boot {
    let floor = previous.map_or(0, |p| (p.boot.0.as_u128() >> 80) as u64 + 1);
    let millis = (clock.now().millis().max(0) as u64).max(floor);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, (millis % 1000) as u32 * 1_000_000);
    Boot(Uuid::new_v7(at))
}
