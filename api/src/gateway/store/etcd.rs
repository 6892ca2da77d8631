//! The cluster store in etcd, in kube-apiserver's layout: both read and write the same objects.

mod calls;
mod failure;
mod lease;
mod list;
mod options;
mod settle;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use calls::Calls;
use etcd_client::{Client, GetOptions, KeyValue, KvClient};
use failure::Fault;
use lease::Leases;
pub use options::{EtcdOpenError, EtcdOptions, EtcdUser};

use super::{Key, List, Listing, Read, Revision, Store, StoreError, Versioned, Watch, WriteError};

/// Below the key that kube-apiserver asks for when it wants to know whether etcd works. It need not be there.
const HEALTH: &str = "health";

/// A store in etcd. Any number of gateways and kube-apiservers may share it.
///
/// Dropping it ends its watches; leases that it took run out by themselves.
#[derive(Debug)]
pub struct EtcdStore {
    etcd: Etcd,
    leases: Leases,
}

/// What reading and writing have in common. Cloning shares the connections.
#[derive(Clone, Debug)]
struct Etcd {
    calls: Calls,
    prefix: Arc<str>,
    /// Whether the servers can be asked for the progress of a watch.
    progress: bool,
}

impl EtcdStore {
    /// Connects, and makes sure that etcd answers these credentials.
    ///
    /// # Errors
    /// When the options cannot be used, or etcd does not answer in time or refuses.
    pub async fn open(options: &EtcdOptions) -> Result<Self, EtcdOpenError> {
        let connect = options.connect().await?;
        let limit = options.timeout;
        let connected = tokio::time::timeout(limit, Client::connect(&options.servers, Some(connect))).await;
        let client = connected
            .map_err(|_| Fault::silent())
            .and_then(|connected| connected.map_err(Fault::from))
            .map_err(|fault| EtcdOpenError::Store(fault.undone()))?;
        let calls = Calls::new(client, limit, options.servers.len());
        let progress = calls.can_tell_progress().await;
        let etcd = Etcd { calls, prefix: options.prefix.trim_end_matches('/').into(), progress };
        let store = Self { etcd, leases: Leases::default() };
        store.healthy().await?;
        Ok(store)
    }
}

impl Etcd {
    /// Where a key, or a prefix of keys, is in etcd.
    fn path(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), b"/", key.as_bytes()].concat()
    }

    /// The key of a path. What others put there under names that are not UTF-8 is shown as well as can be.
    fn key(&self, path: &[u8]) -> Key {
        Key::from(&*String::from_utf8_lossy(path.get(self.prefix.len() + 1..).unwrap_or_default()))
    }

    async fn get(&self, key: &str, at: Option<Revision>) -> Result<Read, Fault> {
        let options = at.map(|at| GetOptions::new().with_revision(at.signed()));
        let call = |mut kv: KvClient| {
            let (path, options) = (self.path(key), options.clone());
            async move { kv.get(path, options).await }
        };
        let mut response = self.calls.read(call).await?;
        let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        let value = response.take_kvs().pop().map(versioned);
        Ok(Read { value, revision: Revision::of(revision) })
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        Ok(self.get(HEALTH, None).await.map_err(Fault::undone)?.revision)
    }

    /// The error of a call that asked for a state which etcd does not have.
    async fn absent_state(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Compacted => match self.oldest().await {
                Some(oldest) => StoreError::Compacted { oldest },
                None => fault.undone(),
            },
            Fault::Future => match self.current().await {
                Ok(current) => StoreError::Future { current },
                Err(error) => error,
            },
            fault => fault.undone(),
        }
    }
}

fn versioned(kv: KeyValue) -> Versioned {
    let (created, modified) = (Revision::of(kv.create_revision()), Revision::of(kv.mod_revision()));
    Versioned::new(kv.into_key_value().1.into(), created, modified)
}

#[async_trait]
impl Store for EtcdStore {
    fn prefix(&self) -> &str {
        &self.etcd.prefix
    }

    async fn get(&self, key: &str) -> Result<Read, StoreError> {
        self.etcd.get(key, None).await.map_err(Fault::undone)
    }

    async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        self.etcd.list(list).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision, WriteError> {
        self.write(key, Some(value), None, ttl).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        self.write(key, Some(value), Some(expected), ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        self.write(key, None, Some(expected), None).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        watch::watch(&self.etcd, prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let call = |mut kv: KvClient| async move { kv.compact(revision.signed(), None).await };
        match self.etcd.calls.read(call).await {
            // Somebody compacted further already.
            Ok(_) | Err(Fault::Compacted) => Ok(()),
            Err(fault) => Err(self.etcd.absent_state(fault).await),
        }
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        self.etcd.current().await
    }

    async fn healthy(&self) -> Result<(), StoreError> {
        self.etcd.current().await.map(drop)
    }
}
