//! A stream of changes, as any store gives it.

use std::{fmt, pin::Pin};

use futures::{Stream, StreamExt};

use super::{Change, Revision, WatchError};

/// Changes of one watch, and how far they reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// By growing revision. None in a batch that only marks progress.
    pub changes: Vec<Change>,
    /// No change of the watch's keys up to this revision is yet to come.
    pub reached: Revision,
}

/// A running watch. Dropping it ends it.
pub struct Watch(Pin<Box<dyn Stream<Item = Result<Batch, WatchError>> + Send>>);

impl Watch {
    /// Of a stream that ends after its first error.
    pub fn new(stream: impl Stream<Item = Result<Batch, WatchError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next batch: waits for one. Nothing after an error, and when the store itself is closed. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        self.0.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
