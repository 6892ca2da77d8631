//! Every namespace has an account that its Pods run as where they name none.

use axum::http::Method;
use serde_json::json;

use super::agent::Agent;
use crate::gateway::{
    registry::{Registry, Target},
    resources::resources,
    status::Status,
};

pub(super) const NAME: &str = "default";

pub(super) async fn ensure(registry: &Registry, agent: &Agent, namespace: &str) -> Result<(), Status> {
    let resource = resources().get("", "v1", "serviceaccounts").ok_or_else(Status::no_such_resource)?;
    match registry.get(&Target { resource, namespace, name: NAME }).await {
        Err(status) if status.code == 404 => {}
        found => return found.map(drop),
    }
    let account = json!({
        "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": NAME, "namespace": namespace },
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    match agent.send(Method::POST, &path, Some(&account)).await {
        Err(status) if status.code != 409 => Err(status),
        _ => Ok(()),
    }
}
