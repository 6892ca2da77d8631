//! Keeps the roles and bindings of the store in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use ingest::retry::Backoff;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Binding, RoleRef, Rule, Snapshot, Subject};
use crate::{
    errors::chain,
    gateway::{
        object::Object,
        store::{Batch, Change, List, Store, StoreError, WatchError},
        stored,
    },
};

/// Where roles and bindings are kept.
const PREFIXES: [&str; 4] = ["clusterrolebindings/", "clusterroles/", "rolebindings/", "roles/"];

/// Between two tries to read the store.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Follows the store until `stop`. The snapshot is of nothing until the store was read.
pub async fn follow(store: Arc<dyn Store>, snapshot: watch::Sender<Arc<Snapshot>>, stop: CancellationToken) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let followed = stop.run_until_cancelled(once(&*store, &snapshot, &mut backoff)).await;
        let Some(ended) = followed else { return };
        tracing::warn!(error = chain(&ended), "roles and bindings are read anew");
        if stop.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("roles and bindings cannot be listed")]
    List(#[from] StoreError),
    #[error("roles and bindings cannot be watched")]
    Watch(#[from] WatchError),
    #[error("the store has closed")]
    Closed,
}

async fn once(store: &dyn Store, snapshot: &watch::Sender<Arc<Snapshot>>, backoff: &mut Backoff) -> Ended {
    let mut objects = BTreeMap::new();
    let mut watches = Vec::new();
    for prefix in PREFIXES {
        let listing = match store.list(&List { prefix, ..List::default() }).await {
            Ok(listing) => listing,
            Err(error) => return error.into(),
        };
        for item in listing.items {
            keep(&mut objects, &item.key, Some(&item.object.value));
        }
        let watch = store.watch(prefix, listing.revision);
        watches
            .push(Box::pin(stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) })));
    }
    backoff.reset();
    snapshot.send_replace(Arc::new(build(&objects)));
    let mut changes = stream::select_all(watches);
    loop {
        match changes.next().await {
            Some(Ok(Batch { changes, .. })) if changes.is_empty() => {}
            Some(Ok(Batch { changes, .. })) => {
                for Change { key, value, .. } in &changes {
                    keep(&mut objects, key, value.as_ref());
                }
                snapshot.send_replace(Arc::new(build(&objects)));
            }
            Some(Err(error)) => return error.into(),
            None => return Ended::Closed,
        }
    }
}

fn keep(objects: &mut BTreeMap<String, Object>, key: &str, value: Option<&bytes::Bytes>) {
    match value.map(|value| stored::decode(value, 0)) {
        Some(Ok(object)) => drop(objects.insert(key.to_owned(), object)),
        Some(Err(error)) => {
            tracing::error!(
                key,
                error = chain(&error),
                "a role or binding cannot be read: it allows nothing"
            );
            objects.remove(key);
        }
        None => drop(objects.remove(key)),
    }
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
