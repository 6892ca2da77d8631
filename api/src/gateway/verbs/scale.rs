//! `scale`: how many replicas are wanted, for clients that know nothing else of a kind.

use async_trait::async_trait;
use axum::{
    body::Body,
    http::{StatusCode, header},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Call, change::settle, tell};
use crate::gateway::{
    admission::Hearing,
    answer::{Answer, Content},
    audit::Trail,
    body::{self, Expected, FieldValidation},
    object::Object,
    registry::{Edit, Target},
    resources::Resource,
    schema::{
        TypeId,
        patch::{self, PatchKind},
        schema,
    },
    status::{Cause, Qualified, Status},
    tables,
};

const API_VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";

fn ty() -> Result<TypeId, Status> {
    schema().kind("autoscaling", "v1", KIND).ok_or_else(Status::no_such_resource)
}

impl Call<'_> {
    pub(super) async fn scale(&self) -> Result<Answer, Status> {
        let object = self.registry.get(&self.target()).await?;
        self.scaled(&object, Vec::new())
    }

    /// `update` and `patch`.
    pub(super) async fn set_scale(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let bytes = body::read(body).await?;
        let wanted = if self.info.verb == "patch" {
            trail.request_body(&bytes);
            let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            Wanted::Patched(super::patch::kind(content_type)?, bytes)
        } else {
            let expected = Expected { ty: ty()?, api_version: API_VERSION, kind: KIND };
            let validation = FieldValidation::from_query(self.query)?;
            let received = expected.read(&bytes, self.headers, validation)?;
            trail.request_object(&received.object);
            Wanted::Sent(received.object)
        };
        let target = self.target();
        let mut hearing = self.hearing(is_dry_run);
        let mut edit = SetScale { target, wanted, hearing: &mut hearing };
        let outcome = self.registry.update(&target, is_dry_run, &mut edit).await;
        let mut warnings = Vec::new();
        let outcome = tell(hearing, trail, &mut warnings, outcome).await?;
        self.scaled(&outcome.into_object(), warnings)
    }

    fn scaled(&self, object: &Object, warnings: Vec<String>) -> Result<Answer, Status> {
        let content = Content::Object(scale_of(self.resource, object)?);
        let answer = self.answer(StatusCode::OK, content, warnings);
        Ok(Answer { ty: Some(ty()?), ..answer })
    }
}

/// What an object's `scale` shows of it.
fn scale_of(resource: &Resource, object: &Object) -> Result<Object, Status> {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.metadata().get(key) {
            metadata[key] = value.clone();
        }
    }
    let number = |pointer| object.at(pointer).and_then(Value::as_i64).unwrap_or_default();
    let selector = object.at("/spec/selector").unwrap_or(&Value::Null);
    let selector = tables::selector(selector, resource.plural == "replicationcontrollers");
    let mut status = json!({ "replicas": number("/status/replicas") });
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let spec = match number("/spec/replicas") {
        0 => json!({}),
        replicas => json!({ "replicas": replicas }),
    };
    let scale = json!({ "kind": KIND, "apiVersion": API_VERSION, "metadata": metadata, "spec": spec, "status": status });
    Object::new(scale).map_err(Status::internal)
}

fn replicas(scale: &Object) -> i64 {
    scale.at("/spec/replicas").and_then(Value::as_i64).unwrap_or_default()
}

fn check(name: &str, scale: &Object) -> Result<(), Status> {
    let replicas = replicas(scale);
    if replicas >= 0 {
        return Ok(());
    }
    let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "spec.replicas".into() };
    Err(Status::invalid(Qualified { group: "autoscaling", name: KIND }, name, vec![cause]))
}

enum Wanted {
    Sent(Object),
    Patched(PatchKind, Bytes),
}

struct SetScale<'s, 'r> {
    target: Target<'s>,
    wanted: Wanted,
    hearing: &'s mut Hearing<'r>,
}

impl SetScale<'_, '_> {
    fn scale(&self, old: &Object) -> Result<Object, Status> {
        match &self.wanted {
            Wanted::Sent(scale) => Ok(scale.clone()),
            Wanted::Patched(kind, bytes) => {
                let scale = scale_of(self.target.resource, old)?;
                let patched = patch::apply(ty()?, scale.members(), *kind, bytes)
                    .map_err(|error| super::patch::refused(&self.target, error))?;
                Object::new(Value::Object(patched.object)).map_err(|e| Status::bad_request(e.to_string()))
            }
        }
    }
}

#[async_trait]
impl Edit for SetScale<'_, '_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let scale = self.scale(old)?;
        if scale.name() != self.target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                scale.name(),
                self.target.name
            )));
        }
        let was = scale_of(self.target.resource, old)?;
        let name = self.target.name;
        let scale = self.hearing.update(&was, scale, |scale| check(name, scale)).await?;
        let replicas = replicas(&scale);
        let mut new = old.clone();
        new.set_text("uid", scale.uid());
        new.set_text("resourceVersion", scale.resource_version());
        new.members_mut().entry("spec").or_insert_with(|| json!({}))["replicas"] = replicas.into();
        settle(&self.target, "", &mut new, old)?;
        Ok(new)
    }
}
