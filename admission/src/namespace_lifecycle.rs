//! The built-in controller `NamespaceLifecycle`: nothing new in a namespace that is not there or is on its way out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, ClusterState, Denial, Freshness, Kind,
    Operation, StateError,
};

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// How long a namespace that was just made is waited for until a cache knows it.
const CACHE_LAG: Duration = Duration::from_millis(50);

/// How long after its deletion a namespace is looked up live, whatever a cache says.
const DELETED: Duration = Duration::from_secs(30);

/// Deleted namespaces that are remembered: with more of them in that time the oldest are left to the cache.
const REMEMBERED: usize = 100;

/// The controller.
pub(crate) struct NamespaceLifecycle {
    state: Arc<dyn ClusterState>,
    remembered_for: Duration,
    deleted: Mutex<VecDeque<(String, Instant)>>,
}

#[async_trait]
impl AdmissionController for NamespaceLifecycle {
    fn name(&self) -> &str {
        "NamespaceLifecycle"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        *op != Operation::Connect
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.decide(request).await.into()
    }

    /// A wait for the cache, and a live look.
    fn deadline(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl NamespaceLifecycle {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state, remembered_for: DELETED, deleted: Mutex::default() }
    }

    async fn decide(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let is_namespace = request.resource.is("", "namespaces");
        if is_namespace && request.operation == Operation::Delete && request.subresource.is_empty() {
            if IMMORTAL.contains(&request.name.as_str()) {
                return Err("this namespace may not be deleted".into());
            }
            self.remember(&request.name);
        }
        let looks_on = is_namespace
            || request.namespace.is_empty()
            || request.operation != Operation::Create
            || request.resource.is("authorization.k8s.io", "localsubjectaccessreviews");
        if looks_on {
            return Ok(AdmissionResponse::Allow);
        }
        let name = &request.namespace;
        let namespace = self.lookup(name).await.map_err(Denial::internal)?;
        let namespace = namespace.ok_or_else(|| Denial::not_found("", "namespaces", name))?;
        if namespace["status"]["phase"] != "Terminating" {
            return Ok(AdmissionResponse::Allow);
        }
        let refused =
            format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = format!("namespace {name} is being terminated");
        Err(Denial::forbidden(refused).because("NamespaceTerminating", cause, "metadata.namespace"))
    }

    async fn lookup(&self, name: &str) -> Result<Option<Arc<Value>>, StateError> {
        let cached = || self.state.get(Kind::Namespace, "", name, Freshness::Cached);
        let mut found = cached().await?;
        if found.is_none() {
            sleep(CACHE_LAG).await;
            found = cached().await?;
        }
        let is_trusted = found.as_ref().is_some_and(|namespace| {
            namespace["status"]["phase"] == "Terminating" || !self.is_remembered(name)
        });
        if is_trusted { Ok(found) } else { self.state.get(Kind::Namespace, "", name, Freshness::Live).await }
    }

    fn remember(&self, name: &str) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.retain(|(other, _)| other != name);
        if deleted.len() == REMEMBERED {
            deleted.pop_front();
        }
        deleted.push_back((name.to_owned(), Instant::now() + self.remembered_for));
    }

    fn is_remembered(&self, name: &str) -> bool {
        let now = Instant::now();
        let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.iter().any(|(other, until)| other == name && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{GroupVersionResource, MemoryCluster};

    fn controller() -> (NamespaceLifecycle, Arc<MemoryCluster>) {
        let cluster = Arc::new(MemoryCluster::new());
        (NamespaceLifecycle::new(cluster.clone()), cluster)
    }

    fn pod(namespace: &str) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "web", "namespace": namespace}})
    }

    fn create(namespace: &str) -> AdmissionRequest {
        AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), pod(namespace))
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_there_is_a_404_but_only_for_new_objects() {
        let (controller, _) = controller();
        let denial = controller.decide(&create("gone")).await.unwrap_err();
        assert_eq!((denial.code, denial.message.as_str()), (404, "namespaces \"gone\" not found"));
        for operation in [Operation::Update, Operation::Delete] {
            let request = AdmissionRequest { operation, ..create("gone") };
            assert!(controller.decide(&request).await.unwrap().is_allowed());
        }
        assert!(controller.decide(&create("default")).await.unwrap().is_allowed());
        assert!(controller.decide(&create("")).await.unwrap().is_allowed());
    }

    #[tokio::test]
    async fn a_terminating_namespace_takes_nothing_new_and_says_so_to_programs() {
        let (controller, cluster) = controller();
        cluster
            .put(Kind::Namespace, json!({"metadata": {"name": "old"}, "status": {"phase": "Terminating"}}));
        let denial = controller.decide(&create("old")).await.unwrap_err().about(&create("old"));
        assert_eq!(
            denial.message,
            "pods \"web\" is forbidden: unable to create new content in namespace old because it is being terminated"
        );
        assert_eq!(denial.causes[0].reason, "NamespaceTerminating");
        assert_eq!(denial.causes[0].field, "metadata.namespace");
    }

    #[tokio::test]
    async fn the_namespaces_of_the_system_stay() {
        let (controller, _) = controller();
        for (name, stays) in
            [("default", true), ("kube-system", true), ("kube-public", true), ("kube-node-lease", false)]
        {
            let object = json!({"kind": "Namespace", "metadata": {"name": name}});
            let delete = AdmissionRequest::delete(GroupVersionResource::new("", "v1", "namespaces"), object);
            let decided = controller.decide(&delete).await;
            assert_eq!(decided.is_err(), stays, "{name}");
            if let Err(denial) = decided {
                let expected = format!("namespaces {name:?} is forbidden: this namespace may not be deleted");
                assert_eq!(denial.about(&delete).message, expected);
            }
        }
    }

    /// A cluster whose cache lags behind.
    struct Lagging {
        live: MemoryCluster,
        cache: MemoryCluster,
    }

    #[async_trait]
    impl ClusterState for Lagging {
        async fn get(
            &self,
            kind: Kind,
            namespace: &str,
            name: &str,
            freshness: Freshness,
        ) -> Result<Option<Arc<Value>>, StateError> {
            let state = if freshness == Freshness::Live { &self.live } else { &self.cache };
            state.get(kind, namespace, name, freshness).await
        }

        async fn list(&self, _: Kind, _: &str, _: Freshness) -> Result<Vec<Arc<Value>>, StateError> {
            Ok(Vec::new())
        }

        async fn charge(&self, _: &[crate::Charge]) -> Result<crate::Charged, StateError> {
            Ok(crate::Charged::Done)
        }
    }

    #[tokio::test]
    async fn a_deleted_namespace_is_looked_up_live_for_a_while() {
        let (live, cache) = (MemoryCluster::new(), MemoryCluster::new());
        cache.add_namespace("shop", &[]);
        let mut controller = NamespaceLifecycle::new(Arc::new(Lagging { live, cache }));
        assert!(controller.decide(&create("shop")).await.is_ok());
        let object = json!({"kind": "Namespace", "metadata": {"name": "shop"}});
        let delete = AdmissionRequest::delete(GroupVersionResource::new("", "v1", "namespaces"), object);
        assert!(controller.decide(&delete).await.is_ok());
        assert_eq!(controller.decide(&create("shop")).await.unwrap_err().code, 404);
        controller.remembered_for = Duration::ZERO;
        assert!(controller.decide(&delete).await.is_ok());
        assert!(controller.decide(&create("shop")).await.is_ok());
    }
}
