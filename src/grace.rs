//! How the time of a shutdown is shared out.

use std::time::Duration;

/// The longest that the journal, and work that blocks, may each take once the tasks have ended.
const MAX_CLOSE: Duration = Duration::from_secs(5);

/// One grace period: the tasks end, then the journal is closed, then work that blocks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    /// For the tasks, all phases of them.
    pub(crate) tasks: Duration,
    /// For requests that are open when it begins. Their phase has half of `tasks`: what hangs is cut off before that,
    /// so that the listener ends within it.
    pub(crate) requests: Duration,
    /// For closing the journal, and as much again for work that blocks.
    pub(crate) close: Duration,
}

impl Grace {
    /// Shares out `whole`.
    pub(crate) fn of(whole: Duration) -> Self {
        let close = MAX_CLOSE.min(whole / 5);
        let tasks = whole - 2 * close;
        Self { tasks, requests: tasks * 2 / 5, close }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_ends_within_the_whole_and_the_tasks_have_most_of_it() {
        for whole in [0, 1, 7, 999, 25_000, 120_000].map(Duration::from_millis) {
            let Grace { tasks, requests, close } = Grace::of(whole);
            assert_eq!(tasks + close + close, whole);
            assert!(tasks >= 3 * close, "{tasks:?} {close:?}");
            assert!(requests < tasks / 2 || whole.is_zero(), "{requests:?} {tasks:?}");
        }
        let seconds = Duration::from_secs;
        assert_eq!(
            Grace::of(seconds(25)),
            Grace { tasks: seconds(15), requests: seconds(6), close: seconds(5) }
        );
    }
}
