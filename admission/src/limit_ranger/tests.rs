use serde_json::json;

use super::*;
use crate::{GroupVersionResource, MemoryCluster, apply};

fn controller(ranges: &[Value]) -> LimitRanger {
    let cluster = Arc::new(MemoryCluster::new());
    for (at, limits) in ranges.iter().enumerate() {
        let metadata = json!({"name": format!("range-{at}"), "namespace": "default"});
        cluster.put(Kind::LimitRange, json!({"metadata": metadata, "spec": {"limits": limits}}));
    }
    LimitRanger::new(cluster)
}

fn request(resource: &str, spec: Value) -> AdmissionRequest {
    let object = json!({"metadata": {"name": "x", "namespace": "default"}, "spec": spec});
    AdmissionRequest::create(GroupVersionResource::new("", "v1", resource), object)
}

async fn refusal(limits: Value, resource: &str, spec: Value) -> Option<String> {
    controller(&[limits]).check(&request(resource, spec)).await.err().map(|denial| denial.message)
}

#[tokio::test]
async fn what_a_container_leaves_open_is_filled_in_and_told() {
    let controller = controller(&[
        json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"memory": "1Gi"}}]),
        json!([{"type": "Container", "max": {"memory": "4Gi"}, "min": {"cpu": "100m"}}]),
    ]);
    let request = request(
        "pods",
        json!({
            "containers": [{"name": "a", "odd": 1, "resources": {"requests": {"cpu": "200m"}}}],
            "initContainers": [{"name": "i"}],
        }),
    );
    let Ok(AdmissionResponse::AllowWithPatch(patch)) = controller.fill(&request).await else {
        panic!("there is something to fill in")
    };
    let mut pod = request.object().unwrap().clone();
    apply(&mut pod, &patch).unwrap();
    let filled =
        json!({"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}});
    assert_eq!(pod["spec"]["containers"][0], json!({"name": "a", "odd": 1, "resources": filled}));
    assert_eq!(
        pod["spec"]["initContainers"][0]["resources"],
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}})
    );
    // The annotation tells of the last range that filled something in.
    assert_eq!(
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: memory limit for container a; memory limit for init container i"
    );
    let again = AdmissionRequest { object: Some(Arc::new(pod)), ..request };
    assert_eq!(controller.fill(&again).await, Ok(AdmissionResponse::Allow));
}

#[tokio::test]
async fn the_annotation_tells_requests_before_limits() {
    let controller = controller(&[json!([{"type": "Container", "default": {"memory": "1Gi", "cpu": "1"}}])]);
    let request = request("pods", json!({"containers": [{"name": "a"}]}));
    let Ok(AdmissionResponse::AllowWithPatch(patch)) = controller.fill(&request).await else {
        panic!("there is something to fill in")
    };
    let told =
        "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a";
    assert_eq!(patch.last().unwrap().value, Some(json!({"kubernetes.io/limit-ranger": told})));
}

#[tokio::test]
async fn every_bound_has_its_sentences() {
    let one = |resources: Value| json!({"containers": [{"name": "a", "resources": resources}]});
    let item = |field: &str, amount: &str| json!([{"type": "Container", field: {"cpu": amount}}]);
    for (limits, resources, expected) in [
        (item("min", "500m"), json!({}), "minimum cpu usage per Container is 500m.  No request is specified"),
        (
            item("min", "500m"),
            json!({"requests": {"cpu": "0.1"}}),
            "minimum cpu usage per Container is 500m, but request is 100m",
        ),
        (
            item("min", "500m"),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "0.1"}}),
            "minimum cpu usage per Container is 500m, but limit is 100m",
        ),
        (item("max", "1"), json!({}), "maximum cpu usage per Container is 1.  No limit is specified"),
        (
            item("max", "1"),
            json!({"limits": {"cpu": "1100m"}}),
            "maximum cpu usage per Container is 1, but limit is 1100m",
        ),
        (
            item("max", "1"),
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "maximum cpu usage per Container is 1, but request is 2",
        ),
        (
            item("maxLimitRequestRatio", "2"),
            json!({"limits": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            item("maxLimitRequestRatio", "2"),
            json!({"requests": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            item("maxLimitRequestRatio", "2"),
            json!({"requests": {"cpu": "300m"}, "limits": {"cpu": "1"}}),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.333333",
        ),
    ] {
        assert_eq!(refusal(limits, "pods", one(resources)).await.unwrap(), expected);
    }
    let within = json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}});
    let all = json!([{"type": "Container", "min": {"cpu": "500m"}, "max": {"cpu": 1}, "maxLimitRequestRatio": {"cpu": "2"}}]);
    assert_eq!(refusal(all, "pods", one(within)).await, None);
}

#[tokio::test]
async fn a_pod_is_summed_up_and_a_claim_is_held_to_its_request() {
    let half = json!({"resources": {"limits": {"cpu": "600m"}}});
    let pod = json!([{"type": "Pod", "max": {"cpu": "1"}}]);
    assert_eq!(
        refusal(pod, "pods", json!({"containers": [half, half]})).await.unwrap(),
        "maximum cpu usage per Pod is 1, but limit is 1200m"
    );
    let claim =
        json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
    let asking = |amount: &str| json!({"resources": {"requests": {"storage": amount}}});
    assert_eq!(
        refusal(claim.clone(), "persistentvolumeclaims", asking("3Gi")).await.unwrap(),
        "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    );
    assert_eq!(refusal(claim, "persistentvolumeclaims", asking("2Gi")).await, None);
}

#[tokio::test]
async fn several_violations_come_together_and_what_is_leaving_may_go() {
    let limits = json!([{"type": "Container", "min": {"memory": "1Gi", "cpu": "1"}}]);
    let spec = json!({"containers": [{"name": "a"}]});
    assert_eq!(
        refusal(limits.clone(), "pods", spec.clone()).await.unwrap(),
        "[minimum cpu usage per Container is 1.  No request is specified, minimum memory usage per Container is 1Gi.  No request is specified]"
    );
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let resize = AdmissionRequest {
        operation: Operation::Update,
        subresource: "resize".to_owned(),
        old_object: Some(Arc::new(leaving)),
        ..request("pods", spec)
    };
    let controller = controller(&[limits]);
    assert!(controller.check(&resize).await.is_ok());
    let staying = AdmissionRequest { old_object: Some(Arc::new(json!({}))), ..resize };
    assert!(controller.check(&staying).await.is_err());
}
