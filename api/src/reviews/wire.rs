//! `AdmissionReview` of `admission.k8s.io/v1`, as API servers send it and read its answer.

use std::collections::BTreeMap;

use ::admission::{
    AdmissionRequest, Denial, GroupVersionKind, GroupVersionResource, Memory, Operation, Outcome,
    PATCH_ANNOTATION, PatchOperation, UserInfo as AdmissionUser, Verdict,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::gateway::user::UserInfo;

/// The version that is answered.
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// The kind.
pub const KIND: &str = "AdmissionReview";

/// A question about an object, or its answer. Members of other versions of the API are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionReview {
    /// `AdmissionReview`.
    #[serde(default)]
    pub kind: String,
    /// Its group and version.
    #[serde(default)]
    pub api_version: String,
    /// The question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
}

/// A kind in a version of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Pod`.
    pub kind: String,
}

/// A resource in a version of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `pods`.
    pub resource: String,
}

/// What is about to be done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// What the answer must name.
    pub uid: String,
    /// In the version that the question was asked for.
    pub kind: Kind,
    /// The same.
    pub resource: Resource,
    /// Such as `scale`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub_resource: String,
    /// In the version of the request itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_kind: Option<Kind>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_resource: Option<Resource>,
    /// The same.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_sub_resource: String,
    /// Empty while it is to be generated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty for what is in none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who asks.
    pub user_info: UserInfo,
    /// As it is to be; null where it goes.
    pub object: Value,
    /// As it is; null where it is new.
    pub old_object: Value,
    /// Whether the outcome is thrown away.
    pub dry_run: bool,
    /// Such as `CreateOptions`.
    pub options: Value,
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Response {
    /// That of the question.
    pub uid: String,
    /// Whether the request may pass.
    pub allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
    /// What is to be changed: a patch (RFC 6902) in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// `JSONPatch`, with a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<String>,
    /// For the audit event.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub audit_annotations: BTreeMap<String, String>,
    /// For the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl AdmissionReview {
    /// The question, where this is one that can be answered.
    ///
    /// # Errors
    /// What it lacks.
    pub fn into_request(self) -> Result<Request, String> {
        if self.kind != KIND || self.api_version != API_VERSION {
            return Err(format!(
                "this is {:?} of {:?}; only {KIND:?} of {API_VERSION:?} is answered (admissionReviewVersions: [v1])",
                self.kind, self.api_version
            ));
        }
        let request = self.request.ok_or("there is no request in the review")?;
        if request.uid.is_empty() { Err("the request has no uid".to_owned()) } else { Ok(request) }
    }

    /// An answer.
    pub fn answer(response: Response) -> Self {
        Self { kind: KIND.into(), api_version: API_VERSION.into(), request: None, response: Some(response) }
    }
}

impl Request {
    /// The question as controllers are asked it. They see it as a dry run: whether the object is stored is not for us
    /// to know, so nothing may be charged for it.
    ///
    /// # Errors
    /// When there is no such operation.
    pub fn into_question(self) -> Result<AdmissionRequest, String> {
        let operations = [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];
        let operation = operations.into_iter().find(|operation| operation.as_str() == self.operation);
        let operation = operation.ok_or_else(|| {
            format!("{:?} is no operation: CREATE, UPDATE, DELETE and CONNECT are", self.operation)
        })?;
        let there = |value: Value| (!value.is_null()).then(|| std::sync::Arc::new(value));
        let Kind { group, version, kind } = self.kind;
        Ok(AdmissionRequest {
            uid: self.uid,
            operation,
            kind: GroupVersionKind { group, version, kind },
            resource: GroupVersionResource {
                group: self.resource.group,
                version: self.resource.version,
                resource: self.resource.resource,
            },
            subresource: self.sub_resource,
            namespace: self.namespace,
            name: self.name,
            user: AdmissionUser {
                username: self.user_info.username,
                uid: self.user_info.uid,
                groups: self.user_info.groups,
                extra: self.user_info.extra,
            },
            object: there(self.object),
            old_object: there(self.old_object),
            options: there(self.options),
            dry_run: true,
            deadline: None,
            memory: Memory::default(),
        })
    }
}

impl Response {
    /// The answer that an outcome is. Annotations lose what stands before the slash: the API server puts the
    /// webhook's own name there.
    pub fn of(uid: &str, outcome: &Outcome) -> Self {
        let patch: Vec<&PatchOperation> = outcome
            .decisions
            .iter()
            .filter_map(|decision| match &decision.verdict {
                Verdict::Patched(patch) if outcome.is_allowed() => Some(patch),
                _ => None,
            })
            .flatten()
            .collect();
        let bare = |key: &String| key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name).to_owned();
        let told = outcome.annotations.iter().filter(|(key, _)| !key.starts_with(PATCH_ANNOTATION));
        let annotations = told.map(|(key, value)| (bare(key), value.clone()));
        let patch =
            (!patch.is_empty()).then(|| STANDARD.encode(serde_json::to_vec(&patch).unwrap_or_default()));
        Self {
            uid: uid.to_owned(),
            allowed: outcome.is_allowed(),
            status: outcome.denial.as_ref().map(status),
            patch_type: patch.is_some().then(|| "JSONPatch".to_owned()),
            patch,
            audit_annotations: annotations.collect(),
            warnings: outcome.warnings.clone(),
        }
    }
}

fn status(denial: &Denial) -> Value {
    let mut status = json!({
        "metadata": {}, "status": "Failure", "message": denial.message, "reason": denial.reason, "code": denial.code,
    });
    let mut details = json!({});
    if let Some(subject) = &denial.subject {
        for (key, value) in [("name", &subject.name), ("group", &subject.group), ("kind", &subject.kind)] {
            if !value.is_empty() {
                details[key] = value.as_str().into();
            }
        }
    }
    let causes = denial.causes.iter();
    let causes: Vec<_> =
        causes.map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field })).collect();
    if !causes.is_empty() {
        details["causes"] = causes.into();
    }
    if details != json!({}) {
        status["details"] = details;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_that_is_none_of_this_version_is_refused_by_name() {
        let refused = |value: Value| {
            serde_json::from_value::<AdmissionReview>(value).unwrap().into_request().unwrap_err()
        };
        let older = json!({"kind": KIND, "apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}});
        assert!(refused(older).contains("admissionReviewVersions: [v1]"));
        assert!(refused(json!({})).contains("only \"AdmissionReview\""));
        assert!(refused(json!({"kind": KIND, "apiVersion": API_VERSION})).contains("no request"));
        let nameless = json!({"kind": KIND, "apiVersion": API_VERSION, "request": {}});
        assert!(refused(nameless).contains("no uid"));
        let request = Request { uid: "u".into(), operation: "READ".into(), ..Request::default() };
        assert!(request.into_question().unwrap_err().contains("\"READ\" is no operation"));
    }
}
