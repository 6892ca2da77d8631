//! ConfigMaps and Secrets.

use serde_json::Value;

use super::{At, fault::Faults, names};
use crate::gateway::object::Object;

/// Bytes that the data of one object may take.
const MAX_BYTES: usize = 1024 * 1024;

/// Keys that Secrets of a type must have.
const NEEDED: [(&str, &[&str]); 4] = [
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

fn keys(object: At<'_>, member: &str, faults: &mut Faults) {
    for (key, _) in object.members(member) {
        for why in names::config_key(key) {
            faults.invalid_text(&format!("{member}[{key}]"), key, &why);
        }
    }
}

/// Bytes behind base64.
fn decoded_bytes(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4)
}

pub(super) fn config_map(object: At<'_>, faults: &mut Faults) {
    keys(object, "data", faults);
    for (key, _) in object.members("data").filter(|(key, _)| object.get("binaryData").get(key).is_there()) {
        faults.invalid_text(&format!("data[{key}]"), key, "duplicate of key present in binaryData");
    }
    keys(object, "binaryData", faults);
    let plain: usize = object.members("data").map(|(_, value)| value.as_str().map_or(0, str::len)).sum();
    let binary: usize = object.members("binaryData").map(|(_, value)| decoded_bytes(value)).sum();
    if plain + binary > MAX_BYTES {
        faults.too_long("[]", MAX_BYTES);
    }
}

pub(super) fn secret(object: At<'_>, faults: &mut Faults) {
    keys(object, "data", faults);
    if object.members("data").map(|(_, value)| decoded_bytes(value)).sum::<usize>() > MAX_BYTES {
        faults.too_long("data", MAX_BYTES);
    }
    let (ty, data) = (object.text("type"), object.get("data"));
    for key in NEEDED.iter().filter(|(needs, _)| *needs == ty).flat_map(|(_, keys)| *keys) {
        if !data.get(key).is_there() {
            faults.required(&format!("data[{key}]"), "");
        }
    }
    match ty {
        "kubernetes.io/basic-auth"
            if !data.get("username").is_there() && !data.get("password").is_there() =>
        {
            faults.required("data[username]", "");
            faults.required("data[password]", "");
        }
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if object.get("metadata").get("annotations").text(key).is_empty() {
                faults.required(&format!("metadata.annotations[{key}]"), "");
            }
        }
        _ => {}
    }
}

/// What was made immutable stays so, and so does what it holds.
pub(super) fn still(new: &Object, old: &Object, faults: &mut Faults) {
    if old.at("/immutable") != Some(&Value::Bool(true)) {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if new.at("/immutable") != Some(&Value::Bool(true)) {
        faults.forbidden("immutable", WHY);
    }
    for member in ["data", "binaryData"] {
        let pointer = format!("/{member}");
        if new.at(&pointer) != old.at(&pointer) {
            faults.forbidden(member, WHY);
        }
    }
}
