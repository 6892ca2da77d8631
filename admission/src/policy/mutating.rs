//! The controller of MutatingAdmissionPolicies: they are evaluated one after the other, each of them on what those before
//! it made of the object.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;

use super::{
    apart::apart,
    condition::all_hold,
    configuration::{Binding, Policy},
    decide::EVALUATION,
    meant::{Meant, meant, namespace_of},
    rules::{MutatingRules, Rules},
    subject::{Seen, seen},
};
use crate::{
    cel::Activation,
    cluster::ClusterState,
    controller::{AdmissionController, FailurePolicy, Phases},
    denial::{Cause, Denial, Subject},
    matching::{configuration, is_exempt, namespace},
    patch::{self, PatchOp, PatchOperation},
    request::{AdmissionRequest, Operation},
    response::{AdmissionResponse, Notes},
};

/// All policies together: each of their evaluations has its own, shorter bound.
const DEADLINE: Duration = Duration::from_secs(10);

/// Evaluates every policy that is bound and meant.
pub(crate) struct MutatingAdmissionPolicy {
    state: Arc<dyn ClusterState>,
}

/// What became of an object, and by which steps.
struct Changed {
    object: Value,
    steps: Vec<PatchOperation>,
}

impl MutatingAdmissionPolicy {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state }
    }

    async fn change(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let configuration = configuration(&*self.state).await?;
        if configuration.mutating.is_empty() || request.object.is_none() {
            return Ok(AdmissionResponse::Allow);
        }
        let mut unconfigured = None;
        let tell = |policy: &Policy<MutatingRules>, binding: Option<&Binding>, why: &str| {
            if policy.rules.common().failure_policy == FailurePolicy::Fail {
                let what = if binding.is_some() { "binding" } else { "policy" };
                let why = format!("failed to configure {what}: {why}");
                unconfigured.get_or_insert_with(|| refused(request, policy, binding, &why, "Forbidden"));
            }
        };
        let meant = meant(&configuration.mutating, request, &*self.state, tell).await;
        if let Some(denial) = unconfigured {
            return Err(denial);
        }
        let (mut current, mut notes) = (request.clone(), Notes::default());
        for meant in meant {
            let place = place(&meant);
            let after = current.memory.after((&place, 0));
            let is_again = current.memory.round > 0;
            if is_again && (!meant.policy.rules.reinvoked || after.is_none() || after == current.object) {
                continue;
            }
            match self.one(&meant, &current).await {
                Ok(None) => {}
                Ok(Some(changed)) => {
                    current.object = Some(Arc::new(changed.object));
                    notes.patch.extend(changed.steps);
                }
                Err(why) if meant.policy.rules.common().failure_policy == FailurePolicy::Ignore => {
                    let (policy, binding) = (&meant.policy.name, &meant.binding().name);
                    notes.failed_open.push(format!("policy '{policy}' with binding '{binding}': {why}"));
                }
                Err(why) => {
                    let denial = refused(request, &meant.policy, Some(meant.binding()), &why, "Invalid");
                    return Err(denial.with_notes(notes));
                }
            }
            if let Some(object) = &current.object {
                current.memory.remember((&place, 0), object);
            }
        }
        Ok(AdmissionResponse::AllowWithNotes(notes))
    }

    /// Evaluates one policy; nothing where it changes nothing.
    async fn one(
        &self,
        meant: &Meant<MutatingRules>,
        current: &AdmissionRequest,
    ) -> Result<Option<Changed>, String> {
        let within = namespace_of(current);
        let namespace = if within.is_empty() { Ok(None) } else { namespace(current, &*self.state).await };
        let namespace = namespace.map_err(|denial| denial.message)?;
        let seen = seen(current, &meant.form, namespace.as_ref(), &*self.state);
        let seen = seen.map_err(|error| error.to_string())?;
        let (policy, params) = (meant.policy.clone(), meant.params.clone());
        let changed = apart(move || changed(&policy.rules, &seen, params)).await??;
        let Some(changed) = changed else { return Ok(None) };
        if meant.form.kind == current.kind {
            return Ok(Some(changed));
        }
        let own = self.state.convert(&changed.object, &current.kind).map_err(|error| error.to_string())?;
        let whole = PatchOperation {
            op: PatchOp::Replace,
            path: String::new(),
            value: Some(own.clone()),
            from: None,
        };
        Ok(Some(Changed { object: own, steps: vec![whole] }))
    }
}

/// By what a policy is known until it is asked again.
fn place(meant: &Meant<MutatingRules>) -> String {
    let text = |key: &str| meant.params.as_ref().and_then(|params| params["metadata"][key].as_str());
    let (namespace, name) = (text("namespace").unwrap_or_default(), text("name").unwrap_or_default());
    format!("policy/{}/{}/{namespace}/{name}", meant.policy.name, meant.binding().name)
}

/// The sentence stands as it is: it does not say what is refused.
fn refused(
    request: &AdmissionRequest,
    policy: &Policy<MutatingRules>,
    binding: Option<&Binding>,
    why: &str,
    reason: &str,
) -> Denial {
    let message = match binding {
        Some(binding) => {
            format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name)
        }
        None => format!("policy {:?} denied request: {why}", policy.name),
    };
    let subject = Subject {
        group: request.resource.group.clone(),
        kind: request.resource.resource.clone(),
        name: request.display_name().to_owned(),
    };
    let causes = vec![Cause { message: message.clone(), ..Cause::default() }];
    Denial { subject: Some(Box::new(subject)), causes, ..Denial::new(403, reason, message) }
}

/// Evaluates the mutations of a policy, each on what those before it made of the object. It ends by itself.
fn changed(
    rules: &MutatingRules,
    seen: &Seen,
    params: Option<Arc<Value>>,
) -> Result<Option<Changed>, String> {
    let ends = Instant::now() + EVALUATION;
    let common = rules.common();
    let params = common.param_kind.is_some().then_some(params);
    let subject = seen.subject();
    if !all_hold(&common.conditions, &Activation::new(&subject, params.clone(), &common.variables, ends))? {
        return Ok(None);
    }
    let Some(first) = &seen.object else { return Ok(None) };
    let (mut object, mut all) = (first.clone(), Vec::new());
    for mutation in &rules.mutations {
        let subject = seen.with(object.clone()).subject();
        let activation = Activation::new(&subject, params.clone(), &common.variables, ends);
        let steps = steps(mutation.as_ref().map_err(Clone::clone)?.json(&activation)?)?;
        let mut next = Value::clone(&object);
        match patch::apply(&mut next, &steps) {
            Ok(()) => {
                object = Arc::new(next);
                all.extend(steps);
            }
            // A mutation whose test does not hold is none.
            Err(error) if error.is_failed_test() => {}
            Err(error) => return Err(format!("JSON Patch: {}", patch::described(&error))),
        }
    }
    let is_same = object == *first;
    Ok((!is_same).then(|| Changed { object: Arc::unwrap_or_clone(object), steps: all }))
}

/// The steps that an expression gave.
fn steps(given: Value) -> Result<Vec<PatchOperation>, String> {
    let Value::Array(given) = given else {
        return Err("the expression did not evaluate to list(JSONPatch)".to_owned());
    };
    let step = |step: Value| {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let op = serde_json::from_value(step["op"].clone());
        Ok(PatchOperation {
            op: op.map_err(|_| format!("JSON Patch: Unexpected kind: {}", text("op")))?,
            path: text("path"),
            value: step.get("value").cloned(),
            from: step.get("from").map(|_| text("from")),
        })
    };
    given.into_iter().map(step).collect()
}

#[async_trait]
impl AdmissionController for MutatingAdmissionPolicy {
    fn name(&self) -> &str {
        "MutatingAdmissionPolicy"
    }

    /// What goes has no object that could be changed.
    fn supports_operation(&self, op: &Operation) -> bool {
        *op != Operation::Delete
    }

    fn phases(&self) -> Phases {
        Phases::Mutating
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    fn causes_reinvocation(&self) -> bool {
        true
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if is_exempt(request) {
            return AdmissionResponse::Allow;
        }
        self.change(request).await.into()
    }
}
