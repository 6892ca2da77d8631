//! A cluster in memory: for tests, and for what is checked without a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Charge, Charged, ClusterState, Freshness, Kind, Scope, StateError};
use crate::{
    policy::{Configuration, Configured},
    request::GroupVersionKind,
};

/// The namespaces that every cluster begins with.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// A cluster that begins as every new one does: four namespaces with a service account `default` in each, and the
/// two priority classes of the system.
#[derive(Debug)]
pub struct MemoryCluster {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(Kind, String, String), Arc<Value>>,
    /// Objects of the kinds that policies take their parameters from, by apiVersion and kind.
    others: BTreeMap<(String, String), Others>,
    configuration: Arc<Configuration>,
}

/// The objects of a kind, and where they live.
#[derive(Debug, Default)]
struct Others {
    scope: Option<Scope>,
    objects: Vec<Arc<Value>>,
}

impl Default for MemoryCluster {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryCluster {
    /// A new cluster.
    pub fn new() -> Self {
        let cluster = Self { state: Mutex::default() };
        for name in NAMESPACES {
            cluster.add_namespace(name, &[]);
        }
        for (name, value) in
            [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
        {
            let class = json!({"metadata": {"name": name}, "value": value});
            cluster.put(Kind::PriorityClass, class);
        }
        cluster
    }

    /// Adds an active namespace with labels, and its service account `default`.
    pub fn add_namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let metadata = json!({"name": name, "labels": labels});
        self.put(Kind::Namespace, json!({"metadata": metadata, "status": {"phase": "Active"}}));
        self.put(Kind::ServiceAccount, json!({"metadata": {"name": "default", "namespace": name}}));
    }

    /// Adds or replaces an object, under the name and namespace in its metadata.
    pub fn put(&self, kind: Kind, object: Value) {
        self.lock().put(kind, object);
    }

    /// Adds an object of any kind, by which the cluster has that kind: in a namespace where its metadata names one.
    pub fn put_other(&self, object: Value) {
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let scope =
            if object["metadata"]["namespace"].is_string() { Scope::Namespaced } else { Scope::Cluster };
        let key = (text("apiVersion"), text("kind"));
        let mut state = self.lock();
        let kept = state.others.entry(key).or_default();
        kept.scope = Some(scope);
        kept.objects.push(Arc::new(object));
    }

    /// Sets what configures admission.
    pub fn configure<'v>(&self, objects: impl IntoIterator<Item = (Configured, &'v Value)>) {
        let mut state = self.lock();
        state.configuration = Arc::new(Configuration::read(objects, &state.configuration));
    }

    /// Takes an object away.
    pub fn remove(&self, kind: Kind, namespace: &str, name: &str) {
        self.lock().objects.remove(&(kind, namespace.to_owned(), name.to_owned()));
    }

    /// A panic while the lock was held left nothing half done: every change is one insertion or removal.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, kind: Kind, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        self.objects.insert((kind, text("namespace"), text("name")), Arc::new(object));
    }

    fn quota(&self, charge: &Charge) -> Option<&Arc<Value>> {
        let key = (Kind::ResourceQuota, charge.namespace.clone(), charge.name.clone());
        let quota = self.objects.get(&key)?;
        (quota["metadata"]["resourceVersion"] == charge.revision.as_str()).then_some(quota)
    }
}

#[async_trait]
impl ClusterState for MemoryCluster {
    async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        _: Freshness,
    ) -> Result<Option<Arc<Value>>, StateError> {
        Ok(self.lock().objects.get(&(kind, namespace.to_owned(), name.to_owned())).cloned())
    }

    async fn list(&self, kind: Kind, namespace: &str, _: Freshness) -> Result<Vec<Arc<Value>>, StateError> {
        let from = (kind, namespace.to_owned(), String::new());
        let state = self.lock();
        let rest = state.objects.range(from..);
        Ok(rest
            .take_while(|((k, ns, _), _)| *k == kind && ns == namespace)
            .map(|(_, object)| object.clone())
            .collect())
    }

    async fn charge(&self, charges: &[Charge]) -> Result<Charged, StateError> {
        let mut state = self.lock();
        let quotas: Option<Vec<_>> = charges.iter().map(|charge| state.quota(charge).cloned()).collect();
        let Some(quotas) = quotas else { return Ok(Charged::Changed) };
        for (charge, quota) in charges.iter().zip(quotas) {
            let mut quota = Value::clone(&quota);
            quota["status"]["used"] = json!(charge.used);
            state.put(Kind::ResourceQuota, quota);
        }
        Ok(Charged::Done)
    }

    async fn configuration(&self) -> Option<Arc<Configuration>> {
        Some(self.lock().configuration.clone())
    }

    fn scope(&self, kind: &GroupVersionKind) -> Option<Scope> {
        self.lock().others.get(&key(kind))?.scope
    }

    async fn objects(
        &self,
        kind: &GroupVersionKind,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<Vec<Arc<Value>>, StateError> {
        let state = self.lock();
        let others =
            state.others.get(&key(kind)).ok_or_else(|| StateError(format!("there is no kind {kind}")))?;
        let text =
            |object: &Value, key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let is_meant = |object: &&Arc<Value>| {
            text(object, "namespace") == namespace && name.is_none_or(|name| text(object, "name") == name)
        };
        Ok(others.objects.iter().filter(is_meant).cloned().collect())
    }
}

fn key(kind: &GroupVersionKind) -> (String, String) {
    let version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    (version, kind.kind.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(name: &str, revision: &str) -> Charge {
        Charge {
            namespace: "default".into(),
            name: name.into(),
            revision: revision.into(),
            used: [("pods".to_owned(), "1".to_owned())].into(),
            delta: [("pods".to_owned(), "1".to_owned())].into(),
            request: "r".into(),
            object: None,
        }
    }

    #[tokio::test]
    async fn charges_are_kept_together_or_not_at_all() {
        let cluster = MemoryCluster::new();
        for name in ["a", "b"] {
            cluster.put(Kind::ResourceQuota, json!({"metadata": {"name": name, "namespace": "default"}}));
        }
        let quota = async |name: &str| {
            let found = cluster.get(Kind::ResourceQuota, "default", name, Freshness::Live).await;
            let quota = found.unwrap().unwrap();
            (quota["metadata"]["resourceVersion"].as_str().unwrap().to_owned(), quota["status"].clone())
        };
        let (a, b) = (quota("a").await.0, quota("b").await.0);
        let stale = [charge("a", &a), charge("b", "0")];
        assert_eq!(cluster.charge(&stale).await.unwrap(), Charged::Changed);
        assert_eq!(quota("a").await.1, Value::Null);
        let fresh = [charge("a", &a), charge("b", &b)];
        assert_eq!(cluster.charge(&fresh).await.unwrap(), Charged::Done);
        assert_eq!(quota("b").await.1, json!({"used": {"pods": "1"}}));
        assert_eq!(cluster.charge(&fresh).await.unwrap(), Charged::Changed);
    }
}
