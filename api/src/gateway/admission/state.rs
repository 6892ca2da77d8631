//! The stored cluster as admission controllers read it.

use std::{cell::RefCell, sync::Arc, time::Duration};

use ::admission::{Charge, Charged, ClusterState, Freshness, Kind, StateError};
use async_trait::async_trait;
use serde_json::Value;

use super::Charges;
use crate::gateway::{
    registry::{ListOptions, Registry, Target},
    resources::{Resource, resources},
    selectors::Selectors,
    status::Status,
};

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

/// What is stored. Every answer is live: each is a read of the store.
#[derive(Clone, Debug)]
pub struct StoredState {
    registry: Registry,
    charges: Charges,
}

impl StoredState {
    /// Of what a registry holds. What is charged is known to `charges` until its request is through.
    pub fn new(registry: Registry, charges: Charges) -> Self {
        Self { registry, charges }
    }
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

fn failed(status: Status) -> StateError {
    let error = StateError(status.message.clone());
    if status.code == 503 {
        // A controller that was added runs in a task of its own, and answers for itself.
        let _ = AWAY.try_with(|away| away.replace(Some(status)));
    }
    error
}

/// A read of the store, in bounded time.
async fn within<T>(read: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let away = || Err(Status::unavailable("the cluster store does not answer", 1));
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
        match within(self.registry.get(&Target { resource: resource(kind)?, namespace, name })).await {
            Ok(object) => Ok(Some(Arc::new(object.into_value()))),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(failed(status)),
        }
    }

    async fn list(&self, kind: Kind, namespace: &str, _: Freshness) -> Result<Vec<Arc<Value>>, StateError> {
        let (selectors, newest) = (Selectors::default(), ListOptions::newest());
        let page = self.registry.list(resource(kind)?, namespace, &selectors, &newest);
        let page = within(page).await.map_err(failed)?;
        if let Some(unreadable) = page.unreadable.first() {
            return Err(StateError(unreadable.to_string()));
        }
        let value = |raw: &crate::gateway::registry::Raw| {
            let object = crate::gateway::stored::decode(&raw.value, raw.revision.0);
            object.map(|object| Arc::new(object.into_value())).map_err(|error| StateError(error.to_string()))
        };
        page.items.iter().map(value).collect()
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Charged, StateError> {
        self.charges.make(charges).await.map_err(failed)
    }
}
