//! Defaults of other groups that depend on other members.

use serde_json::{Map, Value, json};

use super::{inner, inner_or_new, is_unset, or_set, text};

type Object = Map<String, Value>;

pub(super) fn deployment_strategy(strategy: &mut Object) {
    rolling(strategy, json!("25%"), json!("25%"));
}

pub(super) fn daemon_set_strategy(strategy: &mut Object) {
    rolling(strategy, json!(1), json!(0));
}

fn rolling(strategy: &mut Object, unavailable: Value, surge: Value) {
    or_set(strategy, "type", "RollingUpdate");
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    if let Some(rolling) = inner_or_new(strategy, "rollingUpdate") {
        or_set(rolling, "maxUnavailable", unavailable);
        or_set(rolling, "maxSurge", surge);
    }
}

pub(super) fn stateful_set(spec: &mut Object) {
    if let Some(strategy) = inner_or_new(spec, "updateStrategy") {
        if is_unset(strategy.get("type")) {
            strategy.insert("type".to_owned(), json!("RollingUpdate"));
            inner_or_new(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = inner(strategy, "rollingUpdate")
        {
            or_set(rolling, "partition", 0);
        }
    }
    if let Some(policy) = inner_or_new(spec, "persistentVolumeClaimRetentionPolicy") {
        or_set(policy, "whenDeleted", "Retain");
        or_set(policy, "whenScaled", "Retain");
    }
}

pub(super) fn job(job: &mut Object) {
    let labels = job.get("spec").map(|spec| spec["template"]["metadata"]["labels"].clone());
    if let (Some(labels @ Value::Object(_)), Some(metadata)) = (labels, inner(job, "metadata")) {
        or_set(metadata, "labels", labels);
    }
    if let Some(spec) = inner(job, "spec") {
        job_spec(spec);
    }
}

/// Only of jobs themselves: what a CronJob holds becomes one later.
fn job_spec(spec: &mut Object) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".to_owned(), json!(1));
    }
    or_set(spec, "parallelism", 1);
    let limit = if spec.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 };
    or_set(spec, "backoffLimit", limit);
    or_set(spec, "completionMode", "NonIndexed");
    or_set(spec, "suspend", false);
    let policy = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    or_set(spec, "podReplacementPolicy", policy);
    or_set(spec, "manualSelector", false);
}

pub(super) fn network_policy(spec: &mut Object) {
    let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    or_set(spec, "policyTypes", types);
}

pub(super) fn subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        or_set(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

pub(super) fn autoscaler(spec: &mut Object) {
    let cpu = json!([{
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }]);
    or_set(spec, "metrics", cpu);
    let Some(behavior) = inner(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = inner_or_new(behavior, "scaleUp") {
        or_set(up, "stabilizationWindowSeconds", 0);
        or_set(up, "selectPolicy", "Max");
        or_set(up, "policies", json!([pods, percent]));
    }
    if let Some(down) = inner_or_new(behavior, "scaleDown") {
        or_set(down, "selectPolicy", "Max");
        or_set(down, "policies", json!([percent]));
    }
}

pub(super) fn device_request(request: &mut Object) {
    or_set(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        or_set(request, "count", 1);
    }
}

pub(super) fn csi_driver(spec: &mut Object) {
    or_set(spec, "attachRequired", true);
    for name in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        or_set(spec, name, false);
    }
    or_set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    or_set(spec, "volumeLifecycleModes", json!(["Persistent"]));
}
