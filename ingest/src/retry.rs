//! The one way to try again: waits that double up to a bound, shortened at random, and end at once on cancel.

use std::{fmt, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

/// How long to wait before the next try.
///
/// Waits double from the first to the longest. Each is shortened by up to a half at random, so that those who
/// lost one server together do not come back to it together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full.saturating_mul(2);
        let random = Uuid::new_v4().as_bytes()[0];
        full - full.mul_f64(f64::from(random) / 512.0)
    }

    /// Begins anew: what was tried has worked.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Tells of a trouble once, again when it changes, and once when it is over.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    current: Option<String>,
}

impl Trouble {
    /// None yet, of what is named `what` in the messages.
    pub const fn new(what: &'static str) -> Self {
        Self { what, current: None }
    }

    /// A try failed.
    pub fn failed(&mut self, error: &dyn std::error::Error) {
        let text = chain(error);
        if self.current.as_ref() != Some(&text) {
            warn!(error = %text, "{}: retrying", self.what);
            self.current = Some(text);
        }
    }

    /// A try worked.
    pub fn over(&mut self) {
        if self.current.take().is_some() {
            info!("{}: works again", self.what);
        }
    }
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Why [`retry`] gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Stopped<E: fmt::Debug + std::error::Error + 'static> {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The last error, of a kind that trying again does not mend.
    #[error("trying again does not help")]
    Permanent(#[source] E),
}

/// Tries `attempt` until it works, `passing` says that its error will not pass, or `cancel` is cancelled.
///
/// A cancelled `attempt` is dropped where it waits. "Retrying" is logged once, and again only when the error changes.
///
/// # Errors
/// See [`Stopped`].
pub async fn retry<T, E: std::error::Error + 'static, A: Future<Output = Result<T, E>>>(
    what: &'static str,
    mut backoff: Backoff,
    cancel: &CancellationToken,
    passing: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> A,
) -> Result<T, Stopped<E>> {
    let mut trouble = Trouble::new(what);
    loop {
        let tried = cancel.run_until_cancelled(attempt()).await;
        match tried.ok_or(Stopped::Cancelled)? {
            Ok(value) => {
                trouble.over();
                return Ok(value);
            }
            Err(e) if passing(&e) => trouble.failed(&e),
            Err(e) => return Err(Stopped::Permanent(e)),
        }
        cancel.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.ok_or(Stopped::Cancelled)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);
    const SHORT: Backoff = Backoff::new(Duration::from_millis(4), Duration::from_millis(8));
    const ENDLESS: Backoff = Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600));

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for full in [100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis) {
            let wait = backoff.wait();
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[tokio::test]
    async fn what_fails_for_a_while_works_in_the_end() {
        let mut tries = 0;
        let attempt = || {
            tries += 1;
            std::future::ready(if tries < 5 {
                Err(Error::from(ErrorKind::ConnectionRefused))
            } else {
                Ok(tries)
            })
        };
        let started = std::time::Instant::now();
        let cancel = CancellationToken::new();
        let tried = retry("a test", SHORT, &cancel, |_| true, attempt).await;
        assert_eq!(tried.unwrap(), 5);
        assert!(started.elapsed() >= Duration::from_millis(2 + 4 + 4 + 4));
    }

    #[tokio::test]
    async fn an_error_that_will_not_pass_ends_it_at_once() {
        let attempt = || async { Err::<(), _>(Error::from(ErrorKind::PermissionDenied)) };
        let cancel = CancellationToken::new();
        let passing = |e: &Error| e.kind() != ErrorKind::PermissionDenied;
        let tried = retry("a test", ENDLESS, &cancel, passing, attempt).await;
        assert!(matches!(tried, Err(Stopped::Permanent(_))));
    }

    #[tokio::test]
    async fn cancelling_ends_a_try_and_a_wait() {
        let cancel = CancellationToken::new();
        let never = std::future::pending::<Result<(), Error>>;
        let fails = || async { Err::<(), _>(Error::from(ErrorKind::ConnectionRefused)) };
        let trying = retry("a test", ENDLESS, &cancel, |_| true, never);
        let waiting = retry("a test", ENDLESS, &cancel, |_| true, fails);
        let cancelled = async {
            tokio::task::yield_now().await;
            cancel.cancel();
        };
        let (trying, waiting, ()) = tokio::join!(trying, waiting, cancelled);
        assert!(matches!((trying, waiting), (Err(Stopped::Cancelled), Err(Stopped::Cancelled))));
    }
}
