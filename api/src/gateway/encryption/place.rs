//! Where the values of a resource lie: from a key of the store to the resource as configurations name it.

use std::{collections::HashMap, sync::OnceLock};

use crate::gateway::resources::{Resource, resources};

/// A resource and its values.
#[derive(Debug)]
pub(super) struct Place {
    /// As configurations name it.
    pub(super) name: String,
    /// What it is.
    pub(super) resource: &'static Resource,
}

impl Place {
    /// What all its keys begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.resource.storage)
    }
}

/// The resource whose value a key holds, as an encryption configuration names it: `secrets`, `deployments.apps`. What
/// is no resource of ours is named after the first part of its key, as kube-apiserver lays out custom resources of the
/// core group.
pub(super) fn resource_of(key: &str) -> &str {
    let two = key.match_indices('/').nth(1).map(|(at, _)| &key[..at]);
    let one = key.split('/').next().unwrap_or(key);
    two.and_then(|storage| places().get(storage))
        .or_else(|| places().get(one))
        .map_or(one, |place| &place.name)
}

/// Every resource that is stored, by the names in configurations.
pub(super) fn all() -> Vec<&'static Place> {
    let mut all: Vec<_> = places().values().collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

/// By what stands before namespace and name in the keys.
fn places() -> &'static HashMap<&'static str, Place> {
    static PLACES: OnceLock<HashMap<&'static str, Place>> = OnceLock::new();
    PLACES.get_or_init(|| {
        // A resource that is served in several groups is stored in the form of one of them, and named after that one.
        let stored = resources().all().filter(|resource| resource.stored.0 == resource.group);
        let place =
            |resource: &'static Resource| Place { name: name(resource.plural, resource.group), resource };
        stored.map(|resource| (resource.storage, place(resource))).collect()
    })
}

fn name(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_resource() {
        for (key, resource) in [
            ("secrets/shop/db", "secrets"),
            ("deployments/shop/web", "deployments.apps"),
            ("services/specs/shop/web", "services"),
            ("services/endpoints/shop/web", "endpoints"),
            ("minions/a", "nodes"),
            ("namespaces/shop", "namespaces"),
            ("clusterroles/admin", "clusterroles.rbac.authorization.k8s.io"),
            ("masterleases/10.0.0.1", "masterleases"),
        ] {
            assert_eq!(resource_of(key), resource);
        }
    }

    #[test]
    fn every_resource_has_one_place() {
        let mut names: Vec<_> = all().iter().map(|place| place.name.as_str()).collect();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.contains(&"secrets"));
    }
}
