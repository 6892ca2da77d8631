//! The seam to the cluster's state: keys and values under one growing revision, in etcd's terms.

mod etcd;
mod failure;
mod hub;
mod key;
#[cfg(any(test, feature = "laws"))]
pub mod laws;
mod record;
mod sqlite;
mod watch;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

pub use etcd::{EtcdOpenError, EtcdOptions, EtcdStore, EtcdUser};
pub use failure::{Cause, StoreError, WatchError, WriteError};
pub use hub::{BATCH, Sighting, WINDOW_BYTES, WINDOW_CHANGES, WatchHub, Watcher};
pub use key::Key;
pub use record::{Change, ChangeKind, Item, List, Listing, Read, Revision, Unreadable, Versioned};
pub use sqlite::{OpenError, SqliteStore};
pub use watch::{Batch, Watch};

/// The largest value that the embedded store takes: what etcd takes in one request by default.
pub const MAX_VALUE_BYTES: usize = 1_536 * 1024;

/// Where the objects of a cluster are kept.
///
/// Keys are paths without the deployment's prefix, such as `pods/shop/db`. Values are opaque. One counter, the
/// revision, numbers every change of any key.
///
/// # Laws
///
/// 1. **Durable.** A write that returned a revision survives `kill -9` of this process and of the engine.
/// 2. **Linearizable.** [`get`](Self::get), a [`list`](Self::list) without a revision and
///    [`current`](Self::current) see every write that returned before they were called, by whichever process.
/// 3. **Compare and set.** [`create`](Self::create) happens only where the key is absent, [`update`](Self::update)
///    and [`delete`](Self::delete) only where the key's last change is the expected revision. Of several writers that
///    expect one state, one succeeds; the others change nothing and get what is there now.
/// 4. **Whole.** A write happened entirely, under one revision, or not at all.
/// 5. **One state per list.** All items of a listing, and of the pages that continue it at its revision, are the
///    state at that revision, in the order of their keys, whatever is written meanwhile.
/// 6. **Each change once, in order.** A [`watch`](Self::watch) after a revision yields every later change of its
///    keys once, by growing revision, through any outage of the engine. A batch says up to which revision nothing is
///    missing. A watch that cannot go on says so as its last item; it never skips.
/// 7. **History is kept until it is compacted.** [`compact`](Self::compact) forgets the values that were replaced
///    up to a revision. Lists and watches that need them fail with `Compacted`; current values are untouched.
/// 8. **Time to live.** A value that was written with one is deleted by the store after that time, and not
///    before; the deletion is a change as any other. It ends at least once within twice the time and a minute.
/// 9. **Bounded.** Every call returns within seconds. While the engine is away calls fail with
///    [`StoreError::Unavailable`], and work again by themselves when it is back.
///
/// A write whose answer was lost is settled by reading the key's history: either its own change is found, or a change
/// that rules it out. Where neither is, the call fails with [`StoreError::Ambiguous`]: it may have happened, or happen
/// within moments. The caller tells its client so, or reads the key again later.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// What stands before every key where it is kept, without a slash at its end: with a slash between, prefix and
    /// key are the path that values are bound to when they are encrypted.
    fn prefix(&self) -> &str;

    /// The key's value now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the engine does not answer in time.
    async fn get(&self, key: &str) -> Result<Read, StoreError>;

    /// The keys that start with a prefix, now or at a revision.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] and [`StoreError::Future`] for a revision that is not to be had.
    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError>;

    /// Writes a key that is absent. With a time to live the key is deleted after it.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] with what is there.
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError>;

    /// Replaces the value whose last change is `expected`. The time to live is set anew, or ends without one.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] with what is there.
    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError>;

    /// Deletes the value whose last change is `expected`, and returns the deletion's own revision.
    ///
    /// Two callers that delete the same state and both lose their answers may both be told that they did it.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] with what is there.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError>;

    /// The changes after a revision of the keys that start with a prefix. Dropping the watch ends it.
    fn watch(&self, prefix: &str, after: Revision) -> Watch;

    /// Forgets values that were replaced or deleted up to `revision`. Doing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::Future`] for a revision that is yet to come.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The revision of the last change of any key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the engine does not answer in time.
    async fn current(&self) -> Result<Revision, StoreError>;

    /// Whether the engine takes reads and writes, in short time.
    ///
    /// # Errors
    /// Why not.
    async fn healthy(&self) -> Result<(), StoreError>;
}
