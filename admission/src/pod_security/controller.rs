//! The controller: enforces on Pods, warns and notes for what makes Pods, and checks the labels of namespaces.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    configuration::PodSecurityConfiguration,
    evaluate::{Evaluation, evaluate},
    existing,
    level::{Level, LevelVersion},
    policy::{LABEL_PREFIX, LabelError, Policy},
    update::is_significant,
};
use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, ClusterState, Denial, Freshness, Kind, Notes,
    Operation, Phases,
    denial::aggregate,
    pod::{self, Pod},
    quote::Quoted,
};

/// Subresources of Pods that cannot change what a Pod is. Any other is looked at as a Pod, one of the future too.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// The built-in controller `PodSecurity`.
pub struct PodSecurity {
    configuration: PodSecurityConfiguration,
    state: Arc<dyn ClusterState>,
}

#[async_trait]
impl AdmissionController for PodSecurity {
    fn name(&self) -> &str {
        "PodSecurity"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, _: &AdmissionRequest) -> AdmissionResponse {
        AdmissionResponse::Allow
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        match (request.resource.group.as_str(), request.resource.resource.as_str()) {
            ("", "namespaces") => self.namespace(request).await.into(),
            ("", "pods") => self.pod(request).await.into(),
            _ if pod::takes_template(&request.resource) => self.template(request).await,
            _ => AdmissionResponse::Allow,
        }
    }

    fn phases(&self) -> Phases {
        Phases::Validating
    }

    /// The Pods of a namespace take up to a second.
    fn deadline(&self) -> Duration {
        2 * existing::MAX_TIME
    }
}

impl PodSecurity {
    /// A controller before a cluster.
    pub fn new(configuration: PodSecurityConfiguration, state: Arc<dyn ClusterState>) -> Self {
        Self { configuration, state }
    }

    async fn pod(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        if HARMLESS.contains(&request.subresource.as_str()) {
            return Ok(AdmissionResponse::Allow);
        }
        if let Some(exempt) = self.exempt(request) {
            return Ok(exempt);
        }
        let (policy, errors) = self.policy(&request.namespace).await.map_err(|why| {
            let lookup = format!("failed to lookup namespace {}", Quoted(&request.namespace));
            let denial = Denial::internal(&lookup);
            let text = format!("{}: {why}", denial.message);
            denial.annotated(format!("{LABEL_PREFIX}error"), text)
        })?;
        if errors.is_empty() && policy.is_fully_privileged() {
            return Ok(annotated("enforce-policy", LevelVersion::default().to_string()));
        }
        let object = request.object().ok_or_else(|| undecoded("object", "there is none"))?;
        let pod = Pod::of(object).map_err(|why| undecoded("object", why))?;
        if request.operation == Operation::Update {
            let old = request.old_object().ok_or_else(|| undecoded("old object", "there is none"))?;
            let old = Pod::of(old).map_err(|why| undecoded("old object", why))?;
            if !is_significant(pod.spec.as_ref(), old.spec.as_ref()) {
                return Ok(AdmissionResponse::Allow);
            }
        }
        self.evaluated(&pod, &policy, &errors, Some(request))
    }

    /// What makes Pods is never refused: its Pods are, when they come.
    async fn template(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if !request.subresource.is_empty() {
            return AdmissionResponse::Allow;
        }
        if let Some(exempt) = self.exempt(request) {
            return exempt;
        }
        let (policy, errors) = match self.policy(&request.namespace).await {
            Ok(found) => found,
            Err(why) => {
                let namespace = Quoted(&request.namespace);
                return annotated("error", format!("failed to lookup namespace {namespace}: {why}"));
            }
        };
        if errors.is_empty()
            && policy.warn.level == Level::Privileged
            && policy.audit.level == Level::Privileged
        {
            return AdmissionResponse::Allow;
        }
        let object = request.object();
        let Some(template) = object.and_then(|object| pod::pod_template(&request.resource, object)) else {
            return AdmissionResponse::Allow;
        };
        match Pod::of(template) {
            Ok(pod) => self.evaluated(&pod, &policy, &errors, None).into(),
            Err(why) => annotated("error", format!("failed to decode object: {why}")),
        }
    }

    /// Holds a Pod to the three modes; the first only where there is a request to refuse.
    fn evaluated(
        &self,
        pod: &Pod<'_>,
        policy: &Policy,
        errors: &[LabelError],
        refuse: Option<&AdmissionRequest>,
    ) -> Result<AdmissionResponse, Denial> {
        let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name);
        if class.is_some_and(|class| self.is_exempt_class(class)) {
            return Ok(annotated("exempt", "runtimeClass"));
        }
        let mut annotations = BTreeMap::new();
        let mut annotate =
            |name: &str, text: String| annotations.insert(format!("{LABEL_PREFIX}{name}"), text);
        if !errors.is_empty() {
            let texts: Vec<_> = errors.iter().map(LabelError::to_string).collect();
            annotate("error", format!("Failed to parse policy: {}", aggregate(&texts)));
        }
        let mut known: Vec<(LevelVersion, Evaluation)> = Vec::with_capacity(3);
        let mut denial = None;
        if let Some(request) = refuse {
            annotate("enforce-policy", policy.enforce.to_string());
            let evaluation = looked_up(&mut known, policy.enforce, pod);
            if !evaluation.is_allowed() {
                let message =
                    format!("violates PodSecurity \"{}\": {}", policy.enforce, evaluation.details());
                denial = Some(Denial::forbidden(message).naming(request, &request.name));
            }
        }
        if let Some(text) = would_violate(&mut known, policy.audit, pod) {
            annotate("audit-violations", text);
        }
        if let Some(denial) = denial {
            return Err(Denial { annotations, ..denial });
        }
        let warnings = would_violate(&mut known, policy.warn, pod).into_iter().collect();
        Ok(AdmissionResponse::AllowWithNotes(Notes { warnings, annotations, ..Notes::default() }))
    }

    async fn namespace(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        if !request.subresource.is_empty() {
            return Ok(AdmissionResponse::Allow);
        }
        let object = request.object().ok_or_else(|| undecoded("object", "there is none"))?;
        let (policy, errors) = self.labelled(object);
        let invalid = || {
            let causes: Vec<_> = errors.iter().map(LabelError::cause).collect();
            Denial::invalid(request, &causes)
        };
        if request.operation == Operation::Create {
            if !errors.is_empty() {
                return Err(invalid());
            }
            return Ok(self.exempt_namespace(request, object, &policy).unwrap_or(AdmissionResponse::Allow));
        }
        let old = request.old_object().ok_or_else(|| undecoded("old object", "there is none"))?;
        let (old_policy, old_errors) = self.labelled(old);
        if !errors.is_empty() && errors != old_errors {
            return Err(invalid());
        }
        let (new, old) = (policy.enforce, old_policy.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(AdmissionResponse::Allow);
        }
        if self.configuration.exemptions.namespaces.contains(&request.namespace) {
            return Ok(self.exempt_namespace(request, object, &policy).unwrap_or(AdmissionResponse::Allow));
        }
        Ok(warned(self.existing_pods(request, new).await))
    }

    async fn existing_pods(&self, request: &AdmissionRequest, enforce: LevelVersion) -> Vec<String> {
        let now = Instant::now();
        let half = request.deadline.map(|deadline| deadline.saturating_duration_since(now) / 2);
        let until = now + half.unwrap_or(existing::MAX_TIME).min(existing::MAX_TIME);
        let namespace = &request.namespace;
        let pods = self.state.list(Kind::Pod, namespace, Freshness::Cached);
        match tokio::time::timeout_at(until, pods).await {
            Ok(Ok(pods)) => {
                let is_exempt = |class: &str| self.is_exempt_class(class);
                existing::warnings(namespace, &pods, enforce, is_exempt, until).await
            }
            _ => vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()],
        }
    }

    /// Says that the labels of an exempt namespace are in vain.
    fn exempt_namespace(
        &self,
        request: &AdmissionRequest,
        object: &Value,
        policy: &Policy,
    ) -> Option<AdmissionResponse> {
        let is_exempt = self.configuration.exemptions.namespaces.contains(&request.namespace);
        if !is_exempt
            || policy.is_fully_privileged()
            || policy.is_equivalent(&self.configuration.defaults_of(&request.namespace))
        {
            return None;
        }
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
        let is_set = |name: &str| {
            [name.to_owned(), format!("{name}-version")]
                .iter()
                .any(|name| label(object, &format!("{LABEL_PREFIX}{name}")).is_some())
        };
        let shown = modes.iter().filter(|(name, mode)| mode.level != Level::Privileged && is_set(name));
        let shown: Vec<_> = shown.map(|(name, mode)| format!("{name}={mode}")).collect();
        Some(warned(vec![format!(
            "namespace {} is exempt from Pod Security, and the policy ({}) will be ignored",
            Quoted(&request.namespace),
            shown.join(", ")
        )]))
    }

    fn exempt(&self, request: &AdmissionRequest) -> Option<AdmissionResponse> {
        if self.configuration.exemptions.namespaces.contains(&request.namespace) {
            return Some(annotated("exempt", "namespace"));
        }
        self.configuration
            .exemptions
            .usernames
            .contains(&request.user.username)
            .then(|| annotated("exempt", "user"))
    }

    fn is_exempt_class(&self, class: &str) -> bool {
        self.configuration.exemptions.runtime_classes.iter().any(|exempt| exempt == class)
    }

    async fn policy(&self, namespace: &str) -> Result<(Policy, Vec<LabelError>), String> {
        for freshness in [Freshness::Cached, Freshness::Live] {
            let found = self.state.get(Kind::Namespace, "", namespace, freshness).await;
            if let Some(object) = found.map_err(|error| error.to_string())? {
                return Ok(self.labelled(&object));
            }
        }
        Err(format!("namespaces {} not found", Quoted(namespace)))
    }

    fn labelled(&self, namespace: &Value) -> (Policy, Vec<LabelError>) {
        let name = namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        Policy::from_labels(|name| label(namespace, name), self.configuration.defaults_of(name))
    }
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(name)?.as_str()
}

fn looked_up<'e>(
    known: &'e mut Vec<(LevelVersion, Evaluation)>,
    policy: LevelVersion,
    pod: &Pod<'_>,
) -> &'e Evaluation {
    let at = known.iter().position(|(before, _)| *before == policy).unwrap_or_else(|| {
        known.push((policy, evaluate(policy, pod)));
        known.len() - 1
    });
    &known[at].1
}

fn would_violate(
    known: &mut Vec<(LevelVersion, Evaluation)>,
    policy: LevelVersion,
    pod: &Pod<'_>,
) -> Option<String> {
    let evaluation = looked_up(known, policy, pod);
    let details = || format!("would violate PodSecurity \"{policy}\": {}", evaluation.details());
    (!evaluation.is_allowed()).then(details)
}

fn annotated(name: &str, text: impl Into<String>) -> AdmissionResponse {
    let annotations = [(format!("{LABEL_PREFIX}{name}"), text.into())].into();
    AdmissionResponse::AllowWithNotes(Notes { annotations, ..Notes::default() })
}

fn warned(warnings: Vec<String>) -> AdmissionResponse {
    AdmissionResponse::AllowWithNotes(Notes { warnings, ..Notes::default() })
}

fn undecoded(what: &str, why: impl std::fmt::Display) -> Denial {
    let message = format!("failed to decode {what}");
    Denial::bad_request(&message).annotated(format!("{LABEL_PREFIX}error"), format!("{message}: {why}"))
}
