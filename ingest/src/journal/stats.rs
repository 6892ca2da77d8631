//! The journal in numbers.

use crate::log::Offset;

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
