//! Questions that are asked by creating an object: who somebody is and what they may do. Nothing is stored.

use std::collections::BTreeMap;

use axum::{body::Body, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::gateway::{
    answer::{Answer, Content},
    audit::Trail,
    authz::{Attributes, Rule, RuleRequest, listed},
    body::Received,
    object::Object,
    status::{Cause, Qualified, Status},
    user::UserInfo,
};

/// What may be asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    #[serde(deserialize_with = "listed")]
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
    namespace: String,
    token: String,
    #[serde(deserialize_with = "listed")]
    audiences: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

impl Call<'_> {
    /// Whether the resource is a question.
    pub(super) fn is_review(&self) -> bool {
        matches!(self.resource.group, "authentication.k8s.io" | "authorization.k8s.io")
    }

    pub(super) async fn review(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let Received { object, mut warnings } = self.receive(body, trail).await?;
        let mut object = self.hear(object, trail, is_dry_run, &mut warnings).await?;
        let spec = object.at("/spec").map(Spec::deserialize).transpose();
        let spec = spec.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
        let status = match self.resource.plural {
            "selfsubjectreviews" => json!({ "userInfo": self.guard.user }),
            "tokenreviews" => self.token_review(&spec).await?,
            "selfsubjectrulesreviews" => self.rules(&spec)?,
            "selfsubjectaccessreviews" => self.access(&spec, self.guard.user)?,
            _ => self.access_of_another(&spec, &object)?,
        };
        object.members_mut().insert("status".to_owned(), status);
        Ok(self.answer(StatusCode::CREATED, Content::Object(object), warnings))
    }

    /// What somebody else may do; `localsubjectaccessreviews` ask about their own namespace alone.
    fn access_of_another(&self, spec: &Spec, object: &Object) -> Result<Value, Status> {
        if self.resource.namespaced {
            if !object.namespace().is_empty() && object.namespace() != self.info.namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            if spec.non_resource_attributes.is_some() {
                let why = "Invalid value: disallowed on this kind of request";
                return Err(self.invalid("spec.nonResourceAttributes", "FieldValueInvalid", why));
            }
            let asked = spec.resource_attributes.as_ref().map_or("", |asked| asked.namespace.as_str());
            if asked != self.info.namespace {
                let why = format!("Invalid value: {asked:?}: must match metadata.namespace");
                return Err(self.invalid("spec.resourceAttributes.namespace", "FieldValueInvalid", &why));
            }
        }
        if spec.user.is_empty() && spec.groups.is_empty() {
            let why = "Required value: at least one of user or group must be specified";
            return Err(self.invalid("spec.user", "FieldValueRequired", why));
        }
        let user = UserInfo {
            username: spec.user.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
        };
        self.access(spec, &user)
    }

    fn access(&self, spec: &Spec, user: &UserInfo) -> Result<Value, Status> {
        let (request, namespace) = match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(asked), None) => {
                let request = RuleRequest::Resource {
                    verb: &asked.verb,
                    group: &asked.group,
                    resource: &asked.resource,
                    subresource: &asked.subresource,
                    name: &asked.name,
                };
                (request, asked.namespace.as_str())
            }
            (None, Some(asked)) => (RuleRequest::Path { verb: &asked.verb, path: &asked.path }, ""),
            (Some(_), Some(_)) => {
                let why = "Invalid value: cannot be specified in combination with resourceAttributes";
                return Err(self.invalid("spec.nonResourceAttributes", "FieldValueInvalid", why));
            }
            (None, None) => {
                let why = "Required value: exactly one of nonResourceAttributes or resourceAttributes must be specified";
                return Err(self.invalid("spec.resourceAttributes", "FieldValueRequired", why));
            }
        };
        let verdict = self.guard.roles.authorize(&Attributes { user, request, namespace });
        let mut status = json!({ "allowed": verdict.is_allowed });
        if !verdict.reason.is_empty() {
            status["reason"] = verdict.reason.into();
        }
        Ok(status)
    }

    fn rules(&self, spec: &Spec) -> Result<Value, Status> {
        if spec.namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let rules: Vec<&Rule> = self.guard.roles.rules_of(self.guard.user, &spec.namespace).collect();
        let of_resources = rules.iter().filter(|rule| !rule.resources.is_empty()).map(|rule| {
            let mut shown = json!({
                "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            });
            if !rule.resource_names.is_empty() {
                shown["resourceNames"] = json!(rule.resource_names);
            }
            shown
        });
        let of_paths = rules.iter().filter(|rule| !rule.non_resource_urls.is_empty());
        let of_paths =
            of_paths.map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
        Ok(json!({
            "resourceRules": of_resources.collect::<Vec<_>>(),
            "nonResourceRules": of_paths.collect::<Vec<_>>(),
            "incomplete": false,
        }))
    }

    async fn token_review(&self, spec: &Spec) -> Result<Value, Status> {
        if spec.token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        Ok(match self.door.holder(&spec.token, &spec.audiences).await {
            Some((user, audiences)) => {
                json!({ "authenticated": true, "user": user, "audiences": audiences })
            }
            None => json!({ "user": {}, "error": "invalid bearer token" }),
        })
    }

    fn invalid(&self, field: &str, reason: &str, message: &str) -> Status {
        let kind = Qualified { group: self.resource.group, name: self.resource.kind };
        let cause = Cause { reason: reason.to_owned(), message: message.to_owned(), field: field.to_owned() };
        Status::invalid(kind, "", vec![cause])
    }
}
