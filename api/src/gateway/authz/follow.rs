//! Keeps the roles and bindings of the store in memory.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Binding, RoleRef, Rule, Snapshot, Subject};
use crate::gateway::{follow::Followed, object::Object, store::Store};

/// Where roles and bindings are kept.
const ROLES: Followed = Followed {
    what: "roles and bindings",
    prefixes: &["clusterrolebindings/", "clusterroles/", "rolebindings/", "roles/"],
};

/// Follows the store until `stop`. The snapshot is of nothing until the store was read.
pub async fn follow(store: Arc<dyn Store>, snapshot: watch::Sender<Arc<Snapshot>>, stop: CancellationToken) {
    let told = |objects: &BTreeMap<String, Object>| drop(snapshot.send_replace(Arc::new(build(objects))));
    ROLES.follow(&*store, &stop, told).await;
}

fn build(objects: &BTreeMap<String, Object>) -> Snapshot {
    let mut snapshot = Snapshot { is_known: true, ..Snapshot::default() };
    for (key, object) in objects {
        let (name, namespace) = (object.name().to_owned(), object.namespace().to_owned());
        match key.split('/').next().unwrap_or_default() {
            "clusterroles" => drop(snapshot.cluster_roles.insert(name, rules(object))),
            "roles" => drop(snapshot.roles.entry(namespace).or_default().insert(name, rules(object))),
            "clusterrolebindings" => snapshot.cluster_bindings.extend(binding(object)),
            _ => snapshot.bindings.entry(namespace).or_default().extend(binding(object)),
        }
    }
    snapshot
}

fn rules(role: &Object) -> Arc<[Rule]> {
    read::<Vec<Rule>>(role.at("/rules")).unwrap_or_default().into()
}

fn binding(object: &Object) -> Option<Binding> {
    let role: RoleRef = read(object.at("/roleRef"))?;
    let subjects: Vec<Subject> = read(object.at("/subjects")).unwrap_or_default();
    Some(Binding { name: object.name().to_owned(), role, subjects })
}

fn read<'v, T: Deserialize<'v>>(value: Option<&'v Value>) -> Option<T> {
    value.and_then(|value| T::deserialize(value).ok())
}
