//! The cluster as controllers see it: a few kinds of objects to read, and quotas to charge.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    policy::Configuration,
    request::{GroupVersionKind, GroupVersionResource},
};

mod memory;

pub use memory::MemoryCluster;

/// The kinds that controllers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Cluster-wide.
    Namespace,
    /// In a namespace.
    Pod,
    /// In a namespace.
    LimitRange,
    /// In a namespace.
    ResourceQuota,
    /// In a namespace.
    ServiceAccount,
    /// Cluster-wide.
    PriorityClass,
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A cache may answer.
    Cached,
    /// Every write that was acknowledged before the call is seen.
    Live,
}

/// What a quota's `status.used` is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The quota's namespace.
    pub namespace: String,
    /// The quota's name.
    pub name: String,
    /// The quota's `metadata.resourceVersion` on which the sum was made.
    pub revision: String,
    /// The whole of `status.used`.
    pub used: BTreeMap<String, String>,
    /// What of that is new: what is given back when the request's object never comes.
    pub delta: BTreeMap<String, String>,
    /// The uid of the request that is charged for. A charge whose object never came is found by it.
    pub request: String,
    /// The uid of the object that the request makes; none where it changes one that is there.
    pub object: Option<String>,
}

/// What became of charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Charged {
    /// All of them are kept.
    Done,
    /// None of them is: one of the quotas has another revision by now, or is gone.
    Changed,
}

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each in a namespace.
    Namespaced,
    /// In none.
    Cluster,
}

/// The cluster's state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);

/// Cluster state as controllers need it.
///
/// Laws: an object carries `metadata.resourceVersion`, another one after each change. [`Freshness::Live`] sees every
/// write that was acknowledged before. Charges that are made together are kept together or not at all, and only if
/// every quota still has the revision that its charge names; of two charges that name the same revision of a quota
/// one at most is kept. While they are made, others may see some of them: never less is used than what is admitted.
/// What has a body here is what a cluster without policies, and with one form of each kind, answers.
#[async_trait]
pub trait ClusterState: Send + Sync + 'static {
    /// One object. The namespace is "" for cluster-wide kinds.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        freshness: Freshness,
    ) -> Result<Option<Arc<Value>>, StateError>;

    /// All objects of a kind in a namespace by name, or all there are of a cluster-wide kind.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn list(
        &self,
        kind: Kind,
        namespace: &str,
        freshness: Freshness,
    ) -> Result<Vec<Arc<Value>>, StateError>;

    /// Sets `status.used` of one or several quotas of a namespace.
    ///
    /// # Errors
    /// When the state cannot be written; nothing is charged then.
    async fn charge(&self, charges: &[Charge]) -> Result<Charged, StateError>;

    /// What configures admission; none while that is not known yet.
    async fn configuration(&self) -> Option<Arc<Configuration>> {
        Some(Arc::default())
    }

    /// Where objects of any kind live; none where the cluster has no such kind.
    fn scope(&self, _kind: &GroupVersionKind) -> Option<Scope> {
        None
    }

    /// Objects of any kind, of a namespace or of none: all of them, or the one of a name.
    ///
    /// # Errors
    /// When the cluster has no such kind, or the state cannot be read.
    async fn objects(
        &self,
        kind: &GroupVersionKind,
        _namespace: &str,
        _name: Option<&str>,
    ) -> Result<Vec<Arc<Value>>, StateError> {
        Err(StateError(format!("there is no kind {kind}")))
    }

    /// The other groups and versions by which the objects of a resource are served too.
    fn equivalents(&self, _resource: &GroupVersionResource) -> Vec<(GroupVersionResource, GroupVersionKind)> {
        Vec::new()
    }

    /// An object in the form of another version of its kind.
    ///
    /// # Errors
    /// When there is no such form of it.
    fn convert(&self, _object: &Value, to: &GroupVersionKind) -> Result<Value, StateError> {
        Err(StateError(format!("there is no other form of {to}")))
    }
}
