//! What is true of the metadata of every kind.

use serde_json::{Value, json};

use super::{At, fault::Faults, names};
use crate::gateway::{object::Object, resources::Resource};

/// Bytes that all annotations of an object may take.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Finalizers without a domain that are upstream's own.
const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

pub(super) fn check(resource: &Resource, object: &Object, faults: &mut Faults) {
    name(resource, object, faults);
    let value = Value::Object(object.metadata().clone());
    let metadata = At::of(&value);
    names::labels("metadata.labels", metadata.get("labels").value, faults);
    annotations(metadata, faults);
    owners(metadata, faults);
    for (n, finalizer) in metadata.list("finalizers").iter().filter_map(Value::as_str).enumerate() {
        let field = format!("metadata.finalizers[{n}]");
        for why in names::qualified(finalizer) {
            faults.invalid_text("metadata.finalizers", finalizer, &why);
        }
        if !finalizer.contains('/') && !STANDARD.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            faults.invalid_text(&field, finalizer, why);
        }
    }
}

fn name(resource: &Resource, object: &Object, faults: &mut Faults) {
    const FIELD: &str = "metadata.name";
    let name = object.name();
    if name.is_empty() {
        return faults.required(FIELD, "name or generateName is required");
    }
    let wrong = match (resource.group, resource.plural) {
        ("", "namespaces") if names::label(name).is_empty() || !name.contains('.') => names::label(name),
        ("", "namespaces") if names::subdomain(name).is_empty() => vec!["must not contain dots".to_owned()],
        ("", "namespaces") => names::label(name),
        ("", "services") => names::label(name),
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io" | "flowcontrol.apiserver.k8s.io", _)
        | ("events.k8s.io", "events")
        | ("", "events" | "nodes") => names::segment(name),
        _ => names::subdomain(name),
    };
    for why in wrong {
        faults.invalid_text(FIELD, name, &why);
    }
}

fn annotations(metadata: At<'_>, faults: &mut Faults) {
    const FIELD: &str = "metadata.annotations";
    let mut bytes = 0;
    for (key, value) in metadata.members("annotations") {
        for why in names::qualified(&key.to_lowercase()) {
            faults.invalid_text(FIELD, key, &why);
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATION_BYTES {
        faults.too_long(FIELD, MAX_ANNOTATION_BYTES);
    }
}

fn owners(metadata: At<'_>, faults: &mut Faults) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for value in metadata.list("ownerReferences") {
        let owner = At::of(value);
        if owner.text("apiVersion").is_empty() {
            faults.invalid_text(&format!("{FIELD}.apiVersion"), "", "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if owner.text(key).is_empty() {
                faults.invalid_text(&format!("{FIELD}.{key}"), "", "must not be empty");
            }
        }
        if (owner.text("apiVersion"), owner.text("kind")) == ("v1", "Event") {
            faults.invalid(FIELD, &reference(owner), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller").value == &Value::Bool(true) {
            let named = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &controller {
                Some(first) => {
                    let all: Vec<Value> =
                        metadata.list("ownerReferences").iter().map(|v| reference(At::of(v))).collect();
                    let why = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                         and {named}"
                    );
                    faults.invalid(FIELD, &all.into(), &why);
                }
                None => controller = Some(named),
            }
        }
    }
}

/// A reference in Go's order of members.
fn reference(owner: At<'_>) -> Value {
    let mut shown = json!({});
    for key in ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"] {
        if owner.get(key).is_there() {
            shown[key] = owner.get(key).value.clone();
        }
    }
    shown
}

/// What no client may take away once an end has begun.
pub(super) fn check_unchanged(new: &Object, old: &Object, faults: &mut Faults) {
    if !old.is_deleting() {
        return;
    }
    let before: Vec<&str> = old.finalizers().collect();
    let added: Vec<&str> = new.finalizers().filter(|finalizer| !before.contains(finalizer)).collect();
    if !added.is_empty() {
        let shown: Vec<String> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            shown.join(", ")
        );
        faults.forbidden("metadata.finalizers", &why);
    }
}
