//! The journal: where a record becomes durable before anyone is told that it is taken.
//!
//! Appends from any number of tasks wait in a bounded queue for one writer thread, which writes all that wait
//! as one block and syncs once (group commit). Blocks stand in segment files that are reserved ahead; a
//! released segment is removed whole. What a start makes of a folder after a crash is told in `scan`.

mod block;
mod catalog;
mod fact;
mod queue;
mod scan;
mod segment;
mod storage;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    log::{Offset, Poison},
    pipeline::Previous,
    record::{Boot, Draft, Record, Seq},
    time::Clock,
};
use catalog::{Catalog, Segment};
use queue::{Items, Queue};
use storage::{Dir, Storage};
use writer::{WriteError, Writer};

/// How many bytes a journal holds when nothing else is asked for: a million events and more.
pub const DEFAULT_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The largest segment: what is reserved ahead, and about what is released at a time.
const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The smallest segment, below which making files would cost more than writing them.
const MIN_SEGMENT_BYTES: u64 = 1024 * 1024;

/// A full journal has about this many segments, so that releasing one makes room soon.
const SEGMENTS: u64 = 16;

/// About what envelope and framing add to an event, for bounds only.
const OVERHEAD_BYTES: usize = 512;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Most bytes of records that it holds; then appends fail with [`AppendError::Full`]. The space reserved
    /// for the newest segment (a sixteenth of it, at most 64 MiB) may come on top.
    pub max_bytes: u64,
    /// The name of this instance, which stands in every record.
    pub source: Arc<str>,
    /// Where the current time comes from.
    pub clock: Clock,
    /// Goes on when durable records turn out damaged, and records what is lost.
    pub accept_gap: bool,
}

impl JournalOptions {
    /// The defaults, for an instance of this name.
    pub fn new(source: impl Into<Arc<str>>, clock: Clock) -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, source: source.into(), clock, accept_gap: false }
    }
}

/// A write that a crash cut short. Nobody was told that it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Name of the segment file.
    pub file: String,
    /// Where in it.
    pub at: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// Records that were durable and are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Name of the segment file.
    pub file: String,
    /// Where in it the damage begins.
    pub at: u64,
    /// The offsets that hold nothing any more.
    pub offsets: Range<Offset>,
    /// The boot whose records they were.
    pub boot: Boot,
    /// Its first number that is lost.
    pub first: Seq,
    /// Its last number that is lost.
    pub last: Seq,
}

/// What [`Journal::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The boot before this one, as far as the journal knows.
    pub previous: Option<Previous>,
    /// A torn tail, which was cut.
    pub torn: Option<Torn>,
    /// Damage that was accepted now. Each is also recorded as a gap in the journal itself.
    pub lost: Vec<Lost>,
    /// The offset after the last record that was found.
    pub next: Offset,
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the journal {0} is in use by another process")]
    InUse(String),
    /// A file could not be read or written.
    #[error("the journal's file {file} cannot be read or written")]
    Io {
        /// Name of the file in the journal's folder.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Written by a newer Muniment.
    #[error("the journal's file {file} has format version {version}; this program reads up to {max}", max = segment::VERSION)]
    Newer {
        /// Name of the file in the journal's folder.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Records that were durable are damaged.
    #[error(
        "the journal's file {file} is damaged at byte {at} ({lost} records are lost); --accept-gap goes on and records the gap"
    )]
    Corrupt {
        /// Name of the file in the journal's folder.
        file: String,
        /// Where the damage begins.
        at: u64,
        /// How many records it takes.
        lost: u64,
    },
    /// The writer's thread could not be started.
    #[error("the journal's writer cannot be started")]
    Thread(#[source] io::Error),
}

/// Why records were not journaled. None of them counts as taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The journal holds as many bytes as it may, until readers release some.
    #[error("the journal is full")]
    Full,
    /// The disk is full. Appending works again by itself when there is room.
    #[error("the journal's disk is full")]
    NoSpace,
    /// The journal was closed or its disk failed: nothing more is taken in this boot.
    #[error("the journal takes nothing more in this boot")]
    Ended,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was released and is gone.
    #[error("the journal begins at {first:?}")]
    Released {
        /// The first offset that is there.
        first: Offset,
    },
    /// A durable block no longer reads as it was written.
    #[error("the journal's file {file} is damaged at byte {at}")]
    Corrupt {
        /// Name of the file in the journal's folder.
        file: String,
        /// Where in it.
        at: u64,
    },
    /// The file could not be read.
    #[error("the journal cannot be read")]
    Io(#[source] io::Error),
}

/// Where appended records stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The boot that numbered them.
    pub boot: Boot,
    /// The first one's number.
    pub first: Seq,
    /// The last one's number.
    pub last: Seq,
    /// The offset after the last one.
    pub next: Offset,
}

/// One entry of the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub offset: Offset,
    /// The record, or why its bytes are not one that this program knows.
    pub record: Result<Record, Poison>,
}

/// Whether the journal takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Writable,
    /// It holds as many bytes as it may.
    Full,
    /// Its disk is full.
    NoSpace,
    /// It was closed or its disk failed.
    Ended,
}

/// The journal in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Whether it takes records.
    pub state: State,
    /// Bytes of durable records, of all segments.
    pub bytes: u64,
    /// Bytes it may hold.
    pub max_bytes: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// The first offset that is there.
    pub first: Offset,
    /// The offset after the last durable record.
    pub next: Offset,
}

/// A durable queue of records with offsets 0, 1, 2 … over all boots. Clones are handles of the same journal.
///
/// When the last handle is dropped, what was queued is still written and the folder is free for another open.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    boot: Boot,
    max_bytes: u64,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while segments are removed: two releases at once would take each other's.
    releasing: Mutex<()>,
}

/// What handles and the writer share.
struct Shared {
    queue: Queue,
    catalog: Mutex<Catalog>,
    next: watch::Sender<Offset>,
    no_space: AtomicBool,
    ended: CancellationToken,
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
        Self::open_in(Arc::new(storage), options)
    }

    fn open_in(storage: Arc<dyn Storage>, options: JournalOptions) -> Result<(Self, Opened), OpenError> {
        let (catalog, opened) = scan::scan(&*storage, options.accept_gap)?;
        report(&opened);
        let boot = new_boot(&options.clock, opened.previous);
        let shared = Arc::new(Shared::new(catalog));
        let mut writer = Writer {
            storage: storage.clone(),
            shared: shared.clone(),
            segment_bytes: (options.max_bytes / SEGMENTS).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES),
            boot,
            last: Seq(0),
            next: opened.next,
            previous: opened.previous,
            lead: fact::of_boot(&opened, &options.source, &options.clock),
            active: None,
            buffer: Vec::new(),
            source: options.source,
            clock: options.clock,
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
        let max_bytes = options.max_bytes;
        let inner = Inner {
            shared,
            storage,
            boot,
            max_bytes,
            writer: Mutex::new(Some(thread)),
            releasing: Mutex::default(),
        };
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
    /// None of the records is acknowledged; after [`AppendError::Ended`] any part of them may be there at the next start.
    pub async fn append(&self, drafts: Vec<Draft>) -> Result<Receipt, AppendError> {
        let bytes = drafts.iter().map(|d| (d.event.len() + OVERHEAD_BYTES) as u64).sum();
        self.push(Items::Drafts(drafts), bytes).await
    }

    /// Appends records that were numbered elsewhere and returns when they are durable.
    pub(crate) async fn append_records(&self, records: Vec<Record>) -> Result<Receipt, AppendError> {
        let bytes = records.iter().map(|r| (r.event.len() + OVERHEAD_BYTES) as u64).sum();
        self.push(Items::Records(records), bytes).await
    }

    async fn push(&self, items: Items, bytes: u64) -> Result<Receipt, AppendError> {
        let Inner { shared, max_bytes, .. } = &*self.0;
        let limit = || max_bytes.saturating_sub(shared.catalog().bytes());
        if bytes + shared.queue.bytes() > limit() {
            return Err(AppendError::Full);
        }
        let answered = shared.queue.push(items, bytes, limit).await?;
        // The writer goes away without an answer only when the boot ends.
        answered.await.unwrap_or(Err(AppendError::Ended))
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

    /// Allows everything before `to` to be forgotten: whole segments are removed, oldest first.
    ///
    /// Removes files: call it where blocking is allowed. What cannot be removed is kept and tried again at the next call.
    pub fn release(&self, to: Offset) {
        let removed = self.0.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = || self.0.shared.catalog().before(to).map(|s| segment::name(s.first));
        while let Some(file) = oldest() {
            let storage = &self.0.storage;
            // Durable one by one, so that after a crash no hole is found between what is left.
            if let Err(e) = storage.remove(&file).and_then(|()| storage.sync()) {
                warn!(error = %e, file, "a released journal segment cannot be removed");
                return;
            }
            self.0.shared.catalog().segments.pop_front();
        }
        drop(removed);
    }

    /// The journal in numbers, now.
    pub fn stats(&self) -> Stats {
        let Inner { shared, max_bytes, .. } = &*self.0;
        let queued_bytes = shared.queue.bytes();
        let catalog = shared.catalog();
        let bytes = catalog.bytes();
        let state = match () {
            () if shared.ended.is_cancelled() => State::Ended,
            () if shared.no_space() => State::NoSpace,
            () if bytes + queued_bytes + OVERHEAD_BYTES as u64 > *max_bytes => State::Full,
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

impl Shared {
    fn new(catalog: Catalog) -> Self {
        Self {
            queue: Queue::new(),
            next: watch::Sender::new(catalog.next),
            catalog: Mutex::new(catalog),
            no_space: AtomicBool::new(false),
            ended: CancellationToken::new(),
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, from: Offset, max: usize) -> Result<Vec<Entry>, ReadError> {
        let mut at = from;
        loop {
            let extent = {
                let catalog = self.catalog();
                if at < catalog.first() {
                    return Err(ReadError::Released { first: catalog.first() });
                }
                catalog.extent(at, max as u64)
            };
            let Some(extent) = extent else {
                return Ok(Vec::new());
            };
            let bytes = extent.read().map_err(ReadError::Io)?;
            let stored = extent.records(&bytes).map_err(|rotten| ReadError::Corrupt {
                file: segment::name(rotten.segment),
                at: rotten.at,
            })?;
            let wanted = stored.into_iter().filter(|(offset, _)| *offset >= at).take(max);
            let records: Vec<_> =
                wanted.map(|(offset, bytes)| Entry { offset, record: decode(bytes) }).collect();
            if !records.is_empty() || max == 0 {
                return Ok(records);
            }
            at = extent.end();
        }
    }

    fn publish(&self, header: &block::Header, at: u64) {
        self.catalog().push(header, at);
        self.next.send_replace(header.end());
    }

    fn add_segment(&self, segment: Segment) {
        self.catalog().segments.push_back(segment);
    }

    fn no_space(&self) -> bool {
        self.no_space.load(Ordering::Relaxed)
    }

    /// Sets it and returns what it was.
    fn set_no_space(&self, full: bool) -> bool {
        self.no_space.swap(full, Ordering::Relaxed)
    }

    /// Ends the boot: whatever waits and whatever comes is refused.
    fn end(&self) {
        self.queue.close();
        while let queue::Next::Write(refused) = self.queue.take(u64::MAX, Duration::ZERO) {
            drop(refused);
        }
        self.ended.cancel();
    }
}

fn decode(stored: bytes::Bytes) -> Result<Record, Poison> {
    Record::decode(&stored).map_err(|e| Poison { reason: e.to_string(), envelope: None, event: stored })
}

/// A boot of this instant, but later than the one before it even when the clock went back.
fn new_boot(clock: &Clock, previous: Option<Previous>) -> Boot {
    let floor = previous.map_or(0, |p| (p.boot.0.as_u128() >> 80) as u64 + 1);
    let millis = (clock.now().millis().max(0) as u64).max(floor);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, (millis % 1000) as u32 * 1_000_000);
    Boot(Uuid::new_v7(at))
}

fn report(opened: &Opened) {
    if let Some(torn) = &opened.torn {
        info!(
            file = torn.file,
            at = torn.at,
            bytes = torn.bytes,
            "cut a write that the last stop left unfinished"
        );
    }
    for lost in &opened.lost {
        warn!(file = lost.file, at = lost.at, boot = %lost.boot, first = lost.first.0, last = lost.last.0, "journaled records are lost");
    }
}
