//! `patch`: the object becomes what a patch makes of it, whatever it is when its turn comes.

use async_trait::async_trait;
use axum::{
    body::Body,
    http::{StatusCode, header},
};
use bytes::Bytes;
use serde_json::Value;

use super::{
    Call,
    change::{agree, check_place},
};
use crate::gateway::{
    answer::{Answer, Content},
    audit::Trail,
    body::{self, FieldValidation},
    object::Object,
    registry::{Edit, Target},
    schema::{
        TypeId, defaults,
        patch::{self, PatchError, PatchKind, Patched},
    },
    status::{Cause, Qualified, Status},
};

/// The patches that are applied.
const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

impl Call<'_> {
    pub(super) async fn patch(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let kind = kind(self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()))?;
        let validation = FieldValidation::from_query(self.query)?;
        let bytes = body::read(body).await?;
        trail.request_body(&bytes);
        let target = self.target();
        let mut edit = Patch { target, ty: self.ty()?, kind, bytes, validation, warnings: Vec::new() };
        let mut warnings = Vec::new();
        let changed = self.change(&mut edit, trail, is_dry_run, &mut warnings).await?;
        warnings.extend(edit.warnings);
        Ok(self.answer(StatusCode::OK, Content::Object(changed), warnings))
    }
}

/// The kind of patch of a media type.
pub(super) fn kind(content_type: Option<&str>) -> Result<PatchKind, Status> {
    let name = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    PatchKind::of_content_type(name).ok_or_else(|| Status::unsupported_media_type(ACCEPTED))
}

struct Patch<'p> {
    target: Target<'p>,
    ty: TypeId,
    kind: PatchKind,
    bytes: Bytes,
    validation: FieldValidation,
    warnings: Vec<String>,
}

#[async_trait]
impl Edit for Patch<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let patched = patch::apply(self.ty, old.members(), self.kind, &self.bytes);
        let Patched { mut object, strict, shown } = patched.map_err(|error| refused(&self.target, error))?;
        match self.validation {
            FieldValidation::Strict if !strict.is_empty() => {
                let detail = format!("strict decoding error: {}", strict.join(", "));
                return Err(invalid(&self.target, &shown, &detail));
            }
            FieldValidation::Ignore => {}
            _ => self.warnings = strict,
        }
        defaults::set(self.ty, &mut object);
        let mut new = Object::new(Value::Object(object)).map_err(|e| Status::bad_request(e.to_string()))?;
        check_place(&self.target, &new)?;
        agree(&self.target, &mut new, old)?;
        Ok(new)
    }
}

/// What the sender of a patch that cannot be applied is told.
pub(super) fn refused(target: &Target<'_>, error: PatchError) -> Status {
    match error {
        PatchError::BadRequest(message) => Status::bad_request(message),
        PatchError::TooManyOperations(_) => Status::too_large(error.to_string()),
        PatchError::Unprocessable(message) => Status::unprocessable(message),
        PatchError::Invalid { shown, detail } => invalid(target, &shown, &detail),
        PatchError::Unmergeable(message) => Status::internal(message),
    }
}

fn invalid(target: &Target<'_>, shown: &str, detail: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {shown:?}: {detail}"),
        field: "patch".into(),
    };
    let kind = Qualified { group: target.resource.group, name: target.resource.kind };
    Status::invalid(kind, target.name, vec![cause])
}
