//! Everything that configures admission in a cluster, read and compiled.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::rules::{MutatingRules, Rules, ValidatingRules};
use crate::{
    controller::FailurePolicy,
    matching::{Constraints, Selector},
    webhook::{Webhook, webhooks},
};

/// The kinds that configure admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Configured {
    /// `MutatingAdmissionPolicy`.
    MutatingPolicy,
    /// `MutatingAdmissionPolicyBinding`.
    MutatingBinding,
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
    pub const ALL: [Self; 6] = [
        Self::MutatingPolicy,
        Self::MutatingBinding,
        Self::ValidatingPolicy,
        Self::ValidatingBinding,
        Self::MutatingWebhooks,
        Self::ValidatingWebhooks,
    ];

    /// The plural, in the group `admissionregistration.k8s.io`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::MutatingPolicy => "mutatingadmissionpolicies",
            Self::MutatingBinding => "mutatingadmissionpolicybindings",
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
    pub(super) mutating: Vec<Arc<Policy<MutatingRules>>>,
    pub(super) validating: Vec<Arc<Policy<ValidatingRules>>>,
    /// By the names of their configurations.
    pub(crate) mutating_webhooks: Vec<Arc<Webhook>>,
    pub(crate) validating_webhooks: Vec<Arc<Webhook>>,
}

impl Configuration {
    /// Reads stored objects. What a former configuration has compiled of the same specification is taken over.
    pub fn read<'v>(objects: impl IntoIterator<Item = (Configured, &'v Value)>, former: &Self) -> Self {
        let (mut mutating, mut validating) = (Sorted::default(), Sorted::default());
        let (mut changing, mut refusing) = (BTreeMap::new(), BTreeMap::new());
        for (kind, object) in objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match kind {
                Configured::MutatingPolicy => drop(mutating.specs.insert(name, &object["spec"])),
                Configured::ValidatingPolicy => drop(validating.specs.insert(name, &object["spec"])),
                Configured::MutatingBinding => mutating.bind(name, object),
                Configured::ValidatingBinding => validating.bind(name, object),
                Configured::MutatingWebhooks => drop(changing.insert(name.clone(), webhooks(&name, object))),
                Configured::ValidatingWebhooks => {
                    drop(refusing.insert(name.clone(), webhooks(&name, object)))
                }
            }
        }
        Self {
            mutating: mutating.policies(&former.mutating),
            validating: validating.policies(&former.validating),
            mutating_webhooks: changing.into_values().flatten().collect(),
            validating_webhooks: refusing.into_values().flatten().collect(),
        }
    }

    /// How many policies and webhooks there are.
    pub fn len(&self) -> usize {
        let policies = self.mutating.len() + self.validating.len();
        policies + self.mutating_webhooks.len() + self.validating_webhooks.len()
    }

    /// Whether nothing is configured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Policies of a kind and what binds them, by name.
#[derive(Default)]
struct Sorted<'v> {
    specs: BTreeMap<String, &'v Value>,
    bindings: BTreeMap<String, Vec<Binding>>,
}

impl Sorted<'_> {
    fn bind(&mut self, name: String, object: &Value) {
        let spec = BindingSpec::deserialize(&object["spec"]).unwrap_or_default();
        self.bindings.entry(spec.policy_name.clone()).or_default().push(Binding { name, spec });
    }

    fn policies<R: Rules>(mut self, former: &[Arc<Policy<R>>]) -> Vec<Arc<Policy<R>>> {
        let policies = self.specs.into_iter().map(|(name, spec)| {
            let mut bindings = self.bindings.remove(&name).unwrap_or_default();
            bindings.sort_by(|one, other| one.name.cmp(&other.name));
            let known =
                former.iter().find(|policy| policy.name == name && policy.rules.common().source == *spec);
            let rules = known.map_or_else(|| Arc::new(R::of(spec)), |policy| policy.rules.clone());
            Arc::new(Policy { name, rules, bindings })
        });
        policies.collect()
    }
}

/// A policy with what binds it.
#[derive(Debug)]
pub(super) struct Policy<R> {
    pub(super) name: String,
    pub(super) rules: Arc<R>,
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

/// `Fail` where nothing is said.
pub(crate) fn failure_policy(word: Option<&str>) -> FailurePolicy {
    if word == Some("Ignore") { FailurePolicy::Ignore } else { FailurePolicy::Fail }
}
