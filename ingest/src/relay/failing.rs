//! Whether the log answers the relay, for those who watch over it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{log::LogError, retry::chain};

/// The log does not answer, or refuses. What is journaled waits; nothing is lost.
#[derive(Clone, Debug)]
pub struct Failing {
    /// What the latest try said.
    pub reason: String,
    since: Instant,
}

impl Failing {
    /// For how long no try has worked.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Notes how each try went.
#[derive(Clone, Debug)]
pub(super) struct Tries(watch::Sender<Option<Failing>>);

impl Tries {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(super) fn follow(&self) -> watch::Receiver<Option<Failing>> {
        self.0.subscribe()
    }

    /// Waits for a try and notes how it went.
    pub(super) async fn note<T>(
        &self,
        attempt: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, LogError> {
        let tried = attempt.await;
        match &tried {
            Ok(_) => {
                self.0.send_if_modified(|failing| failing.take().is_some());
            }
            Err(e) => {
                let reason = chain(e);
                self.0.send_modify(|failing| {
                    let since = failing.as_ref().map_or_else(Instant::now, |f| f.since);
                    *failing = Some(Failing { reason, since });
                });
            }
        }
        tried
    }
}
