//! The handle: one index, read by many and written by one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use ingest::{
    record::Record,
    sealed::{self, Open},
    time::Day,
};
use tokio::sync::{Semaphore, watch};

use crate::{
    IndexError,
    generation::Generation,
    lacking::Lacking,
    slots::Slots,
    standing::Standing,
    writer::{SIDES, Writer, WriterOptions},
};

/// What an index may use.
#[derive(Clone, Copy, Debug)]
pub struct IndexOptions {
    /// See there.
    pub writer: WriterOptions,
    /// How many queries are worked on at once; more wait their turn.
    pub queries: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { writer: WriterOptions::default(), queries: cores.max(2) }
    }
}

/// A search index in a folder. Clones are handles of the same index.
#[derive(Clone)]
pub struct Index(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    dir: PathBuf,
    options: IndexOptions,
    view: RwLock<Arc<View>>,
    pub(crate) writing: Mutex<Writing>,
    slots: Slots,
    commits: watch::Sender<Commit>,
    pub(crate) queries: Semaphore,
    pub(crate) is_fed: AtomicBool,
    /// What opens bodies that are to be found; without it sealed ones are not.
    open: OnceLock<Arc<dyn Open>>,
}

/// The writers of the generation in use, and of the one that is being made.
pub(crate) struct Writing {
    /// Nothing after a failure, until it is needed again.
    pub(crate) current: Option<Writer>,
    /// The one that is being made, before what is added goes to it too.
    pub(crate) waiting: Option<Writer>,
    /// The one that is being made: everything that is added is added to both.
    pub(crate) next: Option<Writer>,
}

impl Writing {
    /// Of `days` that may be written at once, those of one writer: half of them while there are two.
    fn share(&self, days: usize) -> usize {
        if self.waiting.is_some() || self.next.is_some() { days / SIDES } else { days }
    }

    /// Drops what is left of a rebuild.
    pub(crate) fn abandon(&mut self) {
        for left in [self.waiting.take(), self.next.take()].into_iter().flatten() {
            left.generation().retire();
        }
    }

    fn tee(&mut self, write: impl FnOnce(&mut Writer) -> Result<(), IndexError>) {
        if let Some(next) = &mut self.next
            && let Err(fault) = write(next)
        {
            tracing::warn!(error = &fault as &dyn std::error::Error, "the rebuild of the index failed");
            next.generation().retire();
            self.next = None;
        }
    }

    /// From now on everything goes to the one that is being made too. Right when nothing is uncommitted: what was
    /// added before is before the position that both now have.
    pub(crate) fn attach(&mut self) {
        if let Some(mut next) = self.waiting.take() {
            if let Some(current) = &self.current {
                next.continue_from(current.standing());
            }
            self.next = Some(next);
        }
    }
}

impl View {
    fn of(writer: &Writer) -> Self {
        Self {
            generation: writer.generation().clone(),
            standing: writer.standing().clone(),
            arrival: writer.arrival(),
        }
    }

    fn commit(&self) -> Commit {
        Commit { generation: self.generation.number, arrival: self.arrival }
    }
}

/// What queries see; it never waits for the writing side.
pub(crate) struct View {
    pub(crate) generation: Arc<Generation>,
    pub(crate) standing: Standing,
    /// Every document below this arrival number is found.
    pub(crate) arrival: u64,
}

/// The state that queries see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which generation.
    pub generation: u64,
    /// Every document below this arrival number is found.
    pub arrival: u64,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index in `dir`, or makes an empty one, whose [`Standing::lacking`] says that it has to be rebuilt.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: &Path, options: IndexOptions) -> Result<Self, IndexError> {
        let generation = Generation::open_current(dir)?;
        let slots = Slots::new(options.writer.days());
        let writer =
            Writer::open(Arc::new(generation), options.writer, slots.clone(), options.writer.days())?;
        let view = View::of(&writer);
        let commit = view.commit();
        let inner = Inner {
            dir: dir.to_owned(),
            options,
            view: RwLock::new(Arc::new(view)),
            writing: Mutex::new(Writing { current: Some(writer), waiting: None, next: None }),
            slots,
            commits: watch::Sender::new(commit),
            queries: Semaphore::new(options.queries),
            is_fed: AtomicBool::new(false),
            open: OnceLock::new(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Sealed bodies are opened by `open` and indexed, from now on. The first call counts.
    pub fn index_bodies(&self, open: Arc<dyn Open>) {
        // Another one is left: what is open already stays.
        let _ = self.0.open.set(open);
    }

    /// Gets what opening the bodies of these records needs.
    pub(crate) async fn prepare(&self, records: &[Record]) -> Result<(), IndexError> {
        if let Some(open) = self.0.open.get() {
            open.prepare(records).await?;
        }
        Ok(())
    }

    /// How far the index is, as of its last commit.
    pub fn standing(&self) -> Standing {
        self.view().standing.clone()
    }

    /// Takes a new index as one that lacks nothing: there is nothing that it could be made from. Changes nothing when
    /// it lacks something for another reason.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn accept_new(&self) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let writer = self.0.writer(&mut writing)?;
        if writer.standing().lacking == Some(Lacking::New) {
            writer.accept()?;
            self.announce(&writing);
        }
        Ok(())
    }

    /// What the ledger knows as lost now. A first count says nothing: the index was made before ranges were counted,
    /// or a moment ago.
    pub(crate) fn note_gaps(&self, count: u64, lacking: Lacking) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let writer = self.0.writer(&mut writing)?;
        let known = writer.standing().gaps;
        if known != Some(count) {
            writer.note_gaps(count, known.map(|_| lacking))?;
            self.announce(&writing);
        }
        Ok(())
    }

    /// Adds records, each in place of any with its id. They are found after the next [`Index::commit`].
    ///
    /// # Errors
    /// After an error nothing since the last commit is kept: go on reading the log at [`Index::standing`].
    pub fn add(&self, records: &[Record]) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let readable = self.0.readable(records);
        let records = readable.as_deref().unwrap_or(records);
        let added = self.0.writer(&mut writing)?.add(records);
        if added.is_err() {
            writing.current = None;
        }
        added?;
        writing.tee(|next| next.add(records));
        Ok(())
    }

    /// How many bytes of events were added since the last commit.
    pub fn uncommitted_bytes(&self) -> usize {
        self.0.writing().current.as_ref().map_or(0, Writer::uncommitted_bytes)
    }

    /// Commits every changed day, then writes how far that takes the index. Durable and found when this returns.
    ///
    /// # Errors
    /// As for [`Index::add`]. Days that were committed are added to again after a replay, which changes nothing.
    pub fn commit(&self, standing: &Standing) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let committed = self.0.writer(&mut writing)?.commit(standing);
        if committed.is_err() {
            writing.current = None;
        }
        committed?;
        writing.tee(|next| next.commit(standing));
        writing.attach();
        self.announce(&writing);
        Ok(())
    }

    /// Removes every day before `first`; returns those that were there.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn expire(&self, first: Day) -> Result<Vec<Day>, IndexError> {
        let mut writing = self.0.writing();
        let Writing { current, waiting, next } = &mut *writing;
        for writer in [waiting, next].into_iter().flatten() {
            writer.forget_before(first);
            writer.generation().days.remove_before(first)?;
        }
        if let Some(writer) = current {
            writer.forget_before(first);
        }
        self.generation().days.remove_before(first)
    }

    /// Tells of every commit, for those who wait for more.
    pub fn commits(&self) -> watch::Receiver<Commit> {
        self.0.commits.subscribe()
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.view().generation.clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Makes the generation that was rebuilt the one in use.
    pub(crate) fn swap(&self, writing: &mut Writing) -> Result<(), IndexError> {
        let Some(next) = writing.next.take() else { return Err(IndexError::RebuildFailed) };
        next.generation().make_current(&self.0.dir)?;
        let old = self.generation();
        writing.current = Some(next);
        self.announce(writing);
        old.retire();
        Ok(())
    }

    fn announce(&self, writing: &Writing) {
        if let Some(writer) = &writing.current {
            let view = View::of(writer);
            let commit = view.commit();
            *self.0.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
            self.0.commits.send_replace(commit);
        }
    }

    /// Whether an indexer is running, so that a rebuild has to keep up with it.
    pub(crate) fn is_fed(&self) -> bool {
        self.0.is_fed.load(Ordering::Acquire)
    }
}

impl Inner {
    /// The records with their bodies open or left out, where any are sealed. Under the lock of the writing side: once a
    /// key is dropped, a rebuild that begins afterwards finds nothing opened before.
    pub(crate) fn readable(&self, records: &[Record]) -> Option<Vec<Record>> {
        sealed::all_for_index(records, self.open.get().map(AsRef::as_ref))
    }

    pub(crate) fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes this generation as the one that is being made. From now on its writer and the one in use may each have
    /// half of the days open.
    pub(crate) fn begin(&self, writing: &mut Writing, generation: Arc<Generation>) -> Result<(), IndexError> {
        let options = self.options.writer;
        writing.waiting =
            Some(Writer::open(generation, options, self.slots.clone(), options.days() / SIDES)?);
        self.share_out(writing).inspect_err(|_| writing.abandon())
    }

    /// Gives the writer in use its share of the days that may be open; those beyond are closed.
    pub(crate) fn share_out(&self, writing: &mut Writing) -> Result<(), IndexError> {
        let share = writing.share(self.options.writer.days());
        let limited = writing.current.as_mut().map_or(Ok(()), |current| current.limit(share));
        if limited.is_err() {
            writing.current = None;
        }
        limited
    }

    /// The writer; opened again after a failure.
    pub(crate) fn writer<'w>(&self, writing: &'w mut Writing) -> Result<&'w mut Writer, IndexError> {
        if writing.current.is_none() {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
            let (options, slots) = (self.options.writer, self.slots.clone());
            let share = writing.share(options.days());
            writing.current = Some(Writer::open(view.generation.clone(), options, slots, share)?);
        }
        match &mut writing.current {
            Some(writer) => Ok(writer),
            None => unreachable!("it was opened above"),
        }
    }
}
