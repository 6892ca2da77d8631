//! Every namespace has the certificates that the API is known by, for its Pods.

use axum::http::Method;
use serde_json::json;

use super::agent::Agent;
use crate::gateway::{
    registry::{Registry, Target},
    resources::resources,
    status::Status,
};

pub(super) const NAME: &str = "kube-root-ca.crt";

const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const WHAT_IT_IS: &str =
    "The certificates that this cluster's API server is known by, for use within the cluster.";

pub(super) async fn ensure(
    registry: &Registry,
    agent: &Agent,
    namespace: &str,
    authority: &str,
) -> Result<(), Status> {
    let resource = resources().get("", "v1", "configmaps").ok_or_else(Status::no_such_resource)?;
    let wanted = json!({ KEY: authority });
    let there = match registry.get(&Target { resource, namespace, name: NAME }).await {
        Ok(found) if found.at("/data") == Some(&wanted) => return Ok(()),
        Ok(_) => true,
        Err(status) if status.code == 404 => false,
        Err(status) => return Err(status),
    };
    let map = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": { "name": NAME, "namespace": namespace, "annotations": { DESCRIPTION: WHAT_IT_IS } },
        "data": wanted,
    });
    let folder = format!("/api/v1/namespaces/{namespace}/configmaps");
    let sent = if there {
        agent.send(Method::PUT, &format!("{folder}/{NAME}"), Some(&map)).await
    } else {
        agent.send(Method::POST, &folder, Some(&map)).await
    };
    match sent {
        Err(status) if status.code != 409 => Err(status),
        _ => Ok(()),
    }
}
