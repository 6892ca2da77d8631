//! The built-in controller `DefaultTolerationSeconds`: Pods stay for a while on a node that is lost.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{AdmissionController, AdmissionRequest, AdmissionResponse, Operation, PatchOperation};

/// How long Pods stay where nothing else is said, in seconds.
pub(crate) const DEFAULT_SECONDS: i64 = 300;

/// The controller.
pub(crate) struct DefaultTolerationSeconds {
    taints: [(&'static str, i64); 2],
}

impl DefaultTolerationSeconds {
    pub(crate) fn new(not_ready: i64, unreachable: i64) -> Self {
        let taints =
            [("node.kubernetes.io/not-ready", not_ready), ("node.kubernetes.io/unreachable", unreachable)];
        Self { taints }
    }
}

#[async_trait]
impl AdmissionController for DefaultTolerationSeconds {
    fn name(&self) -> &str {
        "DefaultTolerationSeconds"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        let spec = request.object().and_then(|object| object.get("spec")).filter(|spec| spec.is_object());
        let (true, Some(spec)) = (request.is_for("", "pods"), spec) else { return AdmissionResponse::Allow };
        let given = spec.get("tolerations").and_then(Value::as_array);
        let tolerated = |taint| given.is_some_and(|given| given.iter().any(|one| tolerates(one, taint)));
        let missing = self.taints.iter().filter(|(taint, _)| !tolerated(taint));
        let added: Vec<_> = missing.map(|(taint, seconds)| toleration(taint, *seconds)).collect();
        if added.is_empty() {
            return AdmissionResponse::Allow;
        }
        AdmissionResponse::AllowWithPatch(match given {
            None => vec![PatchOperation::add("/spec/tolerations", Value::Array(added))],
            Some(_) => added.into_iter().map(|one| PatchOperation::add("/spec/tolerations/-", one)).collect(),
        })
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let is = |field: &str, value: &str| {
        let given = toleration.get(field).and_then(Value::as_str).unwrap_or_default();
        given.is_empty() || given == value
    };
    is("key", taint) && is("effect", "NoExecute")
}

fn toleration(taint: &str, seconds: i64) -> Value {
    json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupVersionResource, apply};

    async fn tolerations(given: Value) -> Value {
        let mut pod = json!({"kind": "Pod", "spec": {}});
        if !given.is_null() {
            pod["spec"]["tolerations"] = given;
        }
        let controller = DefaultTolerationSeconds::new(300, 60);
        let request = AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), pod.clone());
        if let AdmissionResponse::AllowWithPatch(patch) = controller.admit(&request).await {
            apply(&mut pod, &patch).unwrap();
        }
        pod["spec"]["tolerations"].clone()
    }

    #[tokio::test]
    async fn what_a_pod_does_not_say_about_lost_nodes_is_added() {
        let not_ready = toleration("node.kubernetes.io/not-ready", 300);
        let unreachable = toleration("node.kubernetes.io/unreachable", 60);
        assert_eq!(tolerations(Value::Null).await, json!([not_ready, unreachable]));
        let own =
            json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"});
        assert_eq!(tolerations(json!([own])).await, json!([own, not_ready]));
        let other =
            json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"});
        assert_eq!(tolerations(json!([other])).await, json!([other, not_ready, unreachable]));
        let all = json!([{"operator": "Exists"}]);
        assert_eq!(tolerations(all.clone()).await, all);
    }
}
