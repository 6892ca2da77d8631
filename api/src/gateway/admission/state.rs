//! The stored cluster as admission controllers read it.

use std::sync::Arc;

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
    StateError(status.message)
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
        match self.registry.get(&Target { resource: resource(kind)?, namespace, name }).await {
            Ok(object) => Ok(Some(Arc::new(object.into_value()))),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(failed(status)),
        }
    }

    async fn list(&self, kind: Kind, namespace: &str, _: Freshness) -> Result<Vec<Arc<Value>>, StateError> {
        let page = self
            .registry
            .list(resource(kind)?, namespace, &Selectors::default(), &ListOptions::newest())
            .await;
        let page = page.map_err(failed)?;
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
