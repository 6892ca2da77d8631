//! Cells of what the cluster itself is made of: nodes, events, bindings, quotas, configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    age,
    cells::{self, NONE, UNKNOWN, UNSET, View},
};

pub(super) fn config_map_data(view: &View<'_>) -> Value {
    (view.len("/data") + view.len("/binaryData")).into()
}

pub(super) fn node_status(view: &View<'_>) -> String {
    let mut words = vec![match view.condition("Ready") {
        "" => "Unknown",
        "True" => "Ready",
        _ => "NotReady",
    }];
    if view.flag("/spec/unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

pub(super) fn node_roles(view: &View<'_>) -> String {
    let labels = view.at("/metadata/labels").as_object().into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { NONE.to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address(view: &View<'_>, ty: &str) -> String {
    let found = view.each("/status/addresses").find(|address| address.text("/type") == ty);
    found.map_or(NONE, |address| address.text("/address")).to_owned()
}

pub(super) fn internal_ip(view: &View<'_>) -> String {
    address(view, "InternalIP")
}

pub(super) fn external_ip(view: &View<'_>) -> String {
    address(view, "ExternalIP")
}

pub(super) fn kernel(view: &View<'_>) -> String {
    let kernel = view.or("/status/nodeInfo/kernelVersion", UNKNOWN);
    match view.text("/status/nodeInfo/architecture") {
        "" => kernel.to_owned(),
        architecture => format!("{kernel} ({architecture})"),
    }
}

pub(super) fn first_seen(view: &View<'_>) -> String {
    if view.has("/firstTimestamp") { view.since("/firstTimestamp") } else { view.since("/eventTime") }
}

pub(super) fn last_seen(view: &View<'_>) -> String {
    match () {
        () if view.has("/series") => view.since("/series/lastObservedTime"),
        () if view.has("/lastTimestamp") => view.since("/lastTimestamp"),
        () => first_seen(view),
    }
}

pub(super) fn count(view: &View<'_>) -> Value {
    if view.has("/series") { view.int("/series/count") } else { view.int("/count").max(1) }.into()
}

pub(super) fn involved(view: &View<'_>) -> String {
    let kind = view.text("/involvedObject/kind").to_lowercase();
    match view.text("/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

pub(super) fn event_source(view: &View<'_>) -> String {
    let component = view.or("/source/component", view.text("/reportingComponent"));
    match view.or("/source/host", view.text("/reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}

pub(super) fn message(view: &View<'_>) -> String {
    view.text("/message").trim().to_owned()
}

pub(super) fn quota_requests(view: &View<'_>) -> String {
    quota(view, false)
}

pub(super) fn quota_limits(view: &View<'_>) -> String {
    quota(view, true)
}

fn quota(view: &View<'_>, of_limits: bool) -> String {
    let used = view.at("/status/used");
    let hard = view.at("/status/hard").as_object().into_iter().flatten();
    let mut texts: Vec<(&String, String)> = hard
        .filter(|(name, _)| name.starts_with("limits.") == of_limits)
        .map(|(name, hard)| {
            let used = cells::quantity(used.get(name).unwrap_or(&Value::Null));
            (name, format!("{name}: {used}/{}", cells::quantity(hard)))
        })
        .collect();
    texts.sort_unstable();
    texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

pub(super) fn role(view: &View<'_>) -> String {
    format!("{}/{}", view.text("/roleRef/kind"), view.text("/roleRef/name"))
}

fn subjects(view: &View<'_>, kind: &str, name: fn(&View<'_>) -> String) -> String {
    let meant = view.each("/subjects").filter(|subject| subject.text("/kind") == kind);
    meant.map(|subject| name(&subject)).collect::<Vec<_>>().join(", ")
}

pub(super) fn users(view: &View<'_>) -> String {
    subjects(view, "User", |subject| subject.text("/name").to_owned())
}

pub(super) fn groups(view: &View<'_>) -> String {
    subjects(view, "Group", |subject| subject.text("/name").to_owned())
}

pub(super) fn accounts(view: &View<'_>) -> String {
    subjects(view, "ServiceAccount", |s| match s.text("/namespace") {
        "" => s.text("/name").to_owned(),
        namespace => format!("{namespace}/{}", s.text("/name")),
    })
}

pub(super) fn requested_duration(view: &View<'_>) -> String {
    let seconds = view.at("/spec/expirationSeconds").as_i64();
    seconds.map_or_else(|| NONE.to_owned(), |seconds| age::span(seconds * 1_000_000))
}

pub(super) fn signing_condition(view: &View<'_>) -> String {
    let has = |ty: &str| view.each("/status/conditions").any(|condition| condition.text("/type") == ty);
    let mut text = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text += ",Failed";
    }
    if !view.text("/status/certificate").is_empty() {
        text += ",Issued";
    }
    text
}

pub(super) fn api_service(view: &View<'_>) -> String {
    if !view.has("/spec/service") {
        return "Local".to_owned();
    }
    format!("{}/{}", view.text("/spec/service/namespace"), view.text("/spec/service/name"))
}

pub(super) fn available(view: &View<'_>) -> String {
    let Some(condition) = view.each("/status/conditions").find(|c| c.text("/type") == "Available") else {
        return "Unknown".to_owned();
    };
    match (condition.text("/status"), condition.text("/reason")) {
        (status @ "True", _) | (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

pub(super) fn missing_level(view: &View<'_>) -> String {
    let status = view.condition("Dangling");
    if status.is_empty() { "?" } else { status }.to_owned()
}

fn limited(view: &View<'_>, pointer: &str) -> Value {
    match view.at(pointer) {
        Value::Null => NONE.into(),
        value => value.clone(),
    }
}

pub(super) fn shares(view: &View<'_>) -> Value {
    limited(view, "/spec/limited/nominalConcurrencyShares")
}

pub(super) fn queues(view: &View<'_>) -> Value {
    limited(view, "/spec/limited/limitResponse/queuing/queues")
}

pub(super) fn hand_size(view: &View<'_>) -> Value {
    limited(view, "/spec/limited/limitResponse/queuing/handSize")
}

pub(super) fn queue_length(view: &View<'_>) -> Value {
    limited(view, "/spec/limited/limitResponse/queuing/queueLengthLimit")
}

pub(super) fn param_kind(view: &View<'_>) -> String {
    if !view.has("/spec/paramKind") {
        return UNSET.to_owned();
    }
    format!("{}/{}", view.text("/spec/paramKind/apiVersion"), view.text("/spec/paramKind/kind"))
}

pub(super) fn param_ref(view: &View<'_>) -> String {
    match (view.text("/spec/paramRef/name"), view.text("/spec/paramRef/namespace")) {
        ("", _) if view.has("/spec/paramRef/selector") => cells::selector(view.at("/spec/paramRef/selector")),
        ("", _) => UNSET.to_owned(),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    }
}
