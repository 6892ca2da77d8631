//! Admission: what the chain of controllers makes of a change before it is stored.

mod charges;
pub mod configuration;
mod gathered;
pub mod pending;
mod state;
mod webhooks;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use ::admission::{
    AdmissionChain, AdmissionRequest, Decision, Denial, GroupVersionKind, GroupVersionResource,
    LONGEST_ADMISSION, Memory, Operation, Outcome, UserInfo as AdmissionUser, Verdict,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;
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

    /// What is to be created. `settle` is called between the phases, with the object as the mutating one leaves it:
    /// what the server writes itself, and the rules of the object's kind.
    ///
    /// # Errors
    /// What the chain or `settle` refuses it with.
    pub async fn create(
        &mut self,
        object: Object,
        settle: impl FnOnce(&mut Object) -> Result<(), Status> + Send,
    ) -> Result<Object, Status> {
        self.admit(Operation::Create, Some(object), None, settle).await?.ok_or_else(lost)
    }

    /// What an object is to become, as [`Hearing::create`].
    ///
    /// # Errors
    /// What the chain or `settle` refuses it with.
    pub async fn update(
        &mut self,
        old: &Object,
        new: Object,
        settle: impl FnOnce(&mut Object) -> Result<(), Status> + Send,
    ) -> Result<Object, Status> {
        self.admit(Operation::Update, Some(new), Some(old.clone()), settle).await?.ok_or_else(lost)
    }

    /// That an object is to go.
    ///
    /// # Errors
    /// What the chain refuses it with.
    pub async fn delete(&mut self, old: &Object) -> Result<(), Status> {
        self.admit(Operation::Delete, None, Some(old.clone()), |_| Ok(())).await.map(drop)
    }

    async fn admit(
        &mut self,
        operation: Operation,
        object: Option<Object>,
        old: Option<Object>,
        settle: impl FnOnce(&mut Object) -> Result<(), Status> + Send,
    ) -> Result<Option<Object>, Status> {
        // The change is tried again: what its last try was charged for was not stored.
        if let Some(uid) = self.open.take() {
            self.gate.charges.give_back(&uid).await;
        }
        let mut request = self.request(operation, object, old);
        self.open = Some(request.uid.clone());
        self.decisions.clear();
        let chain = &self.gate.chain;
        let changed = noting_outages(chain.mutate(&request)).await;
        let is_changed = changed.0.decisions.iter().any(|d| matches!(d.verdict, Verdict::Patched(_)));
        request.object = None;
        if let Some(object) = self.heard(operation, changed)? {
            let mut object = self.object(object, is_changed)?;
            settle(&mut object)?;
            request.object = Some(Arc::new(object.into_value()));
        }
        let judged = noting_outages(chain.validate(&request)).await;
        drop(request);
        let object = self.heard(operation, judged)?;
        object.map(|object| Object::new(Arc::unwrap_or_clone(object)).map_err(Status::internal)).transpose()
    }

    /// Takes over what came of a phase.
    fn heard(
        &mut self,
        operation: Operation,
        (mut outcome, away): (Outcome, Option<Status>),
    ) -> Result<Option<Arc<Value>>, Status> {
        metrics::admission(operation, &outcome.decisions);
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
        self.decisions.append(&mut outcome.decisions);
        match outcome.denial {
            Some(denial) => Err(away.unwrap_or_else(|| refusal(denial))),
            None => Ok(outcome.object),
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
            deadline: Some(Instant::now() + LONGEST_ADMISSION),
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
pub struct Admitted<'a, 'r, S> {
    /// The edit.
    pub edit: &'a mut (dyn Edit + 'a),
    /// The request's way.
    pub hearing: &'a mut Hearing<'r>,
    /// What is looked at between the phases, of the new object beside the old one.
    pub settle: S,
}

#[async_trait]
impl<S: Fn(&mut Object, &Object) -> Result<(), Status> + Send + Sync> Edit for Admitted<'_, '_, S> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let new = self.edit.edit(old).await?;
        let settle = &self.settle;
        self.hearing.update(old, new, |new| settle(new, old)).await
    }
}
