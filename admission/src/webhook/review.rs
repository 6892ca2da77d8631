//! AdmissionReview v1: the request to a webhook, and its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    denial::{Cause, Denial, Subject},
    matching::Form,
    patch::PatchOperation,
    policy::user,
    quote::Quoted,
    request::{AdmissionRequest, GroupVersionKind, GroupVersionResource},
};

/// The object as it was after each webhook, by the webhook's configuration and its place there.
type Seen = BTreeMap<(String, usize), Arc<Value>>;

/// What a request remembers of the webhooks and policies that it was put to, until it is put to them again: each with
/// the object as it was after it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(crate) round: u8,
    seen: Arc<Mutex<Seen>>,
}

impl Memory {
    pub(crate) fn remember(&self, webhook: (&str, usize), object: &Arc<Value>) {
        self.lock().insert((webhook.0.to_owned(), webhook.1), object.clone());
    }

    /// The object as it was after a webhook; none when it was not asked.
    pub(crate) fn after(&self, webhook: (&str, usize)) -> Option<Arc<Value>> {
        self.lock().get(&(webhook.0.to_owned(), webhook.1)).cloned()
    }

    /// A panic while the lock was held left nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body for a webhook.
pub(super) fn review(
    uid: &str,
    request: &AdmissionRequest,
    form: &Form,
    object: Option<&Value>,
    old_object: Option<&Value>,
) -> Vec<u8> {
    let kind =
        |kind: &GroupVersionKind| json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let resource = |resource: &GroupVersionResource| json!({ "group": resource.group, "version": resource.version, "resource": resource.resource });
    let mut asked = Map::new();
    let mut set = |name: &str, value: Value| drop(asked.insert(name.to_owned(), value));
    set("uid", uid.into());
    set("kind", kind(&form.kind));
    set("resource", resource(&form.resource));
    if !request.subresource.is_empty() {
        set("subResource", request.subresource.as_str().into());
    }
    set("requestKind", kind(&request.kind));
    set("requestResource", resource(&request.resource));
    for (name, text) in [
        ("requestSubResource", &request.subresource),
        ("name", &request.name),
        ("namespace", &request.namespace),
    ] {
        if !text.is_empty() {
            set(name, text.as_str().into());
        }
    }
    set("operation", request.operation.as_str().into());
    set("userInfo", user(request));
    set("object", object.cloned().unwrap_or_default());
    set("oldObject", old_object.cloned().unwrap_or_default());
    set("dryRun", request.dry_run.into());
    set("options", request.options.as_deref().cloned().unwrap_or_default());
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked })
        .to_string()
        .into_bytes()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<StoredStatus>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: BTreeMap<String, String>,
    warnings: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredStatus {
    code: u16,
    message: String,
    reason: String,
    details: Option<StoredDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredDetails {
    name: String,
    group: String,
    kind: String,
    causes: Vec<StoredCause>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredCause {
    reason: String,
    message: String,
    field: String,
}

/// What a webhook said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) denial: Option<Denial>,
    pub(super) patch: Vec<PatchOperation>,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Reads a webhook's answer.
///
/// # Errors
/// When it is none to this request.
pub(super) fn read(name: &str, uid: &str, body: &[u8], may_patch: bool) -> Result<Said, String> {
    let review: Review = serde_json::from_slice(body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    // What says nothing of its kind is taken as what is expected.
    if !matches!(
        (review.api_version.as_str(), review.kind.as_str()),
        ("admission.k8s.io/v1", "AdmissionReview") | ("", "")
    ) {
        let group = if review.api_version.is_empty() { "" } else { review.api_version.as_str() };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}, Kind={}",
            review.kind
        ));
    }
    let response = review.response.ok_or("webhook response was absent")?;
    if response.uid != uid {
        return Err(format!("expected response.uid={}, got {}", Quoted(uid), Quoted(&response.uid)));
    }
    let annotations =
        response.audit_annotations.into_iter().map(|(key, value)| (format!("{name}/{key}"), value));
    let mut said =
        Said { warnings: response.warnings, annotations: annotations.collect(), ..Said::default() };
    let patch = response.patch.filter(|patch| !patch.is_empty());
    match (patch, response.patch_type) {
        (None, None) => {}
        (_, _) if !may_patch => {
            return Err("validating webhook may not return response.patch".to_owned());
        }
        (Some(patch), Some(kind)) if kind == "JSONPatch" => said.patch = read_patch(&patch)?,
        (Some(_), Some(kind)) => {
            return Err(format!("invalid response.patchType {} (only JSONPatch is allowed)", Quoted(&kind)));
        }
        (Some(_), None) => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (None, Some(_)) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
    }
    if !response.allowed {
        said.denial = Some(denied(name, response.status.unwrap_or_default()));
    }
    Ok(said)
}

fn read_patch(patch: &str) -> Result<Vec<PatchOperation>, String> {
    let bytes = STANDARD.decode(patch).map_err(|error| format!("response.patch is not base64: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("response.patch is no JSON patch: {error}"))
}

fn denied(name: &str, status: StoredStatus) -> Denial {
    let by = format!("admission webhook {} denied the request", Quoted(name));
    let message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let mut denial = Denial::new(status.code.max(400), &status.reason, message);
    let details = status.details.unwrap_or_default();
    denial.causes = details
        .causes
        .into_iter()
        .map(|cause| Cause { reason: cause.reason, message: cause.message, field: cause.field })
        .collect();
    // What a webhook says stands as it is: it is not told again what was refused.
    denial.subject = Some(Box::new(Subject { group: details.group, kind: details.kind, name: details.name }));
    denial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Result<Said, String> {
        let review =
            json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response });
        read("w.example.test", "1", review.to_string().as_bytes(), true)
    }

    #[test]
    fn an_answer_is_taken_as_kube_apiserver_takes_it() {
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/data"}]"#);
        let said = answer(json!({
            "uid": "1", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["w"],
            "auditAnnotations": { "a": "b" },
        }))
        .unwrap();
        assert!(said.denial.is_none() && said.patch.len() == 1);
        assert_eq!(said.annotations["w.example.test/a"], "b");
        for (status, code, message) in [
            (json!(null), 400, "denied the request without explanation"),
            (json!({ "code": 200, "reason": "Teapot" }), 400, "denied the request: Teapot"),
            (json!({ "code": 418, "message": "no tea" }), 418, "denied the request: no tea"),
        ] {
            let denial =
                answer(json!({ "uid": "1", "allowed": false, "status": status })).unwrap().denial.unwrap();
            let by = "admission webhook \"w.example.test\" ";
            assert_eq!((denial.code, denial.message), (code, format!("{by}{message}")));
        }
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        for (response, why) in [
            (json!(null), "webhook response was absent"),
            (json!({ "uid": "2", "allowed": true }), "expected response.uid=\"1\", got \"2\""),
            (
                json!({ "uid": "1", "allowed": true, "patch": "e30=" }),
                "response.patch but not response.patchType",
            ),
            (
                json!({ "uid": "1", "allowed": true, "patchType": "JSONPatch" }),
                "response.patchType but not response.patch",
            ),
            (
                json!({ "uid": "1", "allowed": true, "patch": "e30=", "patchType": "Merge" }),
                "only JSONPatch is allowed",
            ),
            (json!({ "uid": "1", "allowed": true, "patch": "!", "patchType": "JSONPatch" }), "is not base64"),
        ] {
            let error = answer(response.clone()).unwrap_err();
            assert!(error.contains(why), "{response}: {error}");
        }
        let body = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"1","allowed":true,"patch":"e30=","patchType":"JSONPatch"}}"#;
        assert!(
            read("w", "1", body, false)
                .unwrap_err()
                .contains("validating webhook may not return response.patch")
        );
        assert!(read("w", "1", b"<html>", true).is_err());
    }
}
