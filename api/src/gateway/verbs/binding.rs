//! `binding`: a Pod gets its node, once.

use async_trait::async_trait;
use axum::{body::Body, http::StatusCode};
use serde_json::{Value, json};

use super::{Call, change::settle};
use crate::gateway::{
    answer::{Answer, Content},
    audit::Trail,
    body::{self, Expected, FieldValidation},
    object::Object,
    registry::{Edit, Registry, Target},
    resources::resources,
    schema::schema,
    status::{Cause, Details, Qualified, Status},
};

impl Call<'_> {
    /// Creates a binding, below its Pod or beside it.
    pub(super) async fn bind(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let bytes = body::read(body).await?;
        let ty = schema().kind("", "v1", "Binding").ok_or_else(Status::no_such_resource)?;
        let expected = Expected { ty, api_version: "v1", kind: "Binding" };
        let validation = FieldValidation::from_query(self.query)?;
        let binding = expected.read(&bytes, self.headers, validation)?.object;
        trail.request_object(&binding);
        let pods = resources().get("", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        let name = if self.info.name.is_empty() { binding.name() } else { &self.info.name }.to_owned();
        if binding.name() != name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let mut warnings = Vec::new();
        let binding = self.hear(binding, trail, is_dry_run, &mut warnings).await?;
        check(&binding)?;
        let target = Target { resource: pods, namespace: &self.info.namespace, name: &name };
        let mut edit = Bind { target, binding: &binding, registry: self.registry };
        self.registry.update(&target, is_dry_run, &mut edit).await?;
        Ok(self.done(warnings))
    }

    /// That something was created which is no object.
    pub(super) fn done(&self, warnings: Vec<String>) -> Answer {
        let mut status = Status::success(Details::default()).with_code(StatusCode::CREATED.as_u16(), "");
        status.details = None;
        self.answer(StatusCode::CREATED, Content::Status(status), warnings)
    }
}

fn check(binding: &Object) -> Result<(), Status> {
    let cause = match (binding.text_at("/target/kind"), binding.text_at("/target/name")) {
        ("" | "Node", name) if !name.is_empty() => return Ok(()),
        ("" | "Node", _) => Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: "target.name".into(),
        },
        (kind, _) => Cause {
            reason: "FieldValueNotSupported".into(),
            message: format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\""),
            field: "target.kind".into(),
        },
    };
    Err(Status::invalid(Qualified { group: "", name: "Binding" }, binding.name(), vec![cause]))
}

struct Bind<'b> {
    target: Target<'b>,
    binding: &'b Object,
    registry: &'b Registry,
}

impl Bind<'_> {
    fn conflict(&self, why: &str) -> Status {
        Status::conflict(Qualified { group: "", name: "pods/binding" }, self.target.name, why)
    }
}

#[async_trait]
impl Edit for Bind<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let name = self.target.name;
        if old.is_deleting() {
            return Err(self.conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        let node = old.text_at("/spec/nodeName");
        if !node.is_empty() {
            return Err(self.conflict(&format!("pod {name} is already assigned to node {node:?}")));
        }
        if old.at("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
            return Err(self.conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = old.clone();
        new.set_text("uid", self.binding.uid());
        new.set_text("resourceVersion", self.binding.resource_version());
        settle(&self.target, "", &mut new, old)?;
        for key in ["annotations", "labels"] {
            let Some(Value::Object(more)) = self.binding.metadata().get(key) else { continue };
            let members = new.metadata_mut().entry(key).or_insert_with(|| json!({}));
            for (key, value) in more {
                members[key] = value.clone();
            }
        }
        new.members_mut().entry("spec").or_insert_with(|| json!({}))["nodeName"] =
            self.binding.text_at("/target/name").into();
        let status = new.members_mut().entry("status").or_insert_with(|| json!({}));
        if let Some(status) = status.as_object_mut() {
            status.shift_remove("nominatedNodeName");
        }
        let at = crate::gateway::registry::seconds(self.registry.now());
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": at,
        });
        match status["conditions"].as_array_mut() {
            Some(conditions) => {
                conditions.retain(|condition| condition["type"] != "PodScheduled");
                conditions.push(scheduled);
            }
            None => status["conditions"] = json!([scheduled]),
        }
        Ok(new)
    }
}
