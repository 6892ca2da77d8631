//! What policies say, compiled.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    condition::{Compiled, StoredCondition, compiled},
    configuration::failure_policy,
};
use crate::{
    cel::{Scope, Variable, Wanted},
    controller::FailurePolicy,
    matching::Constraints,
    request::GroupVersionKind,
};

/// The rules of a kind of policies.
pub(super) trait Rules: Send + Sync + 'static {
    /// Reads and compiles a specification. One that cannot be read at all is one whose every evaluation fails.
    fn of(source: &Value) -> Self;

    /// What every kind has.
    fn common(&self) -> &Common;
}

/// What every kind of policy says.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) source: Value,
    pub(super) param_kind: Option<GroupVersionKind>,
    pub(super) constraints: Constraints,
    pub(super) conditions: Vec<Compiled>,
    pub(super) variables: Vec<Variable>,
    pub(super) failure_policy: FailurePolicy,
}

/// What a ValidatingAdmissionPolicy says.
#[derive(Debug)]
pub(super) struct ValidatingRules {
    common: Common,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Compiled)>,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: String,
    pub(super) program: Compiled,
    pub(super) message: String,
    pub(super) message_program: Option<Compiled>,
    pub(super) reason: Option<String>,
}

/// What a MutatingAdmissionPolicy says.
#[derive(Debug)]
pub(super) struct MutatingRules {
    common: Common,
    /// Each gives the steps of a patch.
    pub(super) mutations: Vec<Compiled>,
    /// Whether it is asked again when the object was changed after it.
    pub(super) reinvoked: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CommonSpec {
    param_kind: Option<ParamKind>,
    match_constraints: Constraints,
    match_conditions: Vec<StoredCondition>,
    variables: Vec<StoredCondition>,
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
struct ValidatingSpec {
    validations: Vec<StoredValidation>,
    audit_annotations: Vec<StoredAnnotation>,
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MutatingSpec {
    mutations: Vec<StoredMutation>,
    reinvocation_policy: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoredMutation {
    patch_type: String,
    json_patch: Option<StoredPatch>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredPatch {
    expression: String,
}

/// A specification, or why it cannot be read.
fn read<S: Default + DeserializeOwned>(source: &Value) -> (S, Option<String>) {
    match S::deserialize(source) {
        Ok(spec) => (spec, None),
        Err(error) => (S::default(), Some(format!("the policy cannot be read: {error}"))),
    }
}

impl Common {
    /// What every kind says, and what the expressions of this one know. `unreadable` is why the rest cannot be read.
    fn of(source: &Value, unreadable: Option<String>, writes: bool) -> (Self, Scope) {
        let (spec, why): (CommonSpec, _) = read(source);
        let mut scope = Scope { has_params: spec.param_kind.is_some(), variables: None, writes: false };
        let conditions = spec.match_conditions.iter().map(|c| compiled(&c.expression, &scope, Wanted::Bool));
        let conditions = why.or(unreadable).map(Err).into_iter().chain(conditions).collect();
        scope.writes = writes;
        scope.variables = Some(Vec::new());
        let mut variables = Vec::with_capacity(spec.variables.len());
        for variable in spec.variables {
            let program = compiled(&variable.expression, &scope, Wanted::Anything);
            scope.variables.get_or_insert_default().push(variable.name.clone());
            variables.push(Variable { name: variable.name, program });
        }
        let common = Self {
            source: source.clone(),
            param_kind: spec.param_kind.map(|kind| {
                let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
                GroupVersionKind { group: group.to_owned(), version: version.to_owned(), kind: kind.kind }
            }),
            constraints: spec.match_constraints,
            conditions,
            variables,
            failure_policy: failure_policy(spec.failure_policy.as_deref()),
        };
        (common, scope)
    }
}

impl Rules for ValidatingRules {
    fn of(source: &Value) -> Self {
        let (spec, unreadable): (ValidatingSpec, _) = read(source);
        let (common, scope) = Common::of(source, unreadable, false);
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
        Self { common, validations, annotations }
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

impl Rules for MutatingRules {
    fn of(source: &Value) -> Self {
        let (spec, unreadable): (MutatingSpec, _) = read(source);
        let (common, scope) = Common::of(source, unreadable, true);
        let mutations = spec.mutations.into_iter().map(|mutation| match mutation.json_patch {
            Some(patch) if mutation.patch_type == "JSONPatch" => {
                compiled(&patch.expression, &scope, Wanted::Patch)
            }
            // Another server may have stored it.
            _ => Err(format!(
                "mutations of the type {:?} are not evaluated by this server",
                mutation.patch_type
            )),
        });
        let mutations = mutations.collect();
        Self { common, mutations, reinvoked: spec.reinvocation_policy == "IfNeeded" }
    }

    fn common(&self) -> &Common {
        &self.common
    }
}
