//! The laws of the cluster store on a real etcd; the embedded store runs them in its crate.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;

use api::gateway::store::{EtcdOptions, EtcdStore, laws};

use engines::Own;

/// An etcd of its own: revisions and compaction are of a whole etcd.
async fn fresh() -> (EtcdStore, Own) {
    let own = tokio::task::spawn_blocking(|| Own::start(&["etcd"])).await.unwrap();
    let options = EtcdOptions { servers: vec![own.etcd().to_owned()], ..EtcdOptions::default() };
    (EtcdStore::open(&options).await.unwrap(), own)
}

laws::tests!(fresh);
