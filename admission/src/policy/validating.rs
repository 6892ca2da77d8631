//! The controller of ValidatingAdmissionPolicies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;

use super::{
    apart::apart,
    configuration::{Binding, Configuration, Policy},
    decide::{Refusal, Ruling, decide},
    meant::{Meant, meant, namespace_of},
    rules::{Rules, ValidatingRules},
    subject::subject,
};
use crate::{
    cel::Subject,
    cluster::ClusterState,
    controller::{AdmissionController, FailurePolicy, Phases},
    denial::{Cause, Denial},
    matching::{Form, configuration, is_exempt, namespace},
    request::{AdmissionRequest, Operation},
    response::{AdmissionResponse, Notes},
};

/// All policies together: each of their evaluations has its own, shorter bound.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the audit finds what a policy with the action Audit did not like.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The longest value of an annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// Evaluates every policy that is bound and meant.
pub(crate) struct ValidatingAdmissionPolicy {
    state: Arc<dyn ClusterState>,
}

impl ValidatingAdmissionPolicy {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state }
    }

    async fn decide(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let configuration = configuration(&*self.state).await?;
        if configuration.validating.is_empty() {
            return Ok(AdmissionResponse::Allow);
        }
        let mut found = Found::default();
        let work = self.work(&configuration, request, &mut found).await?;
        if !work.is_empty() {
            let rulings = apart(move || work.into_iter().map(Work::done).collect::<Vec<_>>()).await;
            for (meant, ruling) in rulings.map_err(Denial::internal)? {
                found.take(&meant.policy, meant.binding(), ruling);
            }
        }
        found.answer(request)
    }

    /// What has to be evaluated.
    async fn work(
        &self,
        configuration: &Configuration,
        request: &AdmissionRequest,
        found: &mut Found,
    ) -> Result<Vec<Work>, Denial> {
        let tell = |policy: &Policy<ValidatingRules>, binding: Option<&Binding>, why: &str| {
            found.unconfigured(policy, binding, why);
        };
        let meant = meant(&configuration.validating, request, &*self.state, tell).await;
        let mut work = Vec::with_capacity(meant.len());
        let mut subjects: BTreeMap<String, Arc<Subject>> = BTreeMap::new();
        for meant in meant {
            let subject = self.subject(&mut subjects, request, &meant.form).await?;
            work.push(Work { meant, subject });
        }
        Ok(work)
    }

    /// The request in a form, made once.
    async fn subject(
        &self,
        made: &mut BTreeMap<String, Arc<Subject>>,
        request: &AdmissionRequest,
        form: &Form,
    ) -> Result<Arc<Subject>, Denial> {
        let key = format!("{}/{}", form.kind.version, form.kind);
        if let Some(subject) = made.get(&key) {
            return Ok(subject.clone());
        }
        let namespace =
            if namespace_of(request).is_empty() { None } else { namespace(request, &*self.state).await? };
        let subject = subject(request, form, namespace.as_ref(), &*self.state);
        let subject = Arc::new(subject.map_err(|error| Denial::internal(error.to_string()))?);
        made.insert(key, subject.clone());
        Ok(subject)
    }
}

/// One evaluation.
struct Work {
    meant: Meant<ValidatingRules>,
    subject: Arc<Subject>,
}

impl Work {
    fn done(self) -> (Meant<ValidatingRules>, Ruling) {
        let ruling = decide(&self.meant.policy.rules, &self.subject, self.meant.params.clone());
        (self.meant, ruling)
    }
}

/// What was found out so far.
#[derive(Default)]
struct Found {
    /// What refuses first, with its reason.
    refused: Option<(String, String)>,
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
    /// Values of the policies' own annotations.
    published: BTreeMap<String, BTreeSet<String>>,
}

impl Found {
    /// A policy or binding cannot be followed: its actions do not matter.
    fn unconfigured(&mut self, policy: &Policy<ValidatingRules>, binding: Option<&Binding>, why: &str) {
        if policy.rules.common().failure_policy == FailurePolicy::Fail {
            let what = if binding.is_some() { "binding" } else { "policy" };
            self.refuse(policy, binding, &format!("failed to configure {what}: {why}"), None);
        }
    }

    fn refuse(
        &mut self,
        policy: &Policy<ValidatingRules>,
        binding: Option<&Binding>,
        message: &str,
        reason: Option<String>,
    ) {
        let by = binding.map(|binding| format!(" with binding '{}'", binding.name)).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{}'{by} denied request: {message}", policy.name);
        self.refused.get_or_insert((message, reason.unwrap_or_else(|| "Invalid".to_owned())));
    }

    fn take(&mut self, policy: &Policy<ValidatingRules>, binding: &Binding, ruling: Ruling) {
        for refusal in ruling.refusals {
            for action in &binding.spec.validation_actions {
                match action.as_str() {
                    "Deny" => self.refuse(policy, Some(binding), &refusal.message, refusal.reason.clone()),
                    "Warn" => self.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, refusal.message
                    )),
                    "Audit" => self.note(policy, binding, &refusal),
                    _ => {}
                }
            }
        }
        for failure in ruling.failures {
            self.refuse(policy, Some(binding), &failure, None);
        }
        for (key, value) in ruling.annotations {
            self.published.entry(format!("{}/{key}", policy.name)).or_default().insert(cut(value));
        }
    }

    /// An event has one such annotation: that of the first.
    fn note(&mut self, policy: &Policy<ValidatingRules>, binding: &Binding, refusal: &Refusal) {
        let value = json!([{
            "message": refusal.message,
            "policy": policy.name,
            "binding": binding.name,
            "expressionIndex": refusal.at,
            "validationActions": binding.spec.validation_actions,
        }]);
        self.annotations.entry(FAILURE.to_owned()).or_insert_with(|| value.to_string());
    }

    fn answer(mut self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let published = self.published.into_iter();
        self.annotations
            .extend(published.map(|(key, values)| (key, values.into_iter().collect::<Vec<_>>().join(", "))));
        let Some((message, reason)) = self.refused else {
            let (warnings, annotations) = (self.warnings, self.annotations);
            return Ok(AdmissionResponse::AllowWithNotes(Notes {
                warnings,
                annotations,
                ..Notes::default()
            }));
        };
        let code = match reason.as_str() {
            "Forbidden" => 403,
            "Unauthorized" => 401,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        let mut denial = Denial::forbidden(message.clone()).naming(request, request.display_name());
        denial.code = code;
        denial.reason = reason;
        denial.causes.push(Cause { message, ..Cause::default() });
        denial.annotations = self.annotations;
        denial.warnings = Arc::new(self.warnings);
        Err(denial)
    }
}

/// As much of a value as an annotation takes.
fn cut(mut value: String) -> String {
    if value.len() > MAX_ANNOTATION {
        value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
    }
    value
}

#[async_trait]
impl AdmissionController for ValidatingAdmissionPolicy {
    fn name(&self) -> &str {
        "ValidatingAdmissionPolicy"
    }

    fn supports_operation(&self, _: &Operation) -> bool {
        true
    }

    fn phases(&self) -> Phases {
        Phases::Validating
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    async fn admit(&self, _: &AdmissionRequest) -> AdmissionResponse {
        AdmissionResponse::Allow
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if is_exempt(request) {
            return AdmissionResponse::Allow;
        }
        self.decide(request).await.into()
    }
}
