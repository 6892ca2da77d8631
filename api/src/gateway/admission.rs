//! Admission: what the chain of controllers makes of a change before it is stored.

mod charges;
pub mod configuration;
pub mod pending;
mod state;
mod webhooks;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use ::admission::{
    AdmissionChain, AdmissionRequest, Decision, Denial, GroupVersionKind, GroupVersionResource, Memory,
    Operation, UserInfo as AdmissionUser, Verdict,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use self::state::noting_outages;
pub use self::{charges::Charges, state::StoredState, webhooks::Webhooks};
use super::{
    object::Object,
    registry::{Edit, Target},
    request::RequestInfo,
    resources::Subresource,
    schema::{decode, defaults},
    status::{Cause, Details, Status},
    user::UserInfo,
};
use crate::metrics;

/// What decides over changes, and what that has charged.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The controllers.
    pub chain: Arc<AdmissionChain>,
    /// What is charged for requests on their way.
    pub charges: Charges,
}

impl Gate {
    /// A gate, whose controllers are in the metrics from here on, whether or not they are ever called.
    pub fn new(chain: AdmissionChain, charges: Charges) -> Self {
        for controller in chain.controllers() {
            metrics::admission_controller(controller.name);
        }
        Self { chain: Arc::new(chain), charges }
    }
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
    /// What each controller decided, when it was asked last.
    pub decisions: Vec<Decision>,
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
        let (warnings, annotations, decisions) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { gate, info, target, user, is_dry_run, open: None, warnings, annotations, decisions }
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
        let (mut outcome, away) = noting_outages(self.gate.chain.admit(&request)).await;
        metrics::admission(request.operation, &outcome.decisions);
        self.annotations.extend(std::mem::take(&mut outcome.annotations));
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
        let is_changed = outcome.decisions.iter().any(|d| matches!(d.verdict, Verdict::Patched(_)));
        self.decisions = outcome.decisions;
        match (outcome.denial, outcome.object) {
            (Some(denial), _) => Err(away.unwrap_or_else(|| refusal(denial))),
            (None, Some(object)) => self.object(object, is_changed).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn request(&self, operation: Operation, object: Option<Object>, old: Option<Object>) -> AdmissionRequest {
        let resource = self.target.resource;
        let value = |object: Object| Arc::new(object.into_value());
        // Who deletes a collection names nothing: each object of it is asked about by its own name.
        let name = match (self.info.name.as_str(), object.as_ref().or(old.as_ref())) {
            ("", Some(object)) => object.name().to_owned(),
            (name, _) => name.to_owned(),
        };
        let (group, version, kind) = match resource.subresource(&self.info.subresource) {
            Some(below) => (below.group, below.version, below.kind),
            None => (resource.group, resource.version, resource.kind),
        };
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        AdmissionRequest {
            uid: Uuid::new_v4().to_string(),
            operation,
            kind: GroupVersionKind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
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
            options: self.options(operation),
            dry_run: self.is_dry_run,
            deadline: None,
            memory: Memory::default(),
        }
    }

    /// The options of the operation, as far as they say how it is admitted.
    fn options(&self, operation: Operation) -> Option<Arc<Value>> {
        let kind = match operation {
            Operation::Create => "CreateOptions",
            Operation::Update if self.info.verb == "patch" => "PatchOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            // A connection has options of its own kind, which nothing here reads.
            Operation::Connect => return None,
        };
        let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        if self.is_dry_run {
            options["dryRun"] = json!(["All"]);
        }
        Some(Arc::new(options))
    }

    /// The object as the chain leaves it: where something was changed, again in the form of its type.
    fn object(&self, value: Arc<Value>, is_changed: bool) -> Result<Object, Status> {
        let object = Object::new(Arc::unwrap_or_clone(value)).map_err(Status::internal)?;
        let resource = self.target.resource;
        let below = resource.subresource(&self.info.subresource);
        let ty = below.map_or_else(|| resource.ty(), Subresource::ty);
        let Some(ty) = ty.filter(|_| is_changed) else { return Ok(object) };
        let mut decoded = decode::value(ty, object.members()).map_err(Status::internal)?;
        defaults::set(ty, &mut decoded.object);
        Object::new(decoded.object.into()).map_err(Status::internal)
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
