//! What can go wrong with an index.

use std::{io, path::PathBuf};

use tantivy::TantivyError;

/// Why the index could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file of the index could not be read or written.
    #[error("the index cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the index does not read. The index is derived: `muniment rebuild` makes it anew.
    #[error("the index's {} does not read: {reason}; rebuild the index", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The search engine failed.
    #[error("the search engine failed")]
    Engine(#[from] TantivyError),
    /// The ledger failed while the index was rebuilt from it.
    #[error("the ledger could not be read for the index")]
    Ledger(#[from] ingest::ledger::LedgerError),
    /// The ledger did not reach the indexer's position in time.
    #[error(
        "the ledger is behind the index for more than {0} s; wait until it has caught up and rebuild again"
    )]
    LedgerBehind(u64),
    /// Another rebuild is under way.
    #[error("the index is being rebuilt already")]
    Rebuilding,
    /// The generation that was being made could not be written; the log says why.
    #[error("the rebuild failed; the index is as it was")]
    RebuildFailed,
    /// A day that was being indexed again could not be written, or went meanwhile.
    #[error("the day was not indexed again; some of it is as it was")]
    DayFailed,
    /// Queries read what was shredded for longer than they may.
    #[error("queries still read what {0} held before it was indexed again")]
    StillRead(ingest::time::Day),
    /// More days would be open for writing than may be.
    #[error("as many days of the index are written to as may be at once")]
    ManyDaysOpen,
    /// Bodies are sealed, and the key that opens them for the index cannot be had now.
    #[error("sealed bodies cannot be opened for the index")]
    Sealed(#[from] ingest::sealed::NoKey),
    /// The rebuild was cancelled.
    #[error("the rebuild was cancelled; the index is as it was")]
    Cancelled,
    /// A task of the index panicked.
    #[error("a task of the index ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl IndexError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl From<tantivy::directory::error::OpenDirectoryError> for IndexError {
    fn from(error: tantivy::directory::error::OpenDirectoryError) -> Self {
        Self::Engine(error.into())
    }
}
