//! When what was added is committed: soon while the indexer keeps up, rarely while it does not.

use std::time::{Duration, Instant};

/// How long what arrived may wait for its commit when the indexer keeps up. Together with a commit and the
/// stages before it this stays under the two seconds in which an event has to be found.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// The same while there is a backlog, where freshness cannot be had but larger segments save merging.
const COMMIT_BACKLOG_EVERY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the oldest of what is not committed was added.
    added: Option<Instant>,
    /// How long the last commit took. One over many days takes seconds: then as much is read between two.
    took: Duration,
    is_behind: bool,
}

impl Pace {
    /// Something was added.
    pub(super) fn added(&mut self, now: Instant) {
        self.added.get_or_insert(now);
    }

    /// Whether there is more than can be committed in time.
    pub(super) const fn behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// Whether what was added has waited long enough.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let every = if self.is_behind { COMMIT_BACKLOG_EVERY } else { COMMIT_EVERY };
        self.added.is_some_and(|added| now.saturating_duration_since(added) >= every.max(self.took))
    }

    /// A commit begins: whether anything was added since the last.
    pub(super) const fn begin(&mut self) -> bool {
        self.added.take().is_some()
    }

    /// It is done.
    pub(super) const fn done(&mut self, took: Duration) {
        self.took = took;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::POLL_WAIT, *};

    /// In which an event has to be found.
    const FRESH: Duration = Duration::from_secs(2);

    /// How long after its arrival an event is committed, by an indexer that polls and whose commits take this long.
    fn found_after(pace: &mut Pace, arrived: Instant, commit: Duration) -> Duration {
        pace.added(arrived);
        let mut now = arrived;
        while !pace.is_due(now) {
            now += POLL_WAIT;
        }
        assert!(pace.begin());
        pace.done(commit);
        now + commit - arrived
    }

    #[test]
    fn an_event_is_committed_within_two_seconds_of_its_arrival() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        // Alone, and again beside commits that take as long as an indexer that keeps up may need.
        for (second, commit) in [(0, 5), (10, 700), (20, 700), (30, 5)] {
            let arrived = begun + Duration::from_secs(second);
            let took = found_after(&mut pace, arrived, Duration::from_millis(commit));
            assert!(took < FRESH, "{took:?} with commits of {commit} ms");
        }
    }

    #[test]
    fn a_backlog_is_committed_less_often_and_no_sooner_than_the_last_commit_took() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let after = |millis| begun + Duration::from_millis(millis);
        pace.behind(true);
        pace.added(begun);
        assert!(!pace.is_due(after(4_999)) && pace.is_due(after(5_000)));
        assert!(pace.begin() && !pace.begin());
        pace.done(Duration::from_secs(7));
        pace.behind(false);
        pace.added(after(5_000));
        assert!(!pace.is_due(after(11_999)) && pace.is_due(after(12_000)));
    }

    #[test]
    fn nothing_is_due_when_nothing_was_added() {
        let pace = Pace::default();
        assert!(!pace.is_due(Instant::now() + Duration::from_secs(3_600)));
    }
}
