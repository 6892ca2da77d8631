//! Which offsets of the journal wait for the recorders, and how far these must come.

use crate::log::{Offset, Positions};

/// What the journal keeps, in two steps: everything before `marked` is in the ledger as soon as the recorders are
/// at `ends`; what came later waits for the next look at the log's ends.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Appended since the last mark.
    appended: Option<Offset>,
    marked: Option<(Offset, Positions)>,
    released: Option<Offset>,
}

impl Held {
    /// Whether nothing waits for the recorders.
    pub(super) const fn is_empty(&self) -> bool {
        self.appended.is_none() && self.marked.is_none()
    }

    /// Whether a look at the log may let the journal forget something.
    pub(super) const fn wants_look(&self) -> bool {
        !self.is_empty() || self.released.is_some()
    }

    /// Everything before `next` is in the log, on one replica.
    pub(super) const fn appended(&mut self, next: Offset) {
        self.appended = Some(next);
    }

    /// Everything before `next` may be forgotten.
    pub(super) const fn safe(&mut self, next: Offset) {
        self.released = Some(next);
    }

    /// The log's partitions end at `ends`, and the recorders had published `published` before.
    ///
    /// A position beyond the end is not believed: a recorder that had not yet noticed that the log was made anew
    /// published where it was in the former one.
    pub(super) fn seen(&mut self, ends: Positions, published: &Positions) {
        let believed: Positions =
            published.iter().filter(|&(p, at)| ends.get(p) >= Some(at)).map(|(p, at)| (*p, *at)).collect();
        let there = |ends: &Positions| {
            ends.iter().all(|(p, end)| *end == Offset(0) || believed.get(p).is_some_and(|at| at >= end))
        };
        if let Some((next, _)) = self.marked.take_if(|(_, ends)| there(ends)) {
            self.released = Some(next);
        }
        if self.marked.is_none() {
            self.marked = self.appended.take().map(|next| (next, ends));
        }
        // The recorders may have been there when the log was looked at.
        if let Some((next, _)) = self.marked.take_if(|(_, ends)| there(ends)) {
            self.released = Some(next);
        }
    }

    /// What the journal may forget up to, since the last call.
    pub(super) const fn take_released(&mut self) -> Option<Offset> {
        self.released.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(first: u64, second: u64) -> Positions {
        [(0, Offset(first)), (1, Offset(second))].into()
    }

    #[test]
    fn a_record_is_held_until_every_partition_is_recorded_to_where_it_ended() {
        let mut held = Held::default();
        held.appended(Offset(10));
        held.seen(at(6, 4), &at(6, 3));
        assert_eq!(held.take_released(), None);
        held.appended(Offset(20));
        held.seen(at(12, 8), &at(9, 4));
        assert_eq!(held.take_released(), Some(Offset(10)));
        assert!(!held.is_empty());
        held.seen(at(12, 8), &at(12, 8));
        assert_eq!(held.take_released(), Some(Offset(20)));
        assert!(held.is_empty());
    }

    #[test]
    fn a_position_beyond_the_end_is_of_a_former_log_and_lets_go_of_nothing() {
        let mut held = Held::default();
        held.appended(Offset(50));
        held.seen(at(30, 20), &at(1_000, 20));
        held.seen(at(31, 20), &at(1_000, 20));
        assert_eq!(held.take_released(), None);
        held.seen(at(31, 20), &at(31, 20));
        assert_eq!(held.take_released(), Some(Offset(50)));
    }

    #[test]
    fn an_empty_partition_needs_no_position() {
        let mut held = Held::default();
        held.appended(Offset(10));
        held.seen(at(6, 0), &[(0, Offset(6))].into());
        assert_eq!(held.take_released(), Some(Offset(10)));
    }
}
