//! A store whose values are encrypted before they reach the one below.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crypto::{EncryptionTransformer, Plain};
use futures::stream;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};

use super::{
    place::resource_of,
    writes::{KeyUse, KeyWrites},
};
use crate::gateway::store::{
    Batch, Change, ChangeKind, List, Listing, Read, Revision, Store, StoreError, Unreadable, Versioned,
    Watch, WatchError, WriteError,
};

/// Encrypts values as the configuration in force says, each bound to its key, and decrypts them.
///
/// A value that cannot be decrypted is [`StoreError::Unreadable`] where it was asked for alone, is set apart in
/// listings, and ends a watch. Nothing is written that the configuration would encrypt and that could not be, or under
/// a key that was used too often.
#[derive(Clone, Debug)]
pub struct EncryptedStore {
    below: Arc<dyn Store>,
    transformer: watch::Receiver<Arc<EncryptionTransformer>>,
    writes: KeyWrites,
    /// Held by each write from before it is sealed until it has an outcome.
    under_way: Arc<RwLock<()>>,
}

/// A value on its way to the store below.
pub(super) struct Sealed {
    value: Bytes,
    _under_way: OwnedRwLockReadGuard<()>,
}

impl EncryptedStore {
    /// On top of a store, as the configuration in force says; the uses of keys are counted in `writes`.
    pub fn new(
        below: Arc<dyn Store>,
        transformer: watch::Receiver<Arc<EncryptionTransformer>>,
        writes: KeyWrites,
    ) -> Self {
        Self { below, transformer, writes, under_way: Arc::default() }
    }

    /// Waits until no write is under way that was sealed under another configuration than the one in force, or under a
    /// key that a KMS used before. Writes wait meanwhile.
    pub(super) async fn settled(&self) {
        drop(self.under_way.write().await);
    }

    /// The name of this process among those that share the store.
    pub(super) fn instance(&self) -> &str {
        self.writes.instance()
    }

    /// What is in force, now and after each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<EncryptionTransformer>> {
        self.transformer.clone()
    }

    /// How often each key was used that now writes and may be used so often and no more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn key_uses(&self) -> Result<Vec<KeyUse>, StoreError> {
        let mut uses = Vec::new();
        for key in self.transformer().all_counted() {
            uses.push(self.writes.of(&key).await?);
        }
        Ok(uses)
    }

    /// Waits until keys have been used further, or others are in force.
    pub async fn keys_used(&self) {
        let mut transformer = self.transformer.clone();
        transformer.mark_unchanged();
        tokio::select! {
            () = self.writes.changed() => {}
            Ok(()) = transformer.changed() => {}
        }
    }

    /// The store below, whose values are encrypted.
    pub(super) fn below(&self) -> &Arc<dyn Store> {
        &self.below
    }

    /// What counts.
    #[cfg(test)]
    pub(super) fn writes(&self) -> &KeyWrites {
        &self.writes
    }

    /// What is in force now.
    pub(super) fn transformer(&self) -> Arc<EncryptionTransformer> {
        self.transformer.borrow().clone()
    }

    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.below.prefix())
    }

    pub(super) async fn seal(&self, key: &str, value: Bytes) -> Result<Sealed, StoreError> {
        let _under_way = self.under_way.clone().read_owned().await;
        let (resource, transformer) = (resource_of(key), self.transformer());
        if transformer.passes(resource, &value) {
            return Ok(Sealed { value, _under_way });
        }
        if let Some(counted) = transformer.counted(resource) {
            self.writes.take(counted).await?;
        }
        let sealed = transformer.transform_to_storage(resource, &self.path(key), &value);
        let value = sealed.map_err(|error| StoreError::Unencrypted(error.into()))?.into();
        Ok(Sealed { value, _under_way })
    }

    /// The value, and whether it should be written anew.
    pub(super) async fn open(
        &self,
        key: &str,
        modified: Revision,
        stored: &Bytes,
    ) -> Result<(Bytes, bool), Unreadable> {
        let (resource, transformer) = (resource_of(key), self.transformer());
        if transformer.passes(resource, stored) {
            return Ok((stored.clone(), false));
        }
        match transformer.transform_from_storage(resource, &self.path(key), stored).await {
            Ok(Plain { mut bytes, stale }) => Ok((std::mem::take(&mut *bytes).into(), stale)),
            Err(error) => Err(Unreadable { key: key.into(), modified, reason: error.to_string().into() }),
        }
    }

    async fn open_versioned(&self, key: &str, value: Versioned) -> Result<Versioned, Unreadable> {
        let (bytes, stale) = self.open(key, value.modified, &value.value).await?;
        Ok(Versioned { value: bytes, stale, ..value })
    }

    async fn open_read(&self, key: &str, read: Read) -> Result<Read, StoreError> {
        let value = match read.value {
            Some(value) => Some(self.open_versioned(key, value).await?),
            None => None,
        };
        Ok(Read { value, ..read })
    }

    /// The outcome of a write; where somebody else was faster, with what is there in the clear.
    async fn opened(&self, key: &str, outcome: Result<Revision, WriteError>) -> Result<Revision, WriteError> {
        match outcome {
            Err(WriteError::Conflict(read)) => Err(WriteError::Conflict(self.open_read(key, read).await?)),
            outcome => outcome,
        }
    }

    async fn open_batch(&self, batch: Batch) -> Result<Batch, WatchError> {
        let mut changes = Vec::with_capacity(batch.changes.len());
        for change in batch.changes {
            changes.push(self.open_change(change).await.map_err(StoreError::from)?);
        }
        Ok(Batch { changes, ..batch })
    }

    async fn open_change(&self, change: Change) -> Result<Change, Unreadable> {
        let value = match &change.value {
            Some(value) => Some(self.open(&change.key, change.revision, value).await?.0),
            None => None,
        };
        let previous = match &change.previous {
            // What was there before and could not be read by anybody is as good as unknown.
            Some(previous) => self.open(&change.key, change.revision, previous).await.ok().map(|open| open.0),
            None => None,
        };
        debug_assert!(value.is_some() || change.kind == ChangeKind::Deleted, "only deletions have no value");
        Ok(Change { value, previous, ..change })
    }
}

#[async_trait]
impl Store for EncryptedStore {
    fn prefix(&self) -> &str {
        self.below.prefix()
    }

    async fn get(&self, key: &str) -> Result<Read, StoreError> {
        let read = self.below.get(key).await?;
        self.open_read(key, read).await
    }

    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        let listing = self.below.list(list).await?;
        let (mut items, mut unreadable) = (Vec::with_capacity(listing.items.len()), Vec::new());
        for mut item in listing.items {
            match self.open_versioned(&item.key, item.object).await {
                Ok(object) => {
                    item.object = object;
                    items.push(item);
                }
                Err(error) => unreadable.push(error),
            }
        }
        Ok(Listing { items, unreadable, ..listing })
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError> {
        let sealed = self.seal(key, value).await?;
        let outcome = self.below.create(key, sealed.value.clone(), ttl).await;
        drop(sealed);
        self.opened(key, outcome).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        let sealed = self.seal(key, value).await?;
        let outcome = self.below.update(key, sealed.value.clone(), expected, ttl).await;
        drop(sealed);
        self.opened(key, outcome).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        let outcome = self.below.delete(key, expected).await;
        self.opened(key, outcome).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        let (store, watch) = (self.clone(), self.below.watch(prefix, after));
        // A watch ends after its first error.
        Watch::new(stream::unfold(Some(watch), move |watch| {
            let store = store.clone();
            async move {
                let mut watch = watch?;
                let opened = match watch.next().await? {
                    Ok(batch) => store.open_batch(batch).await,
                    Err(error) => Err(error),
                };
                let rest = opened.is_ok().then_some(watch);
                Some((opened, rest))
            }
        }))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.below.compact(revision).await
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        self.below.current().await
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        self.below.healthy().await
    }
}
