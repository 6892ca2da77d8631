//! What is in every cluster from its first start on.

mod roles;

use std::time::Duration;

use ingest::retry::Backoff;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    object::Object,
    registry::{Registry, Target},
    resources::resources,
    status::Status,
};

/// Namespaces that upstream's server makes by itself.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Between two tries while the store is away.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Makes what is missing, and tries until it is there.
pub async fn bootstrap(registry: &Registry, stop: &CancellationToken) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    while let Err(status) = once(registry).await {
        tracing::warn!(
            error = status.message,
            "the namespaces and roles of every cluster could not be made: retrying"
        );
        if stop.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
            return;
        }
    }
}

async fn once(registry: &Registry) -> Result<(), Status> {
    namespaces(registry).await?;
    roles::make(registry).await
}

async fn namespaces(registry: &Registry) -> Result<(), Status> {
    let resource = resources().get("", "v1", "namespaces").ok_or_else(Status::no_such_resource)?;
    for name in NAMESPACES {
        let target = Target { resource, namespace: "", name };
        let value = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
        let mut object = Object::new(value).map_err(Status::internal)?;
        registry.prepare(&target, &mut object)?;
        match registry.create(&target, object, false).await {
            Ok(_) => {}
            Err(status) if status.reason == "AlreadyExists" => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
