//! Admission policies and what binds them; their expressions are compiled.

use ::admission::cel::{Program, Scope, Wanted};
use serde_json::Value;

use super::{At, fault::Faults, names, rules, workload};

const MAX_CONDITIONS: usize = 64;
const MAX_ANNOTATIONS: usize = 20;
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

/// A ValidatingAdmissionPolicy.
pub(super) fn validating(policy: At<'_>, faults: &mut Faults) {
    let spec = policy.get("spec");
    let mut scope = common(spec, faults);
    let (validations, annotations) = (spec.list("validations"), spec.list("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        faults.required("spec.validations", why);
        faults.required("spec.auditAnnotations", why);
    }
    variables(spec, &mut scope, faults);
    for (n, value) in validations.iter().enumerate() {
        validation(At::of(value), &format!("spec.validations[{n}]"), &scope, faults);
    }
    if annotations.len() > MAX_ANNOTATIONS {
        faults.too_many("spec.auditAnnotations", annotations.len(), MAX_ANNOTATIONS);
    }
    let name = policy.get("metadata").text("name");
    let mut keys = Vec::new();
    for (n, value) in annotations.iter().enumerate() {
        let (value, at) = (At::of(value), format!("spec.auditAnnotations[{n}]"));
        annotation(value, &at, name, &scope, faults);
        let key = value.text("key");
        if keys.contains(&key) {
            faults.duplicate(&format!("{at}.key"), &key.into());
        }
        keys.push(key);
    }
}

/// A MutatingAdmissionPolicy.
pub(super) fn mutating(policy: At<'_>, faults: &mut Faults) {
    const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    let spec = policy.get("spec");
    let mut scope = Scope { writes: true, ..common(spec, faults) };
    for rule in spec.get("matchConstraints").list("resourceRules") {
        for operation in At::of(rule).list("operations") {
            let operation = operation.as_str().unwrap_or_default();
            faults.one_of("spec.matchConstraints.resourceRules.operations", operation, &OPERATIONS);
        }
    }
    variables(spec, &mut scope, faults);
    let mutations = spec.list("mutations");
    if mutations.is_empty() {
        faults.required("spec.mutations", "mutations must contain at least one item");
    }
    for (n, value) in mutations.iter().enumerate() {
        mutation(At::of(value), &format!("spec.mutations[{n}]"), &scope, faults);
    }
    match spec.text("reinvocationPolicy") {
        "" => faults.required("spec.reinvocationPolicy", ""),
        policy => faults.one_of("spec.reinvocationPolicy", policy, &["IfNeeded", "Never"]),
    }
}

fn mutation(mutation: At<'_>, at: &str, scope: &Scope, faults: &mut Faults) {
    let patch_type = format!("{at}.patchType");
    match mutation.text("patchType") {
        "" => faults.required(&patch_type, ""),
        "JSONPatch" => {
            let (patch, field) = (mutation.get("jsonPatch"), format!("{at}.jsonPatch"));
            let expression = patch.text("expression");
            if !patch.is_there() {
                faults.required(&field, "must be specified when patchType is JSONPatch");
            } else if expression.trim().is_empty() {
                faults.required(&format!("{field}.expression"), "");
            } else if let Err(error) = Program::compile(expression, scope, Wanted::Patch) {
                faults.invalid_text(&format!("{field}.expression"), expression, &error.to_string());
            }
            if mutation.get("applyConfiguration").is_there() {
                let why = "must not be specified when patchType is JSONPatch";
                faults.invalid_text(&format!("{at}.applyConfiguration"), "{applyConfiguration}", why);
            }
        }
        "ApplyConfiguration" => faults.forbidden(
            &patch_type,
            "this server does not merge apply configurations; a JSONPatch can make the same change",
        ),
        other => faults.one_of(&patch_type, other, &["ApplyConfiguration", "JSONPatch"]),
    }
}

/// What every kind of policy says: what it is for. What its expressions know is the outcome.
fn common(spec: At<'_>, faults: &mut Faults) -> Scope {
    faults.one_of("spec.failurePolicy", spec.text("failurePolicy"), &["Fail", "Ignore"]);
    let kind = spec.get("paramKind");
    if kind.is_there() {
        param_kind(kind, faults);
    }
    let constraints = spec.get("matchConstraints");
    if !constraints.is_there() {
        faults.required("spec.matchConstraints", "");
    } else {
        rules::constraints(constraints, "spec.matchConstraints", faults);
        if constraints.list("resourceRules").is_empty() {
            faults.required("spec.matchConstraints.resourceRules", "");
        }
    }
    let scope = Scope { has_params: kind.is_there(), variables: None, writes: false };
    conditions(spec, "spec.matchConditions", &scope, faults);
    Scope { variables: Some(Vec::new()), ..scope }
}

fn param_kind(kind: At<'_>, faults: &mut Faults) {
    let version = kind.text("apiVersion");
    if version.is_empty() {
        faults.required("spec.paramKind.apiVersion", "");
    } else if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        faults.invalid_text("spec.paramKind.apiVersion", version, &why);
    } else {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        for why in if group.is_empty() { vec![] } else { names::subdomain(group) } {
            faults.invalid_text("spec.paramKind.apiVersion", group, &why);
        }
        for why in names::label(version) {
            faults.invalid_text("spec.paramKind.apiVersion", version, &why);
        }
    }
    let name = kind.text("kind");
    if name.is_empty() {
        faults.required("spec.paramKind.kind", "");
    } else {
        for why in names::label(&name.to_lowercase()) {
            let why = format!("may have mixed case, but should otherwise match: {why}");
            faults.invalid_text("spec.paramKind.kind", name, &why);
        }
    }
}

/// Match conditions, of policies and of webhooks.
pub(super) fn conditions(holder: At<'_>, field: &str, scope: &Scope, faults: &mut Faults) {
    let conditions = holder.list("matchConditions");
    if conditions.len() > MAX_CONDITIONS {
        faults.too_many(field, conditions.len(), MAX_CONDITIONS);
    }
    let mut seen = Vec::new();
    for (n, value) in conditions.iter().enumerate() {
        let (condition, at) = (At::of(value), format!("{field}[{n}]"));
        expression(condition.text("expression"), &format!("{at}.expression"), scope, Wanted::Bool, faults);
        let name = condition.text("name");
        if name.is_empty() {
            faults.required(&format!("{at}.name"), "");
            continue;
        }
        for why in names::qualified(name) {
            faults.invalid_text(&format!("{at}.name"), name, &why);
        }
        if seen.contains(&name) {
            faults.duplicate(&format!("{at}.name"), &name.into());
        }
        seen.push(name);
    }
}

/// Each variable may use those before it.
fn variables(spec: At<'_>, scope: &mut Scope, faults: &mut Faults) {
    for (n, value) in spec.list("variables").iter().enumerate() {
        let (variable, at) = (At::of(value), format!("spec.variables[{n}]"));
        let name = variable.text("name");
        if name.is_empty() {
            faults.required(&format!("{at}.name"), "name is not specified");
        } else if !is_identifier(name) {
            faults.invalid_text(&format!("{at}.name"), name, "must be a valid CEL identifier");
        }
        expression(variable.text("expression"), &format!("{at}.expression"), scope, Wanted::Anything, faults);
        scope.variables.get_or_insert_default().push(name.to_owned());
    }
}

fn validation(validation: At<'_>, at: &str, scope: &Scope, faults: &mut Faults) {
    let source = validation.text("expression");
    expression(source, &format!("{at}.expression"), scope, Wanted::Bool, faults);
    let made = validation.text("messageExpression");
    if !made.is_empty() {
        let field = format!("{at}.messageExpression");
        if made.trim().is_empty() {
            faults.invalid_text(&field, made, "must be non-empty if specified");
        } else {
            expression(made, &field, scope, Wanted::Text, faults);
        }
    }
    let (message, field) = (validation.text("message"), format!("{at}.message"));
    if !message.is_empty() && message.trim().is_empty() {
        faults.invalid_text(&field, message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        faults.invalid_text(&field, message, "must not contain line breaks");
    }
    if validation.get("reason").is_there() {
        const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        faults.one_of(&format!("{at}.reason"), validation.text("reason"), &REASONS);
    }
}

fn annotation(annotation: At<'_>, at: &str, policy: &str, scope: &Scope, faults: &mut Faults) {
    let key = annotation.text("key");
    if policy.is_empty() {
        faults.invalid_text(&format!("{at}.key"), key, "requires metadata.name be non-empty");
    } else {
        let whole = format!("{policy}/{key}");
        for why in names::qualified(&whole) {
            faults.invalid_text(&format!("{at}.key"), &whole, &why);
        }
    }
    let (source, field) = (annotation.text("valueExpression"), format!("{at}.valueExpression"));
    if source.trim().is_empty() {
        faults.required(&field, "valueExpression is not specified");
    } else if source.trim().len() > MAX_VALUE_EXPRESSION {
        let why = format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length");
        faults.required(&field, &why);
    } else {
        expression(source, &field, scope, Wanted::TextOrNull, faults);
    }
}

fn expression(source: &str, field: &str, scope: &Scope, wanted: Wanted, faults: &mut Faults) {
    if source.trim().is_empty() {
        faults.required(
            field,
            if field.contains("matchConditions") { "" } else { "expression is not specified" },
        );
    } else if let Err(error) = Program::compile(source, scope, wanted) {
        faults.invalid_text(field, source, &error.to_string());
    }
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
        && !RESERVED.contains(&name)
}

/// A MutatingAdmissionPolicyBinding.
pub(super) fn mutating_binding(binding: At<'_>, faults: &mut Faults) {
    common_binding(binding.get("spec"), faults);
}

/// A ValidatingAdmissionPolicyBinding.
pub(super) fn validating_binding(binding: At<'_>, faults: &mut Faults) {
    let spec = binding.get("spec");
    common_binding(spec, faults);
    let actions = spec.list("validationActions");
    if actions.is_empty() {
        faults.required("spec.validationActions", "at least one validation action is required");
    }
    for (n, action) in actions.iter().enumerate() {
        let field = format!("spec.validationActions[{n}]");
        faults.one_of(&field, action.as_str().unwrap_or_default(), &["Audit", "Deny", "Warn"]);
        if actions[..n].contains(action) {
            faults.duplicate(&field, action);
        }
    }
    if actions.iter().any(|action| action == "Deny") && actions.iter().any(|action| action == "Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        faults.invalid("spec.validationActions", &Value::from(actions.to_vec()), why);
    }
}

fn common_binding(spec: At<'_>, faults: &mut Faults) {
    let policy = spec.text("policyName");
    if policy.is_empty() {
        faults.required("spec.policyName", "");
    } else {
        for why in names::subdomain(policy) {
            faults.invalid_text("spec.policyName", policy, &why);
        }
    }
    let reference = spec.get("paramRef");
    if reference.is_there() {
        param_ref(reference, faults);
    }
    let resources = spec.get("matchResources");
    if resources.is_there() {
        rules::constraints(resources, "spec.matchResources", faults);
    }
}

fn param_ref(reference: At<'_>, faults: &mut Faults) {
    const FIELD: &str = "spec.paramRef";
    let (name, selector) = (reference.text("name"), reference.get("selector"));
    for why in if name.is_empty() { vec![] } else { names::segment(name) } {
        faults.invalid_text(&format!("{FIELD}.name"), name, &why);
    }
    if selector.is_there() {
        workload::check_selector(selector, &format!("{FIELD}.selector"), faults);
    }
    match (name.is_empty(), selector.is_there()) {
        (false, true) => {
            for member in ["name", "selector"] {
                faults.forbidden(&format!("{FIELD}.{member}"), "name and selector are mutually exclusive");
            }
        }
        (true, false) => faults.required(FIELD, "one of name or selector must be specified"),
        _ => {}
    }
    match reference.text("parameterNotFoundAction") {
        "" => faults.required(&format!("{FIELD}.parameterNotFoundAction"), ""),
        action => faults.one_of(&format!("{FIELD}.parameterNotFoundAction"), action, &["Deny", "Allow"]),
    }
}
