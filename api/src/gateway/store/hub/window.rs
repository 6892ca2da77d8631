//! The last changes of one kind, within a bound.

use std::{collections::VecDeque, sync::Arc};

use super::{Revision, Sighting, WINDOW_BYTES, WINDOW_CHANGES};

/// Changes by growing revision, without a hole from `floor` to `reached`.
#[derive(Debug)]
pub(super) struct Window<T> {
    changes: VecDeque<(Arc<Sighting<T>>, usize)>,
    bytes: usize,
    /// Every change after this one is here.
    floor: Revision,
    /// No change up to this one is yet to come.
    reached: Revision,
}

impl<T> Window<T> {
    pub(super) fn new(after: Revision) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, floor: after, reached: after }
    }

    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    pub(super) fn reached(&self) -> Revision {
        self.reached
    }

    pub(super) fn push(&mut self, change: Sighting<T>, bytes: usize) {
        self.bytes += bytes;
        self.changes.push_back((Arc::new(change), bytes));
        while self.changes.len() > WINDOW_CHANGES || (self.bytes > WINDOW_BYTES && self.changes.len() > 1) {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        if let Some((change, bytes)) = self.changes.pop_front() {
            self.bytes -= bytes;
            // A revision of several changes leaves as a whole: who has seen a part of it needs the rest.
            self.floor = change.revision;
        }
    }

    pub(super) fn reach(&mut self, reached: Revision) {
        self.reached = self.reached.max(reached);
    }

    /// The changes after a revision, oldest first. The caller has seen to it that they are all here.
    pub(super) fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Sighting<T>>> {
        let start = self.changes.partition_point(|(change, _)| change.revision <= revision);
        self.changes.range(start..).map(|(change, _)| change)
    }
}
