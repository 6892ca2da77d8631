//! Which volumes a Pod may mount.

use crate::{
    pod::{Pod, Volume},
    pod_security::violation::{Values, Violation, plural, quoted},
};

/// None of the node's folders.
pub(super) fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let mounted = pod.spec.as_ref()?.volumes().iter().filter(|volume| volume.has("hostPath"));
    let names: Vec<_> = mounted.map(Volume::name).collect();
    if names.is_empty() {
        return None;
    }
    let word = plural(names.len(), "volume", "volumes");
    Violation::new("hostPath volumes", format!("{word} {}", quoted(&names)))
}

const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// In the order in which a volume that names several is called by one of them.
const FORBIDDEN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// Only kinds that give nothing of the node or of other tenants.
pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let mut names = Vec::new();
    let mut types = Values::new();
    for volume in pod.spec.as_ref()?.volumes() {
        if !ALLOWED.iter().any(|kind| volume.has(kind)) {
            names.push(volume.name());
            types.insert(FORBIDDEN.into_iter().find(|kind| volume.has(kind)).unwrap_or("unknown"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let (word, uses) = (plural(names.len(), "volume", "volumes"), plural(names.len(), "uses", "use"));
    let kind = plural(types.len(), "restricted volume type", "restricted volume types");
    let detail = format!("{word} {} {uses} {kind} {}", quoted(&names), quoted(types));
    Violation::new("restricted volume types", detail)
}
