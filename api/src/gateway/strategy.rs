//! What only some kinds do when their objects are made, changed or ended: upstream's strategies, as far as they act on
//! what is stored.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{admission::pending, object::Object, resources::Resource};

/// How long events are kept (`--event-ttl` of kube-apiserver).
const EVENT_TTL: Duration = Duration::from_secs(3_600);

/// Seconds that a pod may take to end where it says nothing itself.
const POD_GRACE_SECONDS: i64 = 30;

/// Kinds whose `metadata.generation` counts the changes of what is wanted of them.
const COUNTED: [(&str, &str); 27] = [
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
    ("discovery.k8s.io", "endpointslices"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
    ("resource.k8s.io", "resourceslices"),
    ("resource.k8s.io", "deviceclasses"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "volumeattributesclasses"),
    ("storagemigration.k8s.io", "storageversionmigrations"),
];

/// How long an object lives by itself.
pub fn time_to_live(resource: &Resource) -> Option<Duration> {
    (resource.plural == "events").then_some(EVENT_TTL)
}

/// Whether an object that is to end has nothing left that keeps it.
pub fn keeps_nothing(resource: &Resource, object: &Object) -> bool {
    let is_namespace = is(resource, "", "namespaces");
    let spec = object.at("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    object.finalizers().next().is_none() && !(is_namespace && spec)
}

/// Marks what ends in a way of its own.
pub fn begin_end(resource: &Resource, object: &mut Object) {
    if is(resource, "", "namespaces") {
        let status = object.members_mut().entry("status").or_insert_with(|| json!({}));
        status["phase"] = "Terminating".into();
    }
}

/// Seconds until an object may go, of those that its client asks for. Only what runs somewhere needs any.
pub fn grace_seconds(resource: &Resource, object: &Object, asked: Option<i64>) -> i64 {
    if !is(resource, "", "pods") {
        return 0;
    }
    // What runs nowhere, and what has run, needs no time to end.
    let is_placed = !object.text_at("/spec/nodeName").is_empty();
    let is_over = matches!(object.text_at("/status/phase"), "Succeeded" | "Failed");
    if !is_placed || is_over {
        return 0;
    }
    let own = || object.at("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    match asked {
        Some(0) => 0,
        Some(seconds) => seconds.max(1),
        None => own().map_or(POD_GRACE_SECONDS, |seconds| seconds.max(1)),
    }
}

/// What a new object is before it is stored.
pub fn prepare_create(resource: &Resource, object: &mut Object) {
    if resource.subresource("status").is_some() {
        object.members_mut().insert("status".into(), json!({}));
    }
    if is_counted(resource) {
        object.metadata_mut().insert("generation".into(), 1.into());
    } else {
        object.metadata_mut().shift_remove("generation");
    }
    match (resource.group, resource.plural) {
        ("", "namespaces") => {
            let name = object.name().to_owned();
            object.members_mut().insert("status".into(), json!({ "phase": "Active" }));
            let spec = object.members_mut().entry("spec").or_insert_with(|| json!({}));
            let finalizers = spec["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.iter().any(|f| f == "kubernetes") {
                spec["finalizers"] = finalizers.into_iter().chain([json!("kubernetes")]).collect();
            }
            label(object, "kubernetes.io/metadata.name", &name);
        }
        ("", "pods") => {
            let class = qos_class(object);
            object.members_mut().insert("status".into(), json!({ "phase": "Pending", "qosClass": class }));
        }
        ("", "persistentvolumeclaims" | "persistentvolumes") => {
            object.members_mut().insert("status".into(), json!({ "phase": "Pending" }));
        }
        ("", "secrets") => take_string_data(object),
        ("", "resourcequotas") => pending::retain(object, None),
        ("", "services") => {
            name_cluster_addresses(object);
            object.members_mut().insert("status".into(), json!({ "loadBalancer": {} }));
        }
        ("networking.k8s.io", "ingresses") => {
            object.members_mut().insert("status".into(), json!({ "loadBalancer": {} }));
        }
        _ => {}
    }
}

/// What a changed object is before it is stored: what the subresource may not change is as it was, and what only the
/// server changes is kept.
pub fn prepare_update(resource: &Resource, subresource: &str, new: &mut Object, old: &Object) {
    for key in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "uid", "generation"] {
        match old.metadata().get(key) {
            Some(value) => drop(new.metadata_mut().insert(key.into(), value.clone())),
            None => drop(new.metadata_mut().shift_remove(key)),
        }
    }
    for key in ["selfLink", "managedFields"] {
        new.metadata_mut().shift_remove(key);
    }
    match subresource {
        "status" => keep(new, old, |member| member != "status"),
        "approval" => keep_but(new, old, ["status", "conditions"]),
        "ephemeralcontainers" => keep_but(new, old, ["spec", "ephemeralContainers"]),
        "resize" => keep_resized(new, old),
        _ if resource.subresource("status").is_some() => keep(new, old, |member| member == "status"),
        _ => {}
    }
    if is(resource, "", "secrets") {
        take_string_data(new);
    }
    if is(resource, "", "resourcequotas") && subresource != "status" {
        pending::retain(new, Some(old));
    }
    if is(resource, "", "namespaces") && subresource != "finalize" {
        match old.at("/spec/finalizers") {
            Some(finalizers) => {
                new.members_mut().entry("spec").or_insert_with(|| json!({}))["finalizers"] =
                    finalizers.clone()
            }
            None => drop(new.members_mut().shift_remove("spec")),
        }
    }
    // Annotations of a Deployment reach its ReplicaSets: upstream counts them as well.
    let is_annotated_anew = is(resource, "apps", "deployments")
        && subresource != "status"
        && new.metadata().get("annotations") != old.metadata().get("annotations");
    if is_counted(resource) && (wants(new) != wants(old) || is_annotated_anew) {
        new.metadata_mut().insert("generation".into(), (old.generation() + 1).into());
    }
}

/// Members that say what is wanted of an object.
fn wants(object: &Object) -> Vec<(&String, &Value)> {
    let told = ["kind", "apiVersion", "metadata", "status"];
    object.members().iter().filter(|(key, _)| !told.contains(&key.as_str())).collect()
}

/// Takes members from the old object; `metadata` is never one of them.
fn keep(new: &mut Object, old: &Object, is_kept: impl Fn(&str) -> bool) {
    let is_kept = |key: &str| !matches!(key, "kind" | "apiVersion" | "metadata") && is_kept(key);
    new.members_mut().retain(|key, _| !is_kept(key) || old.members().contains_key(key));
    for (key, value) in old.members().iter().filter(|(key, _)| is_kept(key)) {
        new.members_mut().insert(key.clone(), value.clone());
    }
}

/// What a client wrote as text becomes data; it is never shown as text again.
fn take_string_data(secret: &mut Object) {
    let Some(Value::Object(texts)) = secret.members_mut().shift_remove("stringData") else { return };
    let data = secret.members_mut().entry("data").or_insert_with(|| json!({}));
    if !data.is_object() {
        *data = json!({});
    }
    for (key, text) in texts {
        data[&key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
    if let Some(data) = data.as_object_mut() {
        data.sort_keys();
    }
}

/// The one address that a client names is the first of all.
fn name_cluster_addresses(service: &mut Object) {
    let address = service.at("/spec/clusterIP").filter(|address| *address != "").cloned();
    let (Some(address), None) = (address, service.at("/spec/clusterIPs")) else { return };
    if let Some(Value::Object(spec)) = service.members_mut().get_mut("spec") {
        spec.insert("clusterIPs".into(), json!([address]));
    }
}

/// Takes everything from the old object but one member of a member.
fn keep_but(new: &mut Object, old: &Object, [member, within]: [&str; 2]) {
    let changed = new.members().get(member).and_then(|value| value.get(within)).cloned();
    keep(new, old, |_| true);
    let holder = new.members_mut().entry(member).or_insert_with(|| json!({}));
    match (changed, holder.as_object_mut()) {
        (Some(changed), Some(holder)) => drop(holder.insert(within.to_owned(), changed)),
        (None, Some(holder)) => drop(holder.shift_remove(within)),
        _ => {}
    }
}

/// Takes everything from the old Pod but what its containers may use.
fn keep_resized(new: &mut Object, old: &Object) {
    let wanted = new.at("/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
    keep(new, old, |_| true);
    let containers = new.members_mut().get_mut("spec").and_then(|spec| spec["containers"].as_array_mut());
    for container in containers.into_iter().flatten() {
        if let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == container["name"]) {
            container["resources"] = wanted["resources"].clone();
        }
    }
}

fn is(resource: &Resource, group: &str, plural: &str) -> bool {
    resource.group == group && resource.plural == plural
}

fn is_counted(resource: &Resource) -> bool {
    COUNTED.contains(&(resource.group, resource.plural))
}

fn label(object: &mut Object, key: &str, value: &str) {
    let labels = object.metadata_mut().entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[key] = value.into();
}

/// Guaranteed: every container has limits for cpu and memory and no smaller requests. BestEffort: none has any.
fn qos_class(pod: &Object) -> &'static str {
    let of = |list: &str| pod.at(list).and_then(Value::as_array).into_iter().flatten();
    let containers: Vec<&Value> = of("/spec/containers").chain(of("/spec/initContainers")).collect();
    let amount = |container: &Value, kind: &str, resource: &str| {
        container.pointer(&format!("/resources/{kind}/{resource}")).cloned().filter(|v| v != "0")
    };
    let mut has_any = false;
    let mut is_guaranteed = true;
    for container in containers {
        for resource in ["cpu", "memory"] {
            let (request, limit) =
                (amount(container, "requests", resource), amount(container, "limits", resource));
            has_any |= request.is_some() || limit.is_some();
            is_guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (has_any, is_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
