//! One watch of the store for each kind of objects, shared by all who watch objects of that kind.
//!
//! A feed follows the store's changes below one prefix and keeps the last ones in memory, each decoded once. Every
//! watcher has a place in that window and takes from there: a hundred watchers cost the store one watch, and a change
//! is held once. Who begins before the window is served from the store's history until it has caught up. Who falls out
//! of the window is told so.

mod feed;
mod watcher;
mod window;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use feed::Feed;
pub use watcher::Watcher;

use super::{Change, Key, Revision, Store};

/// Changes that a feed keeps. At a thousand writes a second to one kind that is four seconds, by which a watcher may
/// be late.
pub const WINDOW_CHANGES: usize = 4096;

/// Bytes of values that a feed keeps: with large objects the window holds fewer changes, but never less than the last.
pub const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Changes that a watcher is given at once.
pub const BATCH: usize = 256;

/// One change, as the hub hands it to watchers: decoded once, shared by all.
#[derive(Debug)]
pub struct Sighting<T> {
    /// The key.
    pub key: Key,
    /// The change's number.
    pub revision: Revision,
    /// What the hub's decoder made of the change.
    pub seen: T,
}

type Decode<T> = Arc<dyn Fn(Change) -> T + Send + Sync>;

/// Shares watches of a store. `T` is what its decoder makes of a change.
pub struct WatchHub<T> {
    store: Arc<dyn Store>,
    decode: Decode<T>,
    feeds: Mutex<HashMap<String, Weak<Feed<T>>>>,
}

impl<T> fmt::Debug for WatchHub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchHub").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> WatchHub<T> {
    /// Over a store. `decode` is called once for each change that anybody watches, in order, and has to be quick.
    pub fn new(store: Arc<dyn Store>, decode: impl Fn(Change) -> T + Send + Sync + 'static) -> Self {
        Self { store, decode: Arc::new(decode), feeds: Mutex::default() }
    }

    /// Watches the keys that start with `within`, from after a revision.
    ///
    /// `kind` is the prefix that is watched for everybody, such as `pods/`, and `within` starts with it: `pods/shop/`.
    /// It returns at once: what is wrong with the revision is the watcher's first answer.
    pub fn watch(&self, kind: &str, within: &str, after: Revision) -> Watcher<T> {
        let feed = self.feed(kind, after);
        Watcher::new(feed, self.store.clone(), self.decode.clone(), within, after)
    }

    /// The running feed of a kind, or a new one that begins where its first watcher does. It ends with its last watcher.
    fn feed(&self, kind: &str, after: Revision) -> Arc<Feed<T>> {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(kind).and_then(Weak::upgrade).filter(|feed| feed.is_running()) {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let feed = Feed::start(self.store.watch(kind, after), after, self.decode.clone());
        feeds.insert(kind.to_owned(), Arc::downgrade(&feed));
        feed
    }
}

#[cfg(test)]
mod tests;
