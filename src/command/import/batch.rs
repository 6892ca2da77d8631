//! Cuts a file into batches that are sent as JSON lines, and remembers where each item stood in the file.

use std::collections::VecDeque;

use anyhow::Result;
use ingest::{
    accept::{Place, Rejection},
    split::Splitter,
};

use super::source::Source;

/// Events of one request: as many refused items as the server tells of one by one.
const MAX_EVENTS: usize = 1_000;

/// Bytes of one request; one item may be larger.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Items that go to the server in one request.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The items, one after the other, with line ends between them.
    pub(crate) body: Vec<u8>,
    /// Where each item begins in the body, and where it stood in the file.
    pub(crate) places: Vec<(u64, Place)>,
    /// What could not be read as an item.
    pub(crate) unreadable: Vec<(Place, Rejection)>,
    /// How many items of the file are done when this batch is.
    pub(crate) end: u64,
}

impl Batch {
    /// Where the item at this byte of the body stood in the file.
    pub(crate) fn place_of(&self, offset: u64) -> Place {
        let after = self.places.partition_point(|(start, _)| *start <= offset);
        after.checked_sub(1).map_or_else(Place::default, |i| self.places[i].1)
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.unreadable.is_empty()
    }

    fn is_full(&self) -> bool {
        self.places.len() + self.unreadable.len() >= MAX_EVENTS || self.body.len() >= MAX_BYTES
    }

    fn add(&mut self, place: Place, item: Result<&[u8], Rejection>) {
        self.end = place.item + 1;
        match item {
            Ok(bytes) => {
                self.places.push((self.body.len() as u64, place));
                self.body.extend_from_slice(bytes);
                self.body.push(b'\n');
            }
            Err(rejection) => self.unreadable.push((place, rejection)),
        }
    }
}

/// The batches of one file, in order.
pub(crate) struct Batches {
    splitter: Option<Splitter>,
    ready: VecDeque<Batch>,
    filling: Batch,
    /// Items before this one were done by an earlier run.
    first: u64,
}

impl Batches {
    /// Batches of the items after the first `done`.
    pub(crate) fn new(done: u64) -> Self {
        Self {
            splitter: Some(Splitter::new()),
            ready: VecDeque::new(),
            filling: Batch::default(),
            first: done,
        }
    }

    /// The next batch; nothing at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next(&mut self, source: &mut Source) -> Result<Option<Batch>> {
        while self.ready.is_empty() {
            let Some(mut splitter) = self.splitter.take() else { break };
            let chunk = source.chunk()?;
            let Self { ready, filling, first, .. } = self;
            let give = |place: Place, item: Result<&[u8], Rejection>| {
                if place.item < *first {
                    return;
                }
                filling.add(place, item);
                if filling.is_full() {
                    ready.push_back(std::mem::take(filling));
                }
            };
            if chunk.is_empty() {
                splitter.finish(give);
            } else {
                splitter.push(&chunk, give);
                self.splitter = Some(splitter);
            }
        }
        if self.ready.is_empty() && !self.filling.is_empty() {
            return Ok(Some(std::mem::take(&mut self.filling)));
        }
        Ok(self.ready.pop_front())
    }
}
