//! The stored cluster as admission controllers read it.

use std::{cell::RefCell, sync::Arc, time::Duration};

use ::admission::{
    Charge, Charged, ClusterState, Configuration, Freshness, GroupVersionKind, GroupVersionResource, Kind,
    Scope, StateError,
};
use async_trait::async_trait;
use serde_json::Value;

use super::{Charges, configuration::InForce, gathered::Gathered};
use crate::gateway::{
    registry::{ListOptions, Raw, Registry, Target},
    resources::{Resource, resources},
    schema::convert::convert,
    selectors::Selectors,
    status::Status,
    stored,
};

/// How long a request waits for what configures admission to be read for the first time.
const FIRST_READ: Duration = Duration::from_secs(5);

/// How long one read may take: shorter than the deadline of any controller, so that it is the store that is said to be
/// away, and not the controller to have failed.
const READ: Duration = Duration::from_millis(1_500);

tokio::task_local! {
    /// Why the store could not be asked, in the run of the chain that this task is in.
    static AWAY: RefCell<Option<Status>>;
}

/// Runs a chain, and says whether the store was away meanwhile: then that is what the client has to be told, whatever
/// a controller made of it.
pub(super) async fn noting_outages<T>(chain: impl Future<Output = T>) -> (T, Option<Status>) {
    AWAY.scope(RefCell::default(), async {
        let outcome = chain.await;
        (outcome, AWAY.with(RefCell::take))
    })
    .await
}

/// What is stored. Every answer is live, a read of the store, but that about what configures admission: a change of it
/// is in force a moment after its answer.
#[derive(Clone, Debug)]
pub struct StoredState {
    registry: Registry,
    charges: Charges,
    configuration: InForce,
    objects: Gathered<ObjectKey, Result<Option<Arc<Value>>, Unread>>,
    lists: Gathered<ListKey, Result<Vec<Arc<Value>>, Unread>>,
}

/// A resource's place in the store, a namespace, a name.
type ObjectKey = (&'static str, String, String);

/// A resource's place in the store and a namespace.
type ListKey = (&'static str, String);

impl StoredState {
    /// Of what a registry holds. What is charged is known to `charges` until its request is through.
    pub fn new(registry: Registry, charges: Charges, configuration: InForce) -> Self {
        Self { registry, charges, configuration, objects: Gathered::default(), lists: Gathered::default() }
    }

    async fn list_of(
        &self,
        resource: &'static Resource,
        namespace: &str,
    ) -> Result<Vec<Arc<Value>>, StateError> {
        let (registry, name) = (self.registry.clone(), namespace.to_owned());
        let read = move || {
            let (registry, namespace) = (registry.clone(), name.clone());
            async move { within(listed(&registry, resource, &namespace)).await }
        };
        let asked = self.lists.ask((resource.storage, namespace.to_owned()), read);
        within(answered(asked)).await.map_err(failed)
    }

    async fn object_of(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, StateError> {
        let key = (resource.storage, namespace.to_owned(), name.to_owned());
        let (registry, (_, namespace, name)) = (self.registry.clone(), key.clone());
        let read = move || {
            let (registry, namespace, name) = (registry.clone(), namespace.clone(), name.clone());
            async move {
                let target = Target { resource, namespace: &namespace, name: &name };
                match registry.get(&target).await {
                    Ok(object) => Ok(Some(Arc::new(object.into_value()))),
                    Err(status) if status.code == 404 => Ok(None),
                    Err(status) => Err(status.into()),
                }
            }
        };
        let read = move || within(read());
        within(answered(self.objects.ask(key, read))).await.map_err(failed)
    }
}

/// All that a namespace has of a resource.
async fn listed(
    registry: &Registry,
    resource: &'static Resource,
    namespace: &str,
) -> Result<Vec<Arc<Value>>, Unread> {
    let (selectors, newest) = (Selectors::default(), ListOptions::newest());
    let page = registry.list(resource, namespace, &selectors, &newest).await?;
    if let Some(unreadable) = page.unreadable.first() {
        return Err(Unread::Value(unreadable.to_string()));
    }
    let value = |raw: &Raw| {
        let object = stored::decode(&raw.value, raw.revision.0);
        object.map(|object| Arc::new(object.into_value())).map_err(|error| Unread::Value(error.to_string()))
    };
    page.items.iter().map(value).collect()
}

/// What a shared read answered.
async fn answered<T>(asked: impl Future<Output = Option<Result<T, Unread>>>) -> Result<T, Unread> {
    asked.await.unwrap_or_else(|| Err(Unread::Value("a read of the cluster's state failed".to_owned())))
}

fn resource(kind: Kind) -> Result<&'static Resource, StateError> {
    let (group, plural) = match kind {
        Kind::Namespace => ("", "namespaces"),
        Kind::Pod => ("", "pods"),
        Kind::LimitRange => ("", "limitranges"),
        Kind::ResourceQuota => ("", "resourcequotas"),
        Kind::ServiceAccount => ("", "serviceaccounts"),
        Kind::PriorityClass => ("scheduling.k8s.io", "priorityclasses"),
    };
    resources().get(group, "v1", plural).ok_or_else(|| StateError(format!("{plural} are not served")))
}

/// Why the state was not read.
#[derive(Clone, Debug)]
enum Unread {
    /// The store says so.
    Store(Status),
    /// What it holds is of no use.
    Value(String),
}

impl From<Status> for Unread {
    fn from(status: Status) -> Self {
        Self::Store(status)
    }
}

fn failed(unread: impl Into<Unread>) -> StateError {
    let status = match unread.into() {
        Unread::Store(status) => status,
        Unread::Value(why) => return StateError(why),
    };
    let error = StateError(status.message.clone());
    if status.code == 503 {
        // A controller that was added runs in a task of its own, and answers for itself.
        let _ = AWAY.try_with(|away| away.replace(Some(status)));
    }
    error
}

/// A read of the store, in bounded time.
async fn within<T>(read: impl Future<Output = Result<T, Unread>>) -> Result<T, Unread> {
    let away = || Err(Status::unavailable("the cluster store does not answer", 1).into());
    tokio::time::timeout(READ, read).await.unwrap_or_else(|_| away())
}

#[async_trait]
impl ClusterState for StoredState {
    async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        _: Freshness,
    ) -> Result<Option<Arc<Value>>, StateError> {
        self.object_of(resource(kind)?, namespace, name).await
    }

    async fn list(&self, kind: Kind, namespace: &str, _: Freshness) -> Result<Vec<Arc<Value>>, StateError> {
        self.list_of(resource(kind)?, namespace).await
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Charged, StateError> {
        self.charges.make(charges).await.map_err(failed)
    }

    async fn configuration(&self) -> Option<Arc<Configuration>> {
        let mut in_force = self.configuration.clone();
        let known = tokio::time::timeout(FIRST_READ, in_force.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    fn scope(&self, kind: &GroupVersionKind) -> Option<Scope> {
        let resource = of_kind(kind)?;
        Some(if resource.namespaced { Scope::Namespaced } else { Scope::Cluster })
    }

    async fn objects(
        &self,
        kind: &GroupVersionKind,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<Vec<Arc<Value>>, StateError> {
        let resource = of_kind(kind).ok_or_else(|| StateError(format!("{kind} is not served")))?;
        let found = match name {
            Some(name) => self.object_of(resource, namespace, name).await?.into_iter().collect(),
            None => self.list_of(resource, namespace).await?,
        };
        found.into_iter().map(|object| self.convert(&object, kind).map(Arc::new)).collect()
    }

    fn equivalents(&self, resource: &GroupVersionResource) -> Vec<(GroupVersionResource, GroupVersionKind)> {
        let Some(own) = resources().get(&resource.group, &resource.version, &resource.resource) else {
            return Vec::new();
        };
        let others =
            resources().all().filter(|other| other.storage == own.storage && !std::ptr::eq(*other, own));
        others
            .map(|other| {
                let kind = GroupVersionKind {
                    group: other.group.to_owned(),
                    version: other.version.to_owned(),
                    kind: other.kind.to_owned(),
                };
                (GroupVersionResource::new(other.group, other.version, other.plural), kind)
            })
            .collect()
    }

    fn convert(&self, object: &Value, to: &GroupVersionKind) -> Result<Value, StateError> {
        let none = || StateError("it is not an object".to_owned());
        let converted = convert(object.as_object().ok_or_else(none)?, (&to.group, &to.version));
        converted.map(Value::Object).map_err(|error| StateError(error.to_string()))
    }
}

/// The resource of a kind whose objects are stored.
fn of_kind(kind: &GroupVersionKind) -> Option<&'static Resource> {
    let resource = resources().of_kind(&kind.group, &kind.version, &kind.kind)?;
    resource.verbs.contains(&"list").then_some(resource)
}
