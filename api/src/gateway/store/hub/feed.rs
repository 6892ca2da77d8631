//! The one watch of a kind, and the window that it fills.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Decode, Revision, Sighting, window::Window};
use crate::gateway::store::{Batch, Watch, WatchError};

/// How a feed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has come so far.
    Reached(Revision),
    /// The store's watch ended: each watcher goes on by itself, and is told why by the store.
    Ended,
}

/// Ends with its last owner.
#[derive(Debug)]
pub(super) struct Feed<T> {
    window: Arc<Mutex<Window<T>>>,
    state: watch::Receiver<State>,
    _ends_task: DropGuard,
}

impl<T: Send + Sync + 'static> Feed<T> {
    pub(super) fn start(watch: Watch, after: Revision, decode: Decode<T>) -> Arc<Self> {
        let window = Arc::new(Mutex::new(Window::new(after)));
        let (told, state) = watch::channel(State::Reached(after));
        let running = CancellationToken::new();
        let filler = Filler { window: window.clone(), told, decode };
        tokio::spawn(running.clone().run_until_cancelled_owned(filler.run(watch)));
        Arc::new(Self { window, state, _ends_task: running.drop_guard() })
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window<T>> {
        lock(&self.window)
    }

    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    pub(super) fn is_running(&self) -> bool {
        *self.state.borrow() != State::Ended
    }
}

fn lock<T>(window: &Mutex<Window<T>>) -> MutexGuard<'_, Window<T>> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Filler<T> {
    window: Arc<Mutex<Window<T>>>,
    told: watch::Sender<State>,
    decode: Decode<T>,
}

impl<T> Filler<T> {
    async fn run(self, mut watch: Watch) {
        while let Some(batch) = watch.next().await {
            match batch {
                Ok(batch) => self.fill(batch),
                Err(error) => {
                    if !matches!(error, WatchError::Behind) {
                        tracing::debug!(error = %error, "a shared watch ended");
                    }
                    break;
                }
            }
        }
        self.told.send_replace(State::Ended);
    }

    fn fill(&self, batch: Batch) {
        // Decoded before the lock is taken: watchers do not wait for it.
        let decoded: Vec<_> = batch
            .changes
            .into_iter()
            .map(|change| {
                let (key, revision, bytes) = (change.key.clone(), change.revision, change.bytes());
                (Sighting { key, revision, seen: (self.decode)(change) }, bytes)
            })
            .collect();
        let mut window = lock(&self.window);
        for (change, bytes) in decoded {
            window.push(change, bytes);
        }
        window.reach(batch.reached);
        drop(window);
        self.told.send_replace(State::Reached(batch.reached));
    }
}
