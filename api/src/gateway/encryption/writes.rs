//! How often each AES-GCM key was used, by all instances together, and the refusal to use one too often.
//!
//! A nonce has 96 random bits: after 2^32 values under one key two nonces are the same with a chance that NIST SP
//! 800-38D (8.3) still allows, and no more. Each instance has an entry of its own for each key in the cluster's store,
//! which says how many uses it has reserved. A block is reserved, and durable, before its first use; what is left of it
//! when the process ends counts as used. So the sum never falls below what was written.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use crypto::KeyTag;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::gateway::store::{List, Revision, Store, StoreError, Versioned, WriteError};

/// What stands before the entries. No group of resources has a name without a dot, so nothing else is stored here.
const FOLDER: &str = "muniment/key-writes/";

/// Tries to write an entry that another process of the same name writes as well.
const TRIES: u32 = 5;

/// The bounds of a key's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBounds {
    /// Uses that are reserved at once: one write of an entry for so many values. What a start may waste of a key.
    pub block: u64,
    /// From here on the key should be replaced.
    pub worn: u64,
    /// Nothing is written under the key beyond.
    pub limit: u64,
}

impl Default for WriteBounds {
    /// Half of the way leaves weeks to rotate at a thousand writes a second.
    fn default() -> Self {
        Self { block: 1 << 14, worn: 1 << 31, limit: 1 << 32 }
    }
}

/// Counts. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct KeyWrites(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    instance: String,
    bounds: WriteBounds,
    /// By fingerprint: the same key under two names is one key.
    blocks: Mutex<HashMap<String, Block>>,
    reserving: tokio::sync::Mutex<()>,
    reserved: Notify,
}

/// What this process may still use of a key without asking.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    left: u64,
    /// The key was found to be used up. Sums never fall.
    is_over: bool,
}

/// An instance's entry.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// How many uses it has reserved since the key was first used.
    reserved: u64,
}

/// How often a key was used, at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyUse {
    /// Which key.
    #[serde(flatten)]
    pub key: KeyTag,
    /// Uses that are reserved by all instances together: at least as many as there were.
    pub writes: u64,
    /// How many there may be.
    pub limit: u64,
    /// Whether the key should be replaced.
    pub worn: bool,
    /// The parts of each instance.
    pub instances: BTreeMap<String, u64>,
}

impl KeyUse {
    /// Whether nothing more is written under the key.
    pub fn is_over(&self) -> bool {
        self.writes >= self.limit
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UseError {
    /// It was used as often as it may be.
    #[error(
        "key {key} was used for {writes} values, and after {limit} two nonces of AES-GCM may be the same: put a new \
         key in the first place and run muniment keys rotate"
    )]
    Over { key: KeyTag, writes: u64, limit: u64 },
    /// An entry does not read, so nobody knows how often the key was used.
    #[error("{entry} in the cluster store does not say how often key {key} was used")]
    Malformed { entry: String, key: KeyTag },
    /// Another process writes the same entry all the time.
    #[error("another process counts as instance {0} too: each needs a name of its own")]
    SameName(String),
}

impl From<UseError> for StoreError {
    fn from(error: UseError) -> Self {
        Self::Unencrypted(error.into())
    }
}

/// The entries of one key.
struct Entries {
    own: Option<(u64, Revision)>,
    by_instance: BTreeMap<String, u64>,
}

impl Entries {
    fn sum(&self) -> u64 {
        self.by_instance.values().fold(0, |sum, reserved| sum.saturating_add(*reserved))
    }
}

impl KeyWrites {
    /// Counts in a store, below encryption, for an instance whose name no other one has.
    pub fn new(store: Arc<dyn Store>, instance: &str, bounds: WriteBounds) -> Self {
        Self(Arc::new(Inner {
            store,
            instance: instance.to_owned(),
            bounds,
            blocks: Mutex::default(),
            reserving: tokio::sync::Mutex::default(),
            reserved: Notify::new(),
        }))
    }

    /// The name of this instance.
    pub(super) fn instance(&self) -> &str {
        &self.0.instance
    }

    /// One use of a key. When this returns well, the use is in the store's sum for ever.
    pub(super) async fn take(&self, key: &KeyTag) -> Result<(), StoreError> {
        loop {
            if self.take_reserved(key) {
                return Ok(());
            }
            let _one = self.0.reserving.lock().await;
            // Who waited may find what another one reserved.
            if self.take_reserved(key) {
                return Ok(());
            }
            self.reserve(key).await?;
        }
    }

    /// How often a key was used.
    ///
    /// # Errors
    /// When the store cannot be read, or holds something else in the place of an entry.
    pub async fn of(&self, key: &KeyTag) -> Result<KeyUse, StoreError> {
        let WriteBounds { worn, limit, .. } = self.0.bounds;
        let entries = self.entries(key).await?;
        let writes = entries.sum();
        Ok(KeyUse { key: key.clone(), writes, limit, worn: writes >= worn, instances: entries.by_instance })
    }

    /// Waits until this process has reserved more, or has found a key to be used up.
    pub async fn changed(&self) {
        self.0.reserved.notified().await;
    }

    fn blocks(&self) -> MutexGuard<'_, HashMap<String, Block>> {
        self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_reserved(&self, key: &KeyTag) -> bool {
        let mut blocks = self.blocks();
        match blocks.get_mut(&key.fingerprint) {
            Some(block) if block.left > 0 => {
                block.left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Reserves a block. Of several instances that reserve the last uses at once, each looks at the sum after its own
    /// entry is durable, so that the last of them sees all: together they never use more than the limit.
    async fn reserve(&self, key: &KeyTag) -> Result<(), StoreError> {
        let limit = self.0.bounds.limit;
        let over = |writes| UseError::Over { key: key.clone(), writes, limit };
        if self.blocks().get(&key.fingerprint).is_some_and(|block| block.is_over) {
            return Err(over(limit).into());
        }
        let before = self.entries(key).await?;
        let block = self.0.bounds.block.min(limit.saturating_sub(before.sum()));
        if block > 0 {
            self.add(key, before, block).await?;
        }
        let writes = self.entries(key).await?.sum();
        let is_over = block == 0 || writes > limit;
        self.blocks()
            .insert(key.fingerprint.clone(), Block { left: if is_over { 0 } else { block }, is_over });
        self.0.reserved.notify_one();
        if is_over {
            return Err(over(writes).into());
        }
        Ok(())
    }

    async fn add(&self, key: &KeyTag, mut entries: Entries, block: u64) -> Result<(), StoreError> {
        let entry = format!("{}{}", folder(key), self.0.instance);
        for _ in 0..TRIES {
            let reserved = entries.own.map_or(0, |(reserved, _)| reserved).saturating_add(block);
            // Writing a number into memory has no way to fail.
            let value = Bytes::from(serde_json::to_vec(&Entry { reserved }).unwrap_or_default());
            let outcome = match entries.own {
                None => self.0.store.create(&entry, value, None).await,
                Some((_, modified)) => self.0.store.update(&entry, value, modified, None).await,
            };
            match outcome {
                Ok(_) => return Ok(()),
                // Another process of this name, or a write of this one whose answer was lost.
                Err(WriteError::Conflict(_)) => entries = self.entries(key).await?,
                // The value that was to be encrypted is not on its way yet: it is certain that it is not written.
                Err(WriteError::Store(StoreError::Ambiguous(cause))) => {
                    return Err(StoreError::Unavailable(cause));
                }
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Err(UseError::SameName(self.0.instance.clone()).into())
    }

    async fn entries(&self, key: &KeyTag) -> Result<Entries, StoreError> {
        let folder = folder(key);
        let listing = self.0.store.list(&List { prefix: &folder, ..List::default() }).await?;
        let mut entries = Entries { own: None, by_instance: BTreeMap::new() };
        for item in listing.items {
            let reserved = read(&item.object)
                .ok_or_else(|| UseError::Malformed { entry: item.key.to_string(), key: key.clone() })?;
            let instance = item.key[folder.len()..].to_owned();
            if instance == self.0.instance {
                entries.own = Some((reserved, item.object.modified));
            }
            entries.by_instance.insert(instance, reserved);
        }
        Ok(entries)
    }
}

fn folder(key: &KeyTag) -> String {
    format!("{FOLDER}{}/", key.fingerprint)
}

fn read(stored: &Versioned) -> Option<u64> {
    serde_json::from_slice(&stored.value).ok().map(|Entry { reserved }| reserved)
}
