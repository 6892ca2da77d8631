//! Why a store does not do what it was asked.

use ingest::journal::AppendError;

use super::{Read, Revision, Unreadable};

/// An engine's own error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine does not answer in time, or cannot work now. Nothing was written; trying again later is right.
    #[error("the cluster store is unavailable")]
    Unavailable(#[source] Cause),
    /// The history that was asked for has been forgotten.
    #[error("the cluster store has forgotten what was before revision {oldest}")]
    Compacted {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The revision that was asked for is yet to come.
    #[error("the cluster store is at revision {current} and does not know a later one")]
    Future {
        /// The newest revision.
        current: Revision,
    },
    /// The value is larger than the engine takes.
    #[error("the value is larger than the cluster store takes")]
    TooLarge,
    /// The answer to a write was lost, and the key's history does not tell yet whether it happens.
    #[error("the cluster store did not say whether the change happened")]
    Ambiguous(#[source] Cause),
    /// The engine refuses: credentials, permissions, a damaged file. Trying again does not help.
    #[error("the cluster store refuses")]
    Refused(#[source] Cause),
    /// The value is there and cannot be decrypted.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The value could not be encrypted, so nothing was written.
    #[error("the value cannot be encrypted")]
    Unencrypted(#[source] Cause),
    /// The change could not be recorded, so nothing was written.
    #[error("the change cannot be recorded")]
    Unrecorded(#[source] AppendError),
}

/// Why a write failed. But for [`StoreError::Ambiguous`] nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The key is not in the state that the write expected; this is its state.
    #[error("the key was changed by someone else, at or before revision {}", .0.revision)]
    Conflict(Read),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Its changes were not taken in time, and are no longer kept for it.
    #[error("the watch fell behind")]
    Behind,
    /// The changes that it needs next have been forgotten.
    #[error("the cluster store has forgotten what was before revision {oldest}")]
    Compacted {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The store cannot serve it, for a reason that waiting does not mend.
    #[error(transparent)]
    Store(#[from] StoreError),
}
