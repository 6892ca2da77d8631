//! Defaults of the core group that depend on other members.

use serde_json::{Map, Value, json};

use super::{inner, inner_or_new, is_unset, objects, or_set, text};

type Object = Map<String, Value>;

pub(super) fn pod(pod: &mut Object) {
    let Some(spec) = inner(pod, "spec") else { return };
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in objects(spec, list) {
            request_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    or_set(spec, "enableServiceLinks", true);
}

/// A container asks for what it is limited to.
fn request_limits(container: &mut Object) {
    let Some(resources) = inner(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Some(requests) = inner_or_new(resources, "requests") {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
        requests.sort_keys();
    }
}

fn host_ports(container: &mut Object) {
    for port in objects(container, "ports") {
        if let Some(number) = port.get("containerPort").cloned().filter(|number| *number != json!(0)) {
            port.entry("hostPort").or_insert(number);
        }
    }
}

pub(super) fn volume(volume: &mut Object) {
    if volume.len() == usize::from(volume.contains_key("name")) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(image) = inner(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        or_set(image, "pullPolicy", policy);
    }
}

pub(super) fn container(container: &mut Object) {
    let policy = pull_policy(text(container, "image"));
    or_set(container, "imagePullPolicy", policy);
}

/// The newest image is always pulled, any other only when it is not there.
fn pull_policy(image: &str) -> &'static str {
    let name = image.split('@').next().unwrap_or_default();
    let after_host = name.rsplit('/').next().unwrap_or_default();
    let (repository, tag) =
        after_host.split_once(':').map_or((after_host, None), |(name, tag)| (name, Some(tag)));
    let digested = name.len() < image.len();
    let nameless = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
    let newest = match tag {
        Some(tag) => tag == "latest",
        None => !digested,
    };
    // Upstream finds no tag at all in what is no image's name.
    if newest && !repository.is_empty() && !repository.contains(nameless) { "Always" } else { "IfNotPresent" }
}

pub(super) fn service(service: &mut Object) {
    if let Some(spec) = inner(service, "spec") {
        affinity(spec);
        or_set(spec, "type", "ClusterIP");
        for port in objects(spec, "ports") {
            let target = port.get("targetPort");
            if is_unset(target) || target == Some(&json!(0)) {
                let number = port.get("port").cloned().unwrap_or(json!(0));
                port.insert("targetPort".to_owned(), number);
            }
        }
        let kind = text(spec, "type").to_owned();
        let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
        if matches!(kind.as_str(), "LoadBalancer" | "NodePort") || kind == "ClusterIP" && external {
            or_set(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "LoadBalancer" | "NodePort" | "ClusterIP") {
            or_set(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind != "LoadBalancer" {
            return;
        }
        or_set(spec, "allocateLoadBalancerNodePorts", true);
    }
    let status = inner(service, "status").and_then(|status| inner(status, "loadBalancer"));
    for ingress in status.into_iter().flat_map(|status| objects(status, "ingress")) {
        if !text(ingress, "ip").is_empty() {
            or_set(ingress, "ipMode", "VIP");
        }
    }
}

fn affinity(spec: &mut Object) {
    or_set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop(spec.shift_remove("sessionAffinityConfig")),
        "ClientIP" => {
            let seconds =
                spec.get("sessionAffinityConfig").map(|config| &config["clientIP"]["timeoutSeconds"]);
            if is_unset(seconds) {
                spec.insert(
                    "sessionAffinityConfig".to_owned(),
                    json!({"clientIP": {"timeoutSeconds": 10_800}}),
                );
            }
        }
        _ => {}
    }
}

/// `serviceAccount` is the former name of `serviceAccountName`: whichever is given, both are shown.
pub(super) fn pod_spec(spec: &mut Object) {
    let named = ["serviceAccountName", "serviceAccount"].map(|member| text(spec, member).to_owned());
    if let Some(name) = named.into_iter().find(|name| !name.is_empty()) {
        spec.insert("serviceAccountName".to_owned(), name.as_str().into());
        spec.insert("serviceAccount".to_owned(), name.into());
    }
}

pub(super) fn namespace(namespace: &mut Object) {
    let Some(metadata) = inner(namespace, "metadata") else { return };
    let name = text(metadata, "name").to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = inner_or_new(metadata, "labels") {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        labels.sort_keys();
    }
}

pub(super) fn node_status(status: &mut Object) {
    if let Some(capacity) = status.get("capacity").cloned() {
        or_set(status, "allocatable", capacity);
    }
}

pub(super) fn limit_range_item(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    let amounts =
        |item: &Object, name: &str| item.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut limits = amounts(item, "default");
    fill(&mut limits, &amounts(item, "max"));
    let mut requests = amounts(item, "defaultRequest");
    fill(&mut requests, &limits);
    fill(&mut requests, &amounts(item, "min"));
    for (name, amounts) in [("default", limits), ("defaultRequest", requests)] {
        if !amounts.is_empty() {
            item.insert(name.to_owned(), Value::Object(amounts));
        }
    }
}

fn fill(amounts: &mut Object, from: &Object) {
    for (name, amount) in from {
        amounts.entry(name.clone()).or_insert_with(|| amount.clone());
    }
    amounts.sort_keys();
}

pub(super) fn replication_controller(controller: &mut Object) {
    let labels = controller.get("spec").map(|spec| spec["template"]["metadata"]["labels"].clone());
    let Some(labels) = labels.filter(|labels| !labels.is_null()) else { return };
    if let Some(spec) = inner(controller, "spec") {
        or_set(spec, "selector", labels.clone());
    }
    if let Some(metadata) = inner(controller, "metadata") {
        or_set(metadata, "labels", labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_image_is_always_pulled() {
        for image in ["nginx", "nginx:latest", "a.b:5000/c/nginx", "nginx:latest@sha256:00"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["nginx:1", "a.b:5000/c/nginx:1", "nginx@sha256:00", "", "Nginx", "a b"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
