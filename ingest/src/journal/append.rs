//! What an append answers.

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
