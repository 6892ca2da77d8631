//! What an append answers.

use tokio::sync::oneshot;

use crate::{
    log::Offset,
    record::{Boot, Seq},
};

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

/// Records that were handed over and wait to be written. Nobody has to wait: they are written all the same, and when
/// they cannot be, `muniment_journal_lost_records_total` counts them.
#[derive(Debug)]
#[must_use = "what is not awaited may not be durable"]
pub struct Written(pub(super) oneshot::Receiver<Result<Receipt, AppendError>>);

impl Written {
    /// Returns when they are durable.
    ///
    /// # Errors
    /// See [`super::Journal::append`].
    pub async fn durable(self) -> Result<Receipt, AppendError> {
        // The writer goes away without an answer only when the boot ends.
        self.0.await.unwrap_or(Err(AppendError::Ended))
    }
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
    /// The key that seals bodies cannot be had now, and a record has one.
    #[error("the key that seals bodies cannot be had now")]
    NoKey,
    /// The journal was closed or its disk failed: nothing more is taken in this boot.
    #[error("the journal takes nothing more in this boot")]
    Ended,
}
