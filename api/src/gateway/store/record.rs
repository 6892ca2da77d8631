//! What a store holds and tells: values with their revisions, listings, changes.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;

/// The number of a change. It grows with every change of any key, and is a client's `resourceVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// As the engines count: etcd's and SQLite's integers have 63 bits. A number that a client made up and that is
    /// larger stands for the largest, which is in the future as well.
    pub(super) fn signed(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Of an engine's integer, which is never negative.
    pub(super) fn of(signed: i64) -> Self {
        Self(u64::try_from(signed).unwrap_or(0))
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and the changes that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes as they were written.
    pub value: Bytes,
    /// The change that created the key.
    pub created: Revision,
    /// The change that wrote this value: what an update or deletion has to expect.
    pub modified: Revision,
    /// Whether it should be written again even if it stays the same: under another key than it lies under now.
    pub stale: bool,
}

impl Versioned {
    /// A value as it lies in a store.
    pub fn new(value: Bytes, created: Revision, modified: Revision) -> Self {
        Self { value, created, modified, stale: false }
    }
}

/// A value that is there and cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of {key} cannot be decrypted: {reason}")]
pub struct Unreadable {
    /// Its key.
    pub key: Key,
    /// The change that wrote it: what its deletion has to expect.
    pub modified: Revision,
    /// Why not.
    pub reason: Arc<str>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Nothing when the key is absent.
    pub value: Option<Versioned>,
    /// The state that was read.
    pub revision: Revision,
}

/// What to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct List<'a> {
    /// Keys that start with this text.
    pub prefix: &'a str,
    /// The state at this revision; without one the newest.
    pub at: Option<Revision>,
    /// Only keys that are greater than this one: the last key of the page before.
    pub after: Option<&'a str>,
    /// So many items at most; all without a limit.
    pub limit: Option<usize>,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Key,
    /// Its value at the listing's revision.
    pub object: Versioned,
}

/// A listing, or one page of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In the order of their keys.
    pub items: Vec<Item>,
    /// The state that was listed: the next page asks for it, and a watch begins after it.
    pub revision: Revision,
    /// How many keys follow behind this page.
    pub remaining: u64,
    /// What is there as well and cannot be decrypted, in the order of the keys.
    pub unreadable: Vec<Unreadable>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was absent before.
    Created,
    /// It had another value before.
    Modified,
    /// It is absent now.
    Deleted,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The change's number.
    pub revision: Revision,
    /// What happened.
    pub kind: ChangeKind,
    /// The value after the change; nothing for a deletion.
    pub value: Option<Bytes>,
    /// The value before the change; nothing for a creation, and where etcd has compacted it meanwhile.
    pub previous: Option<Bytes>,
}

impl Change {
    /// The memory that the change holds, about.
    pub fn bytes(&self) -> usize {
        let of = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + self.key.len() + of(&self.value) + of(&self.previous)
    }
}
