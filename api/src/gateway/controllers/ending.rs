//! The end of a namespace: first what is in it, then itself.

use axum::http::Method;
use serde_json::{Value, json};

use super::agent::Agent;
use crate::gateway::{
    object::Object,
    registry::{ListOptions, Registry, Target},
    resources::{Resource, resources},
    selectors::Selectors,
    status::Status,
};

/// What holds a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

/// A namespace that is there.
pub(super) async fn namespace(registry: &Registry, name: &str) -> Result<Option<Object>, Status> {
    let resource = resources().get("", "v1", "namespaces").ok_or_else(Status::no_such_resource)?;
    match registry.get(&Target { resource, namespace: "", name }).await {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// Deletes what is in an ending namespace; when nothing is left, lets it go. False where something stays for now, such
/// as what waits for a finalizer of its own.
pub(super) async fn finish(registry: &Registry, agent: &Agent, namespace: &Object) -> Result<bool, Status> {
    let name = namespace.name();
    let finalizers = namespace.at("/spec/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(true);
    }
    for resource in deletable() {
        if !is_empty(registry, resource, name).await? {
            // There is no kubelet that would end a Pod in its time.
            let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
            agent.send(Method::DELETE, &path(resource, name), Some(&options)).await?;
        }
    }
    for resource in deletable() {
        if !is_empty(registry, resource, name).await? {
            tracing::debug!(namespace = name, remaining = resource.plural, "a namespace is not empty yet");
            return Ok(false);
        }
    }
    let mut finalized = namespace.clone();
    let others: Vec<Value> = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    finalized.members_mut().entry("spec").or_insert_with(|| json!({}))["finalizers"] = others.into();
    let path = format!("/api/v1/namespaces/{name}/finalize");
    match agent.send(Method::PUT, &path, Some(&finalized.into_value())).await {
        // Gone already, or changed meanwhile: the change leads here again.
        Err(status) if !matches!(status.code, 404 | 409) => Err(status),
        _ => Ok(true),
    }
}

/// What namespaces hold, each stored form once.
fn deletable() -> impl Iterator<Item = &'static Resource> {
    resources().all().filter(|resource| {
        resource.namespaced && resource.allows("deletecollection") && resource.is_stored_as_it_is()
    })
}

async fn is_empty(registry: &Registry, resource: &'static Resource, namespace: &str) -> Result<bool, Status> {
    let page = registry.list(resource, namespace, &Selectors::default(), &ListOptions::all(1)).await?;
    Ok(page.items.is_empty())
}

fn path(resource: &Resource, namespace: &str) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/namespaces/{namespace}/{}", resource.api_version(), resource.plural)
}
