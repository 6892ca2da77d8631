//! `update`: the object becomes what was sent.

use async_trait::async_trait;
use axum::{body::Body, http::StatusCode};

use super::Call;
use crate::gateway::{
    answer::{Answer, Content},
    audit::Trail,
    body::Received,
    object::Object,
    registry::{Edit, Target},
    status::Status,
    strategy, validation,
};

impl Call<'_> {
    pub(super) async fn update(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let is_dry_run = self.is_dry_run(&[])?;
        let Received { object, mut warnings } = self.receive(body, trail).await?;
        let target = self.target();
        check_place(&target, &object)?;
        let mut edit = Replace { target, object };
        let changed = self.change(&mut edit, trail, is_dry_run, &mut warnings).await?;
        Ok(self.answer(StatusCode::OK, Content::Object(changed), warnings))
    }
}

/// The body must be for the object of the URL.
pub(super) fn check_place(target: &Target<'_>, object: &Object) -> Result<(), Status> {
    if object.name() != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object.name(),
            target.name
        )));
    }
    if !object.namespace().is_empty() && object.namespace() != target.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({}) does not match the namespace on the URL ({})",
            object.namespace(),
            target.namespace
        )));
    }
    Ok(())
}

struct Replace<'r> {
    target: Target<'r>,
    object: Object,
}

#[async_trait]
impl Edit for Replace<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let mut new = self.object.clone();
        agree(&self.target, &mut new, old)?;
        Ok(new)
    }
}

/// Checks that a new state is for the old one.
pub(super) fn agree(target: &Target<'_>, new: &mut Object, old: &Object) -> Result<(), Status> {
    if !new.resource_version().is_empty() && new.resource_version() != old.resource_version() {
        return Err(Status::modified(target.what(), target.name));
    }
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(Status::conflict(target.what(), target.name, &why));
    }
    new.set_text("namespace", target.namespace);
    new.set_text("resourceVersion", old.resource_version());
    Ok(())
}

/// Checks that a new state is for the old one, leaves to the server what is the server's, and checks the fields.
pub(super) fn settle(
    target: &Target<'_>,
    subresource: &str,
    new: &mut Object,
    old: &Object,
) -> Result<(), Status> {
    agree(target, new, old)?;
    strategy::prepare_update(target.resource, subresource, new, old);
    validation::updated(target.resource, subresource, new, old)
}
