//! Cells of volumes, their claims and classes, and of claimed devices.

use serde_json::Value;

use super::cells::{self, NONE, UNSET, View};

/// Access modes and their short forms, in the order in which they are shown.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

fn modes_of(list: &[Value]) -> String {
    let shown = MODES.iter().filter(|(mode, _)| list.iter().any(|m| m == mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(super) fn access_modes(view: &View<'_>) -> String {
    modes_of(view.list("/spec/accessModes"))
}

pub(super) fn capacity(view: &View<'_>) -> String {
    cells::quantity(view.at("/spec/capacity/storage")).to_owned()
}

pub(super) fn phase(view: &View<'_>) -> String {
    if view.is_deleting() { "Terminating" } else { view.text("/status/phase") }.to_owned()
}

pub(super) fn claim(view: &View<'_>) -> String {
    if !view.has("/spec/claimRef") {
        return String::new();
    }
    format!("{}/{}", view.text("/spec/claimRef/namespace"), view.text("/spec/claimRef/name"))
}

pub(super) fn class(view: &View<'_>) -> String {
    let annotated = view.at("/metadata/annotations")["volume.beta.kubernetes.io/storage-class"].as_str();
    annotated.unwrap_or_else(|| view.text("/spec/storageClassName")).to_owned()
}

fn is_bound(view: &View<'_>) -> bool {
    !view.text("/spec/volumeName").is_empty()
}

pub(super) fn bound_capacity(view: &View<'_>) -> String {
    if is_bound(view) { cells::quantity(view.at("/status/capacity/storage")) } else { "" }.to_owned()
}

pub(super) fn bound_access_modes(view: &View<'_>) -> String {
    if is_bound(view) { modes_of(view.list("/status/accessModes")) } else { String::new() }
}

pub(super) fn class_name(view: &View<'_>) -> String {
    let annotations = view.at("/metadata/annotations");
    let is_default = annotations["storageclass.kubernetes.io/is-default-class"] == "true"
        || annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true";
    format!("{}{}", view.text("/metadata/name"), if is_default { " (default)" } else { "" })
}

pub(super) fn token_requests(view: &View<'_>) -> String {
    if view.has("/spec/tokenRequests") {
        view.texts("/spec/tokenRequests", "/audience")
    } else {
        UNSET.to_owned()
    }
}

pub(super) fn modes(view: &View<'_>) -> String {
    Some(view.texts("/spec/volumeLifecycleModes", ""))
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| NONE.to_owned())
}

/// How far a claim for devices has come.
pub(super) fn claim_state(view: &View<'_>) -> String {
    let is_allocated = view.has("/status/allocation");
    let states = [
        ("deleted", view.is_deleting()),
        ("pending", !is_allocated && !view.is_deleting()),
        ("allocated", is_allocated),
        ("reserved", is_allocated && !view.list("/status/reservedFor").is_empty()),
    ];
    states.iter().filter(|(_, is)| *is).map(|(state, _)| *state).collect::<Vec<_>>().join(",")
}
