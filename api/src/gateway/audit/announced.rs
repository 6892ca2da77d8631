//! A store that is told of a change only when the disk knows who makes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ingest::identity::ValueDigests;

use super::{change::Change, opening::Opening};
use crate::gateway::store::{List, Listing, Read, Revision, Store, StoreError, Watch, WriteError};

/// Announces every change that is made for a request in that request's records, before it is made.
///
/// It stands above everything that changes values on their way, so that what it announces can be compared with what
/// is read later. What is changed for nobody's request is passed on.
#[derive(Clone, Debug)]
pub struct AnnouncedStore {
    below: Arc<dyn Store>,
    digests: ValueDigests,
    /// The newest revision that was seen: what is created now comes later.
    newest: Arc<AtomicU64>,
}

impl AnnouncedStore {
    /// On top of a store.
    pub fn new(below: Arc<dyn Store>, digests: ValueDigests) -> Self {
        Self { below, digests, newest: Arc::default() }
    }

    fn seen(&self, revision: Revision) -> Revision {
        self.newest.fetch_max(revision.0, Ordering::Relaxed);
        revision
    }

    async fn announce(&self, key: &str, from: Revision, value: Option<&Bytes>) -> Result<(), StoreError> {
        let Some(opening) = Opening::current() else { return Ok(()) };
        let digest = value.map(|value| self.digests.of(value));
        let change = Change { key: key.to_owned(), from, digest };
        opening.announce(&change).await.map_err(StoreError::Unrecorded)
    }
}

#[async_trait]
impl Store for AnnouncedStore {
    fn prefix(&self) -> &str {
        self.below.prefix()
    }

    async fn get(&self, key: &str) -> Result<Read, StoreError> {
        let read = self.below.get(key).await?;
        self.seen(read.revision);
        Ok(read)
    }

    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        self.below.list(list).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError> {
        let newest = Revision(self.newest.load(Ordering::Relaxed));
        self.announce(key, newest, Some(&value)).await?;
        self.below.create(key, value, ttl).await.map(|revision| self.seen(revision))
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        self.announce(key, expected, Some(&value)).await?;
        self.below.update(key, value, expected, ttl).await.map(|revision| self.seen(revision))
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        self.announce(key, expected, None).await?;
        self.below.delete(key, expected).await.map(|revision| self.seen(revision))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        self.below.watch(prefix, after)
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
