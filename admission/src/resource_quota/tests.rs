use serde_json::json;

use super::*;
use crate::{GroupVersionResource, MemoryCluster};

fn cluster(quota: Value) -> Arc<MemoryCluster> {
    let cluster = Arc::new(MemoryCluster::new());
    put(&cluster, "q", quota);
    cluster
}

/// A quota whose status is known: nothing is used.
fn put(cluster: &MemoryCluster, name: &str, spec: Value) {
    let hard = spec["hard"].clone();
    let used: serde_json::Map<_, _> =
        hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    let metadata = json!({"name": name, "namespace": "default"});
    cluster.put(
        Kind::ResourceQuota,
        json!({"metadata": metadata, "spec": spec, "status": {"hard": hard, "used": used}}),
    );
}

async fn used(cluster: &MemoryCluster, name: &str) -> Value {
    let quota = cluster.get(Kind::ResourceQuota, "default", "q", Freshness::Live).await.unwrap().unwrap();
    quota["status"]["used"][name].clone()
}

fn create(group: &str, resource: &str, object: Value) -> AdmissionRequest {
    let mut request = AdmissionRequest::create(GroupVersionResource::new(group, "v1", resource), object);
    request.namespace = "default".to_owned();
    request
}

fn pod(spec: Value) -> AdmissionRequest {
    create("", "pods", json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": spec}))
}

fn asking(cpu: &str) -> AdmissionRequest {
    pod(json!({"containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}]}))
}

async fn refusal(cluster: &Arc<MemoryCluster>, request: &AdmissionRequest) -> Option<String> {
    ResourceQuota::new(cluster.clone()).charge(request).await.err().map(|denial| denial.message)
}

#[tokio::test]
async fn a_charge_is_kept_and_what_exceeds_it_is_refused_with_the_figures() {
    let cluster = cluster(json!({"hard": {"pods": "3", "requests.cpu": "2", "requests.memory": "1Gi"}}));
    let request = |cpu: &str| {
        let requests = json!({"cpu": cpu, "memory": "512Mi"});
        pod(json!({"containers": [{"name": "app", "resources": {"requests": requests}}]}))
    };
    assert_eq!(refusal(&cluster, &request("1500m")).await, None);
    assert_eq!(used(&cluster, "requests.cpu").await, "1500m");
    assert_eq!(used(&cluster, "requests.memory").await, "512Mi");
    assert_eq!(
        refusal(&cluster, &request("1")).await.unwrap(),
        "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: requests.cpu=2"
    );
    assert_eq!(used(&cluster, "pods").await, "1");
}

#[tokio::test]
async fn what_a_quota_tracks_has_to_be_set_by_every_container() {
    let cluster = cluster(json!({"hard": {"cpu": "9", "limits.memory": "9Gi", "pods": "9"}}));
    let request = pod(json!({
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}}],
        "containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"memory": "1Gi"}}}],
    }));
    assert_eq!(
        refusal(&cluster, &request).await.unwrap(),
        "failed quota: q: must specify cpu for: a,b; limits.memory for: b,i"
    );
}

#[tokio::test]
async fn a_quota_without_its_sums_refuses() {
    let cluster = Arc::new(MemoryCluster::new());
    let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "1", "cpu": "1"}}});
    cluster.put(Kind::ResourceQuota, quota);
    let expected = "status unknown for quota: q, resources: cpu,pods";
    assert_eq!(refusal(&cluster, &asking("1")).await.unwrap(), expected);
}

#[tokio::test]
async fn scopes_choose_pods_and_only_pods() {
    for (spec, pod_spec, falls_under) in [
        (json!({"scopes": ["Terminating"]}), json!({"activeDeadlineSeconds": 1}), true),
        (json!({"scopes": ["Terminating"]}), json!({}), false),
        (json!({"scopes": ["NotTerminating", "BestEffort"]}), json!({}), true),
        (json!({"scopes": ["NotBestEffort"]}), json!({}), false),
        (
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
            json!({"priorityClassName": "high"}),
            true,
        ),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}),
            json!({"priorityClassName": "high"}),
            false,
        ),
        (
            json!({"scopes": ["CrossNamespacePodAffinity"]}),
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}),
            true,
        ),
        (json!({"scopes": ["OfTheFuture"]}), json!({}), false),
    ] {
        let mut quota = spec.clone();
        quota["hard"] = json!({"pods": "0"});
        let refused = refusal(&cluster(quota), &pod(pod_spec)).await;
        assert_eq!(refused.is_some(), falls_under, "{spec}: {refused:?}");
    }
    let cluster = cluster(json!({"hard": {"services": "0"}, "scopes": ["NotTerminating"]}));
    assert_eq!(refusal(&cluster, &create("", "services", json!({"spec": {}}))).await, None);
}

#[tokio::test]
async fn every_kind_is_counted_by_its_names() {
    for (group, resource, object, name, amount) in [
        ("", "pods", json!({}), "count/pods", "1"),
        ("", "pods", json!({"status": {"phase": "Failed"}}), "pods", "0"),
        ("", "secrets", json!({}), "secrets", "1"),
        ("", "configmaps", json!({}), "count/configmaps", "1"),
        ("apps", "deployments", json!({}), "count/deployments.apps", "1"),
        ("", "services", json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}), "services.nodeports", "2"),
        ("", "services", json!({"spec": {"type": "LoadBalancer"}}), "services.loadbalancers", "1"),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1500m"}}}}),
            "fast.storageclass.storage.k8s.io/requests.storage",
            "2",
        ),
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"resources": {"requests": {"example.com/gpu": 2}, "limits": {"example.com/gpu": 2}}}]}}),
            "requests.example.com/gpu",
            "2",
        ),
    ] {
        let cluster = cluster(json!({"hard": {name: "9"}}));
        assert_eq!(refusal(&cluster, &create(group, resource, object)).await, None);
        assert_eq!(used(&cluster, name).await, amount, "{name}");
    }
}

#[tokio::test]
async fn an_update_charges_what_is_more_and_a_dry_run_nothing() {
    let cluster = cluster(json!({"hard": {"services.nodeports": "3"}}));
    let service = |ports: usize| {
        json!({"kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"type": "NodePort", "ports": vec![json!({}); ports]}})
    };
    let resource = || GroupVersionResource::new("", "v1", "services");
    let dry = AdmissionRequest { dry_run: true, ..AdmissionRequest::create(resource(), service(2)) };
    assert_eq!(refusal(&cluster, &dry).await, None);
    assert_eq!(used(&cluster, "services.nodeports").await, "0");
    assert_eq!(refusal(&cluster, &AdmissionRequest::create(resource(), service(2))).await, None);
    assert_eq!(refusal(&cluster, &AdmissionRequest::update(resource(), service(2), service(3))).await, None);
    assert_eq!(used(&cluster, "services.nodeports").await, "3");
    assert_eq!(refusal(&cluster, &AdmissionRequest::update(resource(), service(3), service(1))).await, None);
    assert!(refusal(&cluster, &AdmissionRequest::update(resource(), service(1), service(2))).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_two_servers_never_get_more_than_the_quota_together() {
    const CLIENTS: usize = 64;
    let cluster = cluster(json!({"hard": {"pods": "40", "requests.cpu": "20"}}));
    put(&cluster, "other", json!({"hard": {"count/pods": "37"}}));
    let servers = [(); 2].map(|()| Arc::new(ResourceQuota::new(cluster.clone())));
    let clients = (0..CLIENTS).map(|client| {
        let server = servers[client % servers.len()].clone();
        tokio::spawn(async move { server.charge(&asking("500m")).await })
    });
    let mut admitted = 0;
    for outcome in futures::future::join_all(clients).await {
        match outcome.unwrap() {
            Ok(_) => admitted += 1,
            Err(denial) => assert_eq!(denial.code, 403, "{denial}"),
        }
    }
    // The stricter quota decides, and the other one was charged for no more than was admitted.
    assert_eq!(admitted, 37);
    assert_eq!(used(&cluster, "pods").await, "37");
    assert_eq!(used(&cluster, "requests.cpu").await, "18500m");
}
