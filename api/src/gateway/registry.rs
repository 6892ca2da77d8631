//! What the verbs do to stored objects, whoever asks and however the answer is written.

mod birth;
mod create;
mod delete;
mod list;
mod read;
mod update;
pub(super) mod version;

use std::sync::Arc;

use bytes::Bytes;
use ingest::time::{Clock, Timestamp};

pub use self::{
    delete::{DeleteOptions, Deleted, Propagation},
    list::{ListOptions, Match, Page},
    read::Raw,
    update::{Edit, Outcome},
};
use super::{
    object::Object,
    resources::Resource,
    status::{Qualified, Status},
    store::{Revision, Store, StoreError},
};

/// When a client may ask again after the store was away.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The stored objects of a cluster.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Clock,
}

/// One object, or the place where one will be.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What it is.
    pub resource: &'static Resource,
    /// Empty for what is in no namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Target<'a> {
    /// Its key in the store.
    pub fn key(&self) -> String {
        let prefix = self.resource.storage;
        match self.namespace {
            "" => format!("{prefix}/{}", self.name),
            namespace => format!("{prefix}/{namespace}/{}", self.name),
        }
    }

    /// As messages name what it is.
    pub fn what(&self) -> Qualified<'a> {
        Qualified { group: self.resource.group, name: self.resource.plural }
    }
}

impl Registry {
    /// Of what is in a store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The time by the clock that stamps objects.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The object of stored bytes, in its resource's version.
    fn object(&self, resource: &Resource, value: &Bytes, revision: Revision) -> Result<Object, Status> {
        version::read(resource, value, revision.0).map_err(|error| {
            tracing::error!(error = crate::errors::chain(&error), "a stored object cannot be read");
            Status::internal(error)
        })
    }
}

/// Whole seconds, as `metadata` writes times.
pub(super) fn seconds(at: Timestamp) -> String {
    at.to_string().split('.').next().map_or_else(String::new, |whole| format!("{whole}Z"))
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unrecorded(why) => (*why).into(),
            StoreError::Unavailable(_) => {
                tracing::warn!(error = crate::errors::chain(&error), "the cluster store cannot be asked");
                Self::unavailable(error.to_string(), RETRY_AFTER_SECONDS)
            }
            StoreError::Compacted { .. } => {
                Self::expired("The resourceVersion for the provided list is too old.")
            }
            StoreError::Future { current } => {
                Self::timeout(&format!("Too large resource version, current: {current}"))
                    .retry_after(RETRY_AFTER_SECONDS)
            }
            StoreError::TooLarge => Self::too_large("etcdserver: request is too large"),
            StoreError::Ambiguous(_) => {
                tracing::warn!(error = crate::errors::chain(&error), "the outcome of a write is unknown");
                Self::timeout(&error.to_string())
            }
            StoreError::Refused(_) => {
                tracing::error!(error = crate::errors::chain(&error), "the cluster store refuses");
                Self::internal(&error)
            }
            StoreError::Unreadable(_) => {
                tracing::error!(%error, "a stored value is of no use");
                Self::internal(&error).with_code(500, "StorageReadError")
            }
            StoreError::Unencrypted(_) => {
                tracing::error!(error = crate::errors::chain(&error), "nothing was written");
                Self::internal(crate::errors::chain(&error))
            }
        }
    }
}
