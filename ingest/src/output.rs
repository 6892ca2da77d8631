//! Where the gateway's audit events go besides the pipeline: a file, a webhook.
//!
//! A [`Feed`] reads them from the journal, where they are durable and redacted, and hands them to an [`Output`]. So an
//! output is never in a request's way: one that is dead, slow or full falls behind, for as long as the journal keeps
//! what it has not got, and then a record says what it does not get.

mod feed;
mod file;
mod position;
mod rotation;
mod stdout;

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::{
    feed::{Feed, FeedError, FeedOptions},
    file::{AuditFile, FileOptions, OpenFileError},
    stdout::Stdout,
};

/// Takes audit events, each one JSON object of `audit.k8s.io/v1` without line ends.
///
/// When `deliver` returns, it has all of the events, in their order, as safely as it can: they are not given again.
/// When it fails or is dropped, it may have any of them: they are given again, in the same or in smaller parts. So it
/// has each at least once.
#[async_trait]
pub trait Output: Send + Sync {
    /// How much is given at once. An event that alone is larger is given alone.
    fn bounds(&self) -> Bounds;

    /// Takes events; never none.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError>;
}

/// The most that is given at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Why an output did not take events.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It takes nothing now. They are given again for as long as it takes.
    #[error("it does not take events")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It does not want these. They are given again in smaller parts; one that is refused alone several times is
    /// passed over, and that is recorded.
    #[error("it refuses events: {0}")]
    Refused(String),
}
