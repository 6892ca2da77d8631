//! One watcher: a place in the window, or in the store's history before it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    BATCH, Decode, Sighting,
    feed::{Feed, State},
};
use crate::gateway::store::{Revision, Store, Watch, WatchError};

/// Changes of the keys below one prefix, from one revision on.
///
/// It holds no queue of its own: what it has not taken is in the hub's window, or it fell behind.
#[derive(Debug)]
pub struct Watcher<T> {
    feed: Arc<Feed<T>>,
    state: watch::Receiver<State>,
    store: Arc<dyn Store>,
    decode: DecodeOf<T>,
    within: String,
    reached: Revision,
    source: Source,
}

/// A decoder has nothing to show.
struct DecodeOf<T>(Decode<T>);

impl<T> std::fmt::Debug for DecodeOf<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decode")
    }
}

/// Where a watcher's next changes are.
#[derive(Debug)]
enum Source {
    /// Not looked yet.
    New,
    /// In the store, until the window is reached; or for good, when its feed has ended.
    History(Watch),
    /// In the window.
    Window,
}

/// What the window has for a watcher.
enum Taken<T> {
    Changes(Vec<Arc<Sighting<T>>>),
    /// Nothing yet.
    Nothing,
    /// It no longer has what comes next.
    Gone,
}

impl<T: Send + Sync + 'static> Watcher<T> {
    pub(super) fn new(
        feed: Arc<Feed<T>>,
        store: Arc<dyn Store>,
        decode: Decode<T>,
        within: &str,
        after: Revision,
    ) -> Self {
        let state = feed.state();
        let decode = DecodeOf(decode);
        Self { feed, state, store, decode, within: within.to_owned(), reached: after, source: Source::New }
    }

    /// No change up to this revision is yet to come: what a bookmark says.
    pub fn reached(&self) -> Revision {
        self.reached
    }

    /// The next changes: waits for some. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`WatchError::Behind`] and [`WatchError::Compacted`] are a client's 410: it has to list anew.
    pub async fn next(&mut self) -> Result<Vec<Arc<Sighting<T>>>, WatchError> {
        loop {
            let changes = match &mut self.source {
                Source::New => {
                    self.begin();
                    continue;
                }
                Source::History(watch) => {
                    let batch = watch.next().await.ok_or(WatchError::Behind)??;
                    let decode = &self.decode.0;
                    let changes: Vec<_> = batch
                        .changes
                        .into_iter()
                        .map(|change| {
                            let (key, revision) = (change.key.clone(), change.revision);
                            Arc::new(Sighting { key, revision, seen: decode(change) })
                        })
                        .collect();
                    self.reached = self.reached.max(batch.reached);
                    if self.feed.is_running() && self.feed.window().floor() <= self.reached {
                        self.source = Source::Window;
                    }
                    changes
                }
                Source::Window => {
                    // Marked before the window is looked at: what comes in between wakes the wait.
                    let state = *self.state.borrow_and_update();
                    match self.take() {
                        Taken::Changes(changes) => changes,
                        Taken::Gone => return Err(WatchError::Behind),
                        Taken::Nothing if state == State::Ended => {
                            self.source = Source::History(self.store.watch(&self.within, self.reached));
                            continue;
                        }
                        Taken::Nothing => {
                            // An error means that the feed's task is gone, which the state says first.
                            let _ = self.state.changed().await;
                            continue;
                        }
                    }
                }
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn begin(&mut self) {
        let inside = self.feed.window().floor() <= self.reached;
        self.source = if inside {
            Source::Window
        } else {
            Source::History(self.store.watch(&self.within, self.reached))
        };
    }

    fn take(&mut self) -> Taken<T> {
        let window = self.feed.window();
        if window.floor() > self.reached {
            return Taken::Gone;
        }
        let mut taken = Vec::new();
        let mut reached = window.reached();
        for change in window.after(self.reached) {
            // A revision is given out whole.
            if taken.len() >= BATCH
                && taken.last().is_some_and(|last: &Arc<Sighting<T>>| last.revision < change.revision)
            {
                reached = Revision(change.revision.0 - 1);
                break;
            }
            if change.key.starts_with(&self.within) {
                taken.push(change.clone());
            }
        }
        drop(window);
        self.reached = self.reached.max(reached);
        if taken.is_empty() { Taken::Nothing } else { Taken::Changes(taken) }
    }
}
