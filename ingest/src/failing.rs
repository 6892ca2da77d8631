//! Whether what is written to takes what it is given, for those who watch over it.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::retry::chain;

/// A log or an output does not answer, or refuses. What is journaled waits.
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
pub(crate) struct Tries(watch::Sender<Option<Failing>>);

impl Tries {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Option<Failing>> {
        self.0.subscribe()
    }

    /// Waits for a try and notes how it went.
    pub(crate) async fn note<T, E: Error + 'static>(
        &self,
        attempt: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
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
