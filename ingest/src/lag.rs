//! How far a reader is behind a log, in records and in seconds.

use std::{
    collections::VecDeque,
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    journal::Journal,
    log::{Offset, Positions},
};

/// Ends of the log that are remembered: at one in two seconds, beyond an hour behind the hour is what is said.
const MAX_SAMPLES: usize = 1_800;

/// How often a reader of the journal is measured, and so how exact the seconds are. It costs two looks at memory.
const EVERY: Duration = Duration::from_secs(1);

/// How far behind a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Entries of the log that it has not read.
    pub records: u64,
    /// For how long the oldest of them has been there, as far as it was watched.
    pub behind: Duration,
}

/// Where the log ended, and when: the age of an entry is that of the first end behind it.
#[derive(Debug, Default)]
pub struct Ends(VecDeque<Sample>);

#[derive(Debug)]
struct Sample {
    at: Instant,
    ends: Positions,
}

impl Ends {
    /// How far a reader that has reached `reached` is behind a log that ends at `ends` now.
    pub fn measure(&mut self, ends: Positions, reached: &Positions, now: Instant) -> Lag {
        let records = missing(&ends, reached);
        self.0.push_back(Sample { at: now, ends });
        while self.0.len() > MAX_SAMPLES {
            self.0.pop_front();
        }
        while self.0.front().is_some_and(|sample| missing(&sample.ends, reached) == 0) {
            self.0.pop_front();
        }
        let oldest = self.0.front().map(|sample| now.saturating_duration_since(sample.at));
        Lag { records, behind: oldest.unwrap_or_default() }
    }

    /// Forgets partitions that are another reader's now.
    pub fn keep_only(&mut self, mine: &Positions) {
        for sample in &mut self.0 {
            sample.ends.retain(|partition, _| mine.contains_key(partition));
        }
    }
}

/// Measures for ever how far whoever goes on at `next` is behind the journal.
pub(crate) async fn of_journal(
    journal: Journal,
    next: impl Fn() -> Offset,
    tell: impl Fn(Lag),
) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let at = |offset| Positions::from([(0, offset)]);
    let mut seen = Ends::default();
    loop {
        ticks.tick().await;
        // Read first: what is passed in between is no lag.
        let end = journal.bounds().end;
        tell(seen.measure(at(end), &at(next()), Instant::now()));
    }
}

fn missing(ends: &Positions, reached: &Positions) -> u64 {
    ends.iter().map(|(p, end)| end.0.saturating_sub(reached.get(p).map_or(0, |at| at.0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Positions {
        Positions::from([(0, Offset(offset))])
    }

    #[test]
    fn the_oldest_end_that_is_not_reached_tells_the_seconds() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut ends = Ends::default();
        assert_eq!(ends.measure(at(10), &at(10), after(0)), Lag::default());
        ends.measure(at(20), &at(10), after(300));
        let lag = ends.measure(at(30), &at(15), after(310));
        assert_eq!(lag, Lag { records: 15, behind: Duration::from_secs(10) }, "idle time before is no lag");
        assert_eq!(ends.measure(at(30), &at(25), after(320)).behind.as_secs(), 10);
        assert_eq!(ends.measure(at(30), &at(30), after(330)), Lag::default());
    }

    #[test]
    fn a_reader_that_never_moves_is_further_behind_each_time() {
        let begun = Instant::now();
        let mut ends = Ends::default();
        for seconds in [0, 60, 120] {
            let lag = ends.measure(at(5), &at(0), begun + Duration::from_secs(seconds));
            assert_eq!(lag, Lag { records: 5, behind: Duration::from_secs(seconds) });
        }
    }

    #[test]
    fn a_partition_that_another_one_reads_now_is_no_lag_of_this_one() {
        let begun = Instant::now();
        let mut ends = Ends::default();
        let both = Positions::from([(0, Offset(5)), (1, Offset(9))]);
        ends.measure(both, &Positions::from([(0, Offset(5)), (1, Offset(0))]), begun);
        ends.keep_only(&at(5));
        assert_eq!(ends.measure(at(5), &at(5), begun + Duration::from_secs(9)), Lag::default());
    }
}
