//! The volume with the token of a Pod's account, in every container that does not bring its own.

use std::hash::{BuildHasher, RandomState};

use serde_json::{Value, json};

use crate::PatchOperation;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the volume's name begins with.
const VOLUME: &str = "kube-api-access-";

/// How long a token is asked for, in seconds: an hour and a little, by which it is known that nobody asked for more.
const EXPIRATION: u32 = 3607;

/// The changes that mount the token.
pub(super) fn mount(spec: &Value) -> Vec<PatchOperation> {
    let volumes = spec["volumes"].as_array();
    let names = volumes.into_iter().flatten().filter_map(|volume| volume["name"].as_str());
    let there = names.into_iter().find(|name| name.starts_with(VOLUME));
    let name = there.map_or_else(|| format!("{VOLUME}{}", suffix()), str::to_owned);
    let mut patch = Vec::new();
    for list in ["initContainers", "containers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            patch.extend(mount_in(container, &format!("/spec/{list}/{at}/volumeMounts"), &name));
        }
    }
    if there.is_none() && !patch.is_empty() {
        patch.push(added(volumes.is_some(), "/spec/volumes", volume(&name)));
    }
    patch
}

fn mount_in(container: &Value, path: &str, volume: &str) -> Option<PatchOperation> {
    let mounts = container["volumeMounts"].as_array();
    if mounts.into_iter().flatten().any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return None;
    }
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    Some(added(mounts.is_some(), path, mount))
}

/// Puts an item at the end of a list, or makes the list.
fn added(is_there: bool, path: &str, item: Value) -> PatchOperation {
    if is_there {
        PatchOperation::add(format!("{path}/-"), item)
    } else {
        PatchOperation::add(path, json!([item]))
    }
}

fn volume(name: &str) -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
    ]}})
}

/// Five characters that make no words. The name is to differ from the Pod's other volumes, and is no secret.
fn suffix() -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = RandomState::new().hash_one(0);
    let mut next = || {
        let at = rest % 27;
        rest /= 27;
        char::from(ALPHABET[at as usize])
    };
    (0..5).map(|_| next()).collect()
}
