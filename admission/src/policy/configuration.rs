//! Everything that configures admission in a cluster, read and compiled.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::condition::{Compiled, StoredCondition, compiled};
use crate::{
    cel::{Scope, Variable, Wanted},
    controller::FailurePolicy,
    matching::{Constraints, Selector},
    request::GroupVersionKind,
    webhook::{Webhook, webhooks},
};

/// The kinds that configure admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Configured {
    /// `ValidatingAdmissionPolicy`.
    ValidatingPolicy,
    /// `ValidatingAdmissionPolicyBinding`.
    ValidatingBinding,
    /// `MutatingWebhookConfiguration`.
    MutatingWebhooks,
    /// `ValidatingWebhookConfiguration`.
    ValidatingWebhooks,
}

impl Configured {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ValidatingPolicy, Self::ValidatingBinding, Self::MutatingWebhooks, Self::ValidatingWebhooks];

    /// The plural, in the group `admissionregistration.k8s.io`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ValidatingPolicy => "validatingadmissionpolicies",
            Self::ValidatingBinding => "validatingadmissionpolicybindings",
            Self::MutatingWebhooks => "mutatingwebhookconfigurations",
            Self::ValidatingWebhooks => "validatingwebhookconfigurations",
        }
    }
}

/// What configures admission, as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub(super) validating: Vec<Arc<ValidatingPolicy>>,
    /// By the names of their configurations.
    pub(crate) mutating_webhooks: Vec<Arc<Webhook>>,
    pub(crate) validating_webhooks: Vec<Arc<Webhook>>,
}

impl Configuration {
    /// Reads stored objects. What a former configuration has compiled of the same specification is taken over.
    pub fn read<'v>(objects: impl IntoIterator<Item = (Configured, &'v Value)>, former: &Self) -> Self {
        let (mut policies, mut bindings) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        let (mut mutating, mut validating) = (BTreeMap::new(), BTreeMap::new());
        for (kind, object) in objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match kind {
                Configured::ValidatingPolicy => drop(policies.insert(name, &object["spec"])),
                Configured::MutatingWebhooks => drop(mutating.insert(name.clone(), webhooks(&name, object))),
                Configured::ValidatingWebhooks => {
                    drop(validating.insert(name.clone(), webhooks(&name, object)))
                }
                Configured::ValidatingBinding => {
                    let spec = BindingSpec::deserialize(&object["spec"]).unwrap_or_default();
                    bindings.entry(spec.policy_name.clone()).or_default().push(Binding { name, spec });
                }
            }
        }
        let policies = policies.into_iter().map(|(name, spec)| {
            let mut bindings = bindings.remove(&name).unwrap_or_default();
            bindings.sort_by(|one, other| one.name.cmp(&other.name));
            let known =
                former.validating.iter().find(|policy| policy.name == name && policy.rules.source == *spec);
            let rules =
                known.map_or_else(|| Arc::new(ValidatingRules::of(spec)), |policy| policy.rules.clone());
            Arc::new(ValidatingPolicy { name, rules, bindings })
        });
        Self {
            validating: policies.collect(),
            mutating_webhooks: mutating.into_values().flatten().collect(),
            validating_webhooks: validating.into_values().flatten().collect(),
        }
    }

    /// How many policies and webhooks there are.
    pub fn len(&self) -> usize {
        self.validating.len() + self.mutating_webhooks.len() + self.validating_webhooks.len()
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A policy with what binds it.
#[derive(Debug)]
pub(super) struct ValidatingPolicy {
    pub(super) name: String,
    pub(super) rules: Arc<ValidatingRules>,
    pub(super) bindings: Vec<Binding>,
}

#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) spec: BindingSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BindingSpec {
    policy_name: String,
    pub(super) param_ref: Option<ParamRef>,
    pub(super) match_resources: Option<Constraints>,
    pub(super) validation_actions: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Selector>,
    pub(super) parameter_not_found_action: Option<String>,
}

/// What a policy says, compiled.
#[derive(Debug)]
pub(super) struct ValidatingRules {
    source: Value,
    pub(super) param_kind: Option<GroupVersionKind>,
    pub(super) constraints: Constraints,
    pub(super) conditions: Vec<Compiled>,
    pub(super) variables: Vec<Variable>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Compiled)>,
    pub(super) failure_policy: FailurePolicy,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: String,
    pub(super) program: Compiled,
    pub(super) message: String,
    pub(super) message_program: Option<Compiled>,
    pub(super) reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicySpec {
    param_kind: Option<ParamKind>,
    match_constraints: Constraints,
    match_conditions: Vec<StoredCondition>,
    variables: Vec<StoredCondition>,
    validations: Vec<StoredValidation>,
    audit_annotations: Vec<StoredAnnotation>,
    failure_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ParamKind {
    api_version: String,
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredValidation {
    expression: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredAnnotation {
    key: String,
    value_expression: String,
}

impl ValidatingRules {
    /// A specification that cannot be read at all is one whose every evaluation fails.
    fn of(source: &Value) -> Self {
        let (spec, unreadable) = match PolicySpec::deserialize(source) {
            Ok(spec) => (spec, None),
            Err(error) => (PolicySpec::default(), Some(format!("the policy cannot be read: {error}"))),
        };
        let mut scope = Scope { has_params: spec.param_kind.is_some(), variables: None };
        let conditions = spec.match_conditions.iter().map(|c| compiled(&c.expression, &scope, Wanted::Bool));
        let conditions = unreadable.map(Err).into_iter().chain(conditions).collect();
        let mut variables = Vec::with_capacity(spec.variables.len());
        scope.variables = Some(Vec::new());
        for variable in spec.variables {
            let program = compiled(&variable.expression, &scope, Wanted::Anything);
            scope.variables.get_or_insert_default().push(variable.name.clone());
            variables.push(Variable { name: variable.name, program });
        }
        let validations = spec.validations.into_iter().map(|validation| Validation {
            program: compiled(&validation.expression, &scope, Wanted::Bool),
            message_program: Some(&validation.message_expression)
                .filter(|expression| !expression.is_empty())
                .map(|expression| compiled(expression, &scope, Wanted::Text)),
            expression: validation.expression,
            message: validation.message,
            reason: validation.reason,
        });
        let validations = validations.collect();
        let annotations = spec.audit_annotations.into_iter();
        let annotations =
            annotations.map(|a| (a.key, compiled(&a.value_expression, &scope, Wanted::TextOrNull))).collect();
        Self {
            source: source.clone(),
            param_kind: spec.param_kind.map(|kind| {
                let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
                GroupVersionKind { group: group.to_owned(), version: version.to_owned(), kind: kind.kind }
            }),
            constraints: spec.match_constraints,
            conditions,
            variables,
            validations,
            annotations,
            failure_policy: failure_policy(spec.failure_policy.as_deref()),
        }
    }
}

/// `Fail` where nothing is said.
pub(crate) fn failure_policy(word: Option<&str>) -> FailurePolicy {
    if word == Some("Ignore") { FailurePolicy::Ignore } else { FailurePolicy::Fail }
}
