//! The handle: one index, read by many and written by one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use ingest::{record::Record, time::Day};
use tokio::sync::{Semaphore, watch};

use crate::{
    IndexError,
    generation::{Found, Generation},
    standing::Standing,
    writer::{Writer, WriterOptions},
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
    current: RwLock<Arc<Generation>>,
    pub(crate) writing: Mutex<Writing>,
    commits: watch::Sender<Commit>,
    pub(crate) queries: Semaphore,
    pub(crate) is_fed: AtomicBool,
}

/// Both sides of a rebuild: the generation in use, and the one that is being made.
pub(crate) struct Writing {
    pub(crate) current: Option<Writer>,
    pub(crate) next: Option<Writer>,
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
    /// Opens the index in `dir`, or makes an empty one. Says which, because an empty one has to be rebuilt when
    /// the ledger holds records.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: &Path, options: IndexOptions) -> Result<(Self, Found), IndexError> {
        let (generation, found) = Generation::open_current(dir)?;
        let generation = Arc::new(generation);
        let writer = Writer::open(generation.clone(), options.writer)?;
        let commit = Commit { generation: generation.number, arrival: writer.arrival() };
        let inner = Inner {
            dir: dir.to_owned(),
            options,
            current: RwLock::new(generation),
            writing: Mutex::new(Writing { current: Some(writer), next: None }),
            commits: watch::Sender::new(commit),
            queries: Semaphore::new(options.queries),
            is_fed: AtomicBool::new(false),
        };
        Ok((Self(Arc::new(inner)), found))
    }

    /// How far the index is, as of its last commit.
    ///
    /// # Errors
    /// When its writer failed and cannot be opened again.
    pub fn standing(&self) -> Result<Standing, IndexError> {
        let mut writing = self.0.writing();
        Ok(self.0.writer(&mut writing)?.standing().clone())
    }

    /// Adds records, each in place of any with its id. They are found after the next [`Index::commit`].
    ///
    /// # Errors
    /// After an error nothing since the last commit is kept: go on reading the log at [`Index::standing`].
    pub fn add(&self, records: &[Record]) -> Result<(), IndexError> {
        let mut writing = self.0.writing();
        let added = self.0.writer(&mut writing)?.add(records);
        if added.is_err() {
            writing.current = None;
        }
        added?;
        if let Some(next) = &mut writing.next {
            next.add(records)?;
        }
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
        if let Some(next) = &mut writing.next {
            next.commit(standing)?;
        }
        self.announce(&writing);
        Ok(())
    }

    /// Removes every day before `first`; returns those that were there.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn expire(&self, first: Day) -> Result<Vec<Day>, IndexError> {
        let mut writing = self.0.writing();
        let Writing { current, next } = &mut *writing;
        for writer in [current, next].into_iter().flatten() {
            writer.forget_before(first);
        }
        if let Some(next) = next {
            next.generation().days.remove_before(first)?;
        }
        self.generation().days.remove_before(first)
    }

    /// Tells of every commit, for those who wait for more.
    pub fn commits(&self) -> watch::Receiver<Commit> {
        self.0.commits.subscribe()
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    pub(crate) fn options(&self) -> IndexOptions {
        self.0.options
    }

    /// Makes the generation that was rebuilt the one in use.
    pub(crate) fn swap(&self, writing: &mut Writing) -> Result<(), IndexError> {
        let Some(next) = writing.next.take() else { return Ok(()) };
        next.generation().make_current(&self.0.dir)?;
        let old = {
            let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, next.generation().clone())
        };
        old.retire();
        writing.current = Some(next);
        self.announce(writing);
        Ok(())
    }

    fn announce(&self, writing: &Writing) {
        if let Some(writer) = &writing.current {
            let commit = Commit { generation: writer.generation().number, arrival: writer.arrival() };
            self.0.commits.send_replace(commit);
        }
    }

    /// Whether an indexer is running, so that a rebuild has to keep up with it.
    pub(crate) fn is_fed(&self) -> bool {
        self.0.is_fed.load(Ordering::Acquire)
    }
}

impl Inner {
    pub(crate) fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer; opened again after a failure.
    fn writer<'w>(&self, writing: &'w mut Writing) -> Result<&'w mut Writer, IndexError> {
        if writing.current.is_none() {
            let generation = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
            writing.current = Some(Writer::open(generation, self.options.writer)?);
        }
        match &mut writing.current {
            Some(writer) => Ok(writer),
            None => unreachable!("it was opened above"),
        }
    }
}
