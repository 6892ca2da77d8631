//! What a Pod is to run, in Pods and in templates of them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{At, fault::Faults, names, service::PORT_RANGE};
use crate::gateway::object::Object;

pub(super) fn check(spec: At<'_>, path: &str, faults: &mut Faults) {
    let volumes = volumes(spec, path, faults);
    let mut taken = HashSet::new();
    containers(spec, "containers", path, &volumes, &mut taken, faults);
    if spec.list("containers").is_empty() {
        faults.required(&format!("{path}.containers"), "");
    }
    containers(spec, "initContainers", path, &volumes, &mut taken, faults);
    let field = |key: &str| format!("{path}.{key}");
    if spec.get("restartPolicy").is_there() {
        faults.one_of(&field("restartPolicy"), spec.text("restartPolicy"), &["Always", "OnFailure", "Never"]);
    } else {
        faults.required(&field("restartPolicy"), "");
    }
    faults.one_of(
        &field("dnsPolicy"),
        spec.text("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    names::labels(&field("nodeSelector"), spec.get("nodeSelector").value, faults);
    for (key, form) in [
        ("serviceAccountName", names::subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
    ] {
        let text = spec.text(key);
        if !text.is_empty() {
            for why in form(text) {
                faults.invalid_text(&field(key), text, &why);
            }
        }
    }
    if let Some(seconds) = spec.int("activeDeadlineSeconds").filter(|s| !(1..=2_147_483_647).contains(s)) {
        faults.invalid(
            &field("activeDeadlineSeconds"),
            &seconds.into(),
            "must be between 1 and 2147483647, inclusive",
        );
    }
}

/// The names of the volumes.
fn volumes<'v>(spec: At<'v>, path: &str, faults: &mut Faults) -> HashSet<&'v str> {
    let mut taken = HashSet::new();
    for (n, value) in spec.list("volumes").iter().enumerate() {
        let (volume, at) = (At::of(value), format!("{path}.volumes[{n}]"));
        let name = volume.text("name");
        let sources = value
            .as_object()
            .map_or(0, |members| members.len().saturating_sub(usize::from(!name.is_empty())));
        if sources == 0 {
            faults.required(&at, "must specify a volume type");
        }
        if name.is_empty() {
            faults.required(&format!("{at}.name"), "");
            continue;
        }
        for why in names::label(name) {
            faults.invalid_text(&format!("{at}.name"), name, &why);
        }
        if !taken.insert(name) {
            faults.duplicate(&format!("{at}.name"), &name.into());
        }
    }
    taken
}

fn containers<'v>(
    spec: At<'v>,
    member: &str,
    path: &str,
    volumes: &HashSet<&str>,
    taken: &mut HashSet<&'v str>,
    faults: &mut Faults,
) {
    for (n, value) in spec.list(member).iter().enumerate() {
        let (container, at) = (At::of(value), format!("{path}.{member}[{n}]"));
        let name = container.text("name");
        if name.is_empty() {
            faults.required(&format!("{at}.name"), "");
        } else {
            for why in names::label(name) {
                faults.invalid_text(&format!("{at}.name"), name, &why);
            }
        }
        if !taken.insert(name) && !name.is_empty() {
            faults.duplicate(&format!("{at}.name"), &name.into());
        }
        let image = container.text("image");
        // A template may leave the image to whoever makes Pods of it.
        if image.is_empty() && path == "spec" {
            faults.required(&format!("{at}.image"), "");
        } else if image != image.trim() {
            faults.invalid_text(
                &format!("{at}.image"),
                image,
                "must not have leading or trailing whitespace",
            );
        }
        faults.one_of(
            &format!("{at}.imagePullPolicy"),
            container.text("imagePullPolicy"),
            &["Always", "IfNotPresent", "Never"],
        );
        ports(container, &at, faults);
        environment(container, &at, faults);
        mounts(container, &at, volumes, faults);
    }
}

fn ports(container: At<'_>, at: &str, faults: &mut Faults) {
    let mut taken = HashSet::new();
    for (n, value) in container.list("ports").iter().enumerate() {
        let (port, at) = (At::of(value), format!("{at}.ports[{n}]"));
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = names::port(name);
            for why in &wrong {
                faults.invalid_text(&format!("{at}.name"), name, why);
            }
            if wrong.is_empty() && !taken.insert(name) {
                faults.duplicate(&format!("{at}.name"), &name.into());
            }
        }
        match port.int("containerPort").unwrap_or_default() {
            0 => faults.required(&format!("{at}.containerPort"), ""),
            1..=65_535 => {}
            number => faults.invalid(&format!("{at}.containerPort"), &number.into(), PORT_RANGE),
        }
        faults.one_of(&format!("{at}.protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn environment(container: At<'_>, at: &str, faults: &mut Faults) {
    for (n, value) in container.list("env").iter().enumerate() {
        let (name, field) = (At::of(value).text("name"), format!("{at}.env[{n}].name"));
        if name.is_empty() {
            faults.required(&field, "");
        } else if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
            let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            faults.invalid_text(&field, name, why);
        }
    }
}

fn mounts(container: At<'_>, at: &str, volumes: &HashSet<&str>, faults: &mut Faults) {
    let mut taken = HashSet::new();
    for (n, value) in container.list("volumeMounts").iter().enumerate() {
        let (mount, at) = (At::of(value), format!("{at}.volumeMounts[{n}]"));
        let (name, place) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            faults.required(&format!("{at}.name"), "");
        }
        if !volumes.contains(name) {
            faults.not_found(&format!("{at}.name"), name);
        }
        if place.is_empty() {
            faults.required(&format!("{at}.mountPath"), "");
        } else if !taken.insert(place) {
            faults.invalid(&format!("{at}.mountPath"), &json!(place), "must be unique");
        }
    }
}

/// What a template's labels are, for messages.
pub(super) fn template_labels(spec: At<'_>) -> &Value {
    spec.get("template").get("metadata").get("labels").value
}

/// Of what a Pod is to run only little may change.
pub(super) fn unchanged(new: &Object, old: &Object, faults: &mut Faults) {
    if rest(new) != rest(old) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        faults.forbidden("spec", why);
    }
}

/// What of a Pod stays as it was made.
fn rest(pod: &Object) -> Value {
    let mut spec = pod.at("/spec").cloned().unwrap_or_default();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    if let Some(members) = spec.as_object_mut() {
        for key in
            ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"]
        {
            members.remove(key);
        }
    }
    spec
}
