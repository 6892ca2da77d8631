//! SQLite's errors in the store's terms.

use std::sync::Arc;

use sqlx::{Error, error::DatabaseError};

use crate::gateway::store::StoreError;

/// The store was closed.
#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;

/// The queue before the disk does not move.
#[derive(Debug, thiserror::Error)]
#[error("the disk does not keep up")]
struct Busy;

pub(super) fn closed() -> StoreError {
    StoreError::Unavailable(Closed.into())
}

pub(super) fn busy() -> StoreError {
    StoreError::Unavailable(Busy.into())
}

/// A write was begun and its end did not come.
pub(super) fn unanswered() -> StoreError {
    StoreError::Ambiguous(Busy.into())
}

/// What every write of a transaction is told when it fails.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the transaction failed")]
pub(super) struct Failed(#[source] Arc<Error>);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl Failed {
    /// When nothing of it was written.
    pub(super) fn undone(&self) -> StoreError {
        if passes(&self.0) {
            StoreError::Unavailable(self.clone().into())
        } else {
            StoreError::Refused(self.clone().into())
        }
    }

    /// When the file cannot be asked whether it was written.
    pub(super) fn unknown(&self) -> StoreError {
        StoreError::Ambiguous(self.clone().into())
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if passes(&error) { Self::Unavailable(error.into()) } else { Self::Refused(error.into()) }
    }
}

fn passes(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => true,
        Error::Database(error) => database_passes(error.as_ref()),
        _ => false,
    }
}

/// By primary result code: busy, locked, input/output, full, cannot open.
fn database_passes(error: &dyn DatabaseError) -> bool {
    error
        .code()
        .and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|c| matches!(c & 0xff, 5 | 6 | 10 | 13 | 14))
}
