//! What readers may see: the segments and where in them each durable block stands.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::Bytes;

use super::{block, keep::Keep, segment, storage::StorageFile};
use crate::log::Offset;

/// Most bytes that one read takes from a file, unless its first block alone is larger.
const READ_BYTES: u64 = 1024 * 1024;

/// A segment and its sound blocks.
pub(super) struct Segment {
    pub(super) first: Offset,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) blocks: Vec<Place>,
    /// Bytes written and durable, header included.
    pub(super) bytes: u64,
}

/// Where a block stands in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) first: Offset,
    pub(super) at: u64,
}

impl Segment {
    pub(super) fn empty(first: Offset, file: Arc<dyn StorageFile>) -> Self {
        Self { first, file, blocks: Vec::new(), bytes: segment::HEADER as u64 }
    }
}

/// The durable part of the journal, oldest segment first.
pub(super) struct Catalog {
    pub(super) segments: VecDeque<Segment>,
    /// The offset after the last durable record.
    pub(super) next: Offset,
    /// What of it may be forgotten, and who wants it.
    pub(super) keep: Keep,
}

/// A range of a file that holds whole blocks.
pub(super) struct Extent {
    file: Arc<dyn StorageFile>,
    segment: Offset,
    at: u64,
    len: u64,
    end: Offset,
}

impl Catalog {
    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// The first offset that is there.
    pub(super) fn first(&self) -> Offset {
        self.segments.front().map_or(self.next, |s| s.first)
    }

    /// Makes a block that is durable visible.
    pub(super) fn push(&mut self, header: &block::Header, at: u64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.blocks.push(Place { first: header.first, at });
            segment.bytes = at + header.len();
            self.next = header.end();
        }
    }

    /// Whole blocks, about `most` records long, from the one that holds `from`; nothing when `from` is not there yet.
    pub(super) fn extent(&self, from: Offset, most: u64) -> Option<Extent> {
        if from >= self.next {
            return None;
        }
        let following = self.segments.partition_point(|s| s.first <= from);
        (following.max(1) - 1..self.segments.len()).find_map(|i| {
            let end = self.segments.get(i + 1).map_or(self.next, |s| s.first);
            self.segments[i].extent(from, most, end)
        })
    }

    /// The newest segment's file when no block stands in it.
    pub(super) fn unused(&self) -> Option<Arc<dyn StorageFile>> {
        self.segments.back().filter(|s| s.blocks.is_empty()).map(|s| s.file.clone())
    }

    /// The oldest segment when everything in it lies before `to`. The newest is never given.
    pub(super) fn before(&self, to: Offset) -> Option<&Segment> {
        let second = self.segments.get(1)?;
        self.segments.front().filter(|_| second.first <= to)
    }
}

impl Segment {
    fn extent(&self, from: Offset, most: u64, end: Offset) -> Option<Extent> {
        let begin = self.blocks.partition_point(|b| b.first <= from).max(1) - 1;
        let start = self.blocks.get(begin)?;
        let end_of = |i: usize| self.blocks.get(i + 1).map_or(self.bytes, |b| b.at);
        let fits = |i: usize| {
            self.blocks[i].first.0 < from.0.saturating_add(most) && end_of(i) - start.at <= READ_BYTES
        };
        let last = (begin + 1..self.blocks.len()).take_while(|i| fits(*i)).last().unwrap_or(begin);
        Some(Extent {
            file: self.file.clone(),
            segment: self.first,
            at: start.at,
            len: end_of(last) - start.at,
            end: self.blocks.get(last + 1).map_or(end, |b| b.first),
        })
    }
}

/// A durable block that no longer reads as it was written.
#[derive(Debug)]
pub(super) struct Rotten {
    pub(super) segment: Offset,
    pub(super) at: u64,
}

impl Extent {
    /// The offset after its last record.
    pub(super) const fn end(&self) -> Offset {
        self.end
    }

    /// Reads the range.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len as usize];
        self.file.read_at(&mut bytes, self.at)?;
        Ok(bytes.into())
    }

    /// The stored records in `bytes` (which [`Self::read`] gave), with their offsets.
    pub(super) fn records(&self, bytes: &Bytes) -> Result<Vec<(Offset, Bytes)>, Rotten> {
        let mut records = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rotten = || Rotten { segment: self.segment, at: self.at + at as u64 };
            let header = block::Header::read(&bytes[at..]).ok_or_else(rotten)?;
            let end = at + header.len() as usize;
            if !header.gap {
                let stored = block::records(bytes.slice(at + block::HEADER..end));
                records.extend((header.first.0..).map(Offset).zip(stored));
            }
            at = end;
        }
        Ok(records)
    }
}
