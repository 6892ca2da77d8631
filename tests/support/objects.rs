//! Objects that tests create so that there are events.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::server::Caller;

/// Creates a ConfigMap under an audit id that is its name; nothing when there was no answer.
pub(crate) async fn create(caller: &Caller, name: &str, value: &str) -> Option<StatusCode> {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "x": value },
    });
    let request = caller.request(Method::POST, "/api/v1/namespaces/default/configmaps");
    Some(request.header("audit-id", name).json(&object).send().await.ok()?.status())
}
