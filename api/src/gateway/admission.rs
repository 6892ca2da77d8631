//! Admission: what the chain of controllers makes of a change before it is stored.

mod charges;
pub mod configuration;
pub mod pending;
mod state;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use ::admission::{
    AdmissionChain, AdmissionRequest, Denial, GroupVersionKind, GroupVersionResource, Operation, Outcome,
    UserInfo as AdmissionUser, Verdict,
};
use async_trait::async_trait;
use uuid::Uuid;

use self::state::noting_outages;
pub use self::{charges::Charges, state::StoredState};
use super::{
    object::Object,
    registry::{Edit, Target},
    request::RequestInfo,
    schema::{decode, defaults},
    status::{Cause, Details, Status},
    user::UserInfo,
};

/// What decides over changes, and what that has charged.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The controllers.
    pub chain: Arc<AdmissionChain>,
    /// What is charged for requests on their way.
    pub charges: Charges,
}

/// The code of a write whose answer was lost: it may have happened.
const UNKNOWN: u16 = 504;

/// One request's way through the chain, as often as its change is tried.
#[derive(Debug)]
pub struct Hearing<'r> {
    gate: &'r Gate,
    info: &'r RequestInfo,
    target: Target<'r>,
    user: &'r UserInfo,
    is_dry_run: bool,
    /// The last request to the chain, until it is known what became of its object.
    open: Option<String>,
    /// What the chain tells the client's user.
    pub warnings: Vec<String>,
    /// What the chain tells the audit.
    pub annotations: BTreeMap<String, String>,
}

impl<'r> Hearing<'r> {
    /// Of a request about an object.
    pub fn new(
        gate: &'r Gate,
        info: &'r RequestInfo,
        target: Target<'r>,
        user: &'r UserInfo,
        is_dry_run: bool,
    ) -> Self {
        let (warnings, annotations) = (Vec::new(), BTreeMap::new());
        Self { gate, info, target, user, is_dry_run, open: None, warnings, annotations }
    }

    /// What became of the object. What was charged for one that is not stored is given back.
    pub async fn close<T>(&mut self, outcome: &Result<T, Status>) {
        let Some(uid) = self.open.take() else { return };
        match outcome {
            Ok(_) => self.gate.charges.keep(&uid).await,
            Err(status) if status.code == UNKNOWN => self.gate.charges.forget(&uid),
            Err(_) => self.gate.charges.give_back(&uid).await,
        }
    }

    /// What is to be created.
    ///
    /// # Errors
    /// What the chain refuses it with.
    pub async fn create(&mut self, object: Object) -> Result<Object, Status> {
        self.admit(Operation::Create, Some(object), None).await?.ok_or_else(lost)
    }

    /// What an object is to become.
    ///
    /// # Errors
    /// What the chain refuses it with.
    pub async fn update(&mut self, old: &Object, new: Object) -> Result<Object, Status> {
        self.admit(Operation::Update, Some(new), Some(old.clone())).await?.ok_or_else(lost)
    }

    /// That an object is to go.
    ///
    /// # Errors
    /// What the chain refuses it with.
    pub async fn delete(&mut self, old: &Object) -> Result<(), Status> {
        self.admit(Operation::Delete, None, Some(old.clone())).await.map(drop)
    }

    async fn admit(
        &mut self,
        operation: Operation,
        object: Option<Object>,
        old: Option<Object>,
    ) -> Result<Option<Object>, Status> {
        // The change is tried again: what its last try was charged for was not stored.
        if let Some(uid) = self.open.take() {
            self.gate.charges.give_back(&uid).await;
        }
        let request = self.request(operation, object, old);
        self.open = Some(request.uid.clone());
        let (outcome, away) = noting_outages(self.gate.chain.admit(&request)).await;
        self.annotations.extend(outcome.annotations.clone());
        for warning in &outcome.warnings {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
        for decision in &outcome.decisions {
            if let Verdict::Failed(why) | Verdict::FailedOpen(why) = &decision.verdict {
                tracing::error!(controller = decision.controller, why, "an admission controller failed");
            }
        }
        match outcome.denial {
            Some(denial) => Err(away.unwrap_or_else(|| refusal(denial))),
            None => self.object(outcome),
        }
    }

    fn request(&self, operation: Operation, object: Option<Object>, old: Option<Object>) -> AdmissionRequest {
        let resource = self.target.resource;
        let value = |object: Object| Arc::new(object.into_value());
        let name = match (self.info.name.as_str(), &object) {
            ("", Some(object)) => object.name().to_owned(),
            (name, _) => name.to_owned(),
        };
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        AdmissionRequest {
            uid: Uuid::new_v4().to_string(),
            operation,
            kind: GroupVersionKind {
                group: resource.group.to_owned(),
                version: resource.version.to_owned(),
                kind: resource.kind.to_owned(),
            },
            resource: GroupVersionResource::new(resource.group, resource.version, resource.plural),
            subresource: self.info.subresource.clone(),
            namespace: if is_namespace { name.clone() } else { self.target.namespace.to_owned() },
            name,
            user: AdmissionUser {
                username: self.user.username.clone(),
                uid: self.user.uid.clone(),
                groups: self.user.groups.clone(),
                extra: self.user.extra.clone(),
            },
            object: object.map(value),
            old_object: old.map(value),
            options: None,
            dry_run: self.is_dry_run,
            deadline: None,
        }
    }

    /// The object as the chain leaves it: where something was changed, again in the form of its type.
    fn object(&self, outcome: Outcome) -> Result<Option<Object>, Status> {
        let is_changed = outcome.decisions.iter().any(|d| matches!(d.verdict, Verdict::Patched(_)));
        let Some(value) = outcome.object else { return Ok(None) };
        let object = Object::new(Arc::unwrap_or_clone(value)).map_err(Status::internal)?;
        let Some(ty) = self.target.resource.ty().filter(|_| is_changed) else { return Ok(Some(object)) };
        let mut decoded = decode::value(ty, object.members()).map_err(Status::internal)?;
        defaults::set(ty, &mut decoded.object);
        let object = Object::new(decoded.object.into()).map_err(Status::internal)?;
        Ok(Some(object))
    }
}

/// The request's future was dropped, and nobody knows how far it came.
impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        if let Some(uid) = self.open.take() {
            self.gate.charges.forget(&uid);
        }
    }
}

fn lost() -> Status {
    Status::internal("admission left no object")
}

/// A refusal as the client is told.
fn refusal(denial: Denial) -> Status {
    let causes = denial.causes.into_iter();
    let causes = causes.map(|c| Cause { reason: c.reason, message: c.message, field: c.field }).collect();
    let subject = denial.subject.map(|subject| *subject).unwrap_or_default();
    let details = Details {
        name: subject.name,
        group: subject.group,
        kind: subject.kind,
        causes,
        ..Details::default()
    };
    let status = Status::bad_request(denial.message).with_code(denial.code, Cow::Owned(denial.reason));
    if details == Details::default() { status } else { status.with_details(details) }
}

/// An edit whose outcome goes through the chain before it is stored.
pub struct Admitted<'a, 'r> {
    /// The edit.
    pub edit: &'a mut (dyn Edit + 'a),
    /// The request's way.
    pub hearing: &'a mut Hearing<'r>,
}

#[async_trait]
impl Edit for Admitted<'_, '_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let new = self.edit.edit(old).await?;
        self.hearing.update(old, new).await
    }
}
