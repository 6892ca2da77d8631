//! Sets of sequence numbers as ranges: what was seen of a boot, and so what was not.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// A set of numbers, kept as sorted ranges that neither overlap nor touch.
///
/// Its JSON form is `[[1,400],[402,900]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds every number of `range`; adding what is there already changes nothing.
    pub fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut lo, mut hi) = range.into_inner();
        if lo > hi {
            return;
        }
        let from = self.0.partition_point(|&(_, end)| end.saturating_add(1) < lo);
        let to = self.0.partition_point(|&(start, _)| start <= hi.saturating_add(1));
        if from < to {
            lo = lo.min(self.0[from].0);
            hi = hi.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(lo, hi)]);
    }

    /// Adds every number of `other`.
    pub fn extend(&mut self, other: &Self) {
        for &(lo, hi) in &other.0 {
            self.insert(lo..=hi);
        }
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.0.iter().map(|&(lo, hi)| lo..=hi)
    }

    /// How many numbers the set holds.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(lo, hi)| hi - lo + 1).sum()
    }

    /// Whether the set holds `n`.
    pub fn contains(&self, n: u64) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < n);
        self.0.get(at).is_some_and(|&(start, _)| start <= n)
    }

    /// The smallest number.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|r| r.0)
    }

    /// The largest number.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|r| r.1)
    }

    /// What lies in `within` and not in the set, ascending.
    pub fn holes(&self, within: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let (mut next, end) = within.into_inner();
        let mut holes = Vec::new();
        for &(lo, hi) in &self.0 {
            if next > end {
                break;
            }
            if lo > next {
                holes.push(next..=end.min(lo - 1));
            }
            next = next.max(hi.saturating_add(1));
        }
        if next <= end {
            holes.push(next..=end);
        }
        holes
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut ranges = Self::default();
        for n in numbers {
            ranges.insert(n..=n);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_holds(inserts in prop::collection::vec((0u64..60, 0u64..8), 0..40)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (lo, len) in inserts {
                ranges.insert(lo..=lo + len);
                model.extend(lo..=lo + len);
            }
            prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!(ranges.count(), model.len() as u64);
            prop_assert!((0..70).all(|n| ranges.contains(n) == model.contains(&n)));
            prop_assert!(ranges.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "touching: {:?}", ranges);
            let holes: BTreeSet<u64> = ranges.holes(5..=50).into_iter().flatten().collect();
            prop_assert_eq!(holes, (5..=50).filter(|n| !model.contains(n)).collect::<BTreeSet<_>>());
        }
    }
}
