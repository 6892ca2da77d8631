//! Which requests policies and webhooks are for.

use serde_json::Value;

use super::{At, fault::Faults, names, workload};

/// `matchConstraints` of a policy, `matchResources` of a binding.
pub(super) fn constraints(constraints: At<'_>, at: &str, faults: &mut Faults) {
    faults.one_of(&format!("{at}.matchPolicy"), constraints.text("matchPolicy"), &["Equivalent", "Exact"]);
    for member in ["namespaceSelector", "objectSelector"] {
        workload::check_selector(constraints.get(member), &format!("{at}.{member}"), faults);
    }
    for member in ["resourceRules", "excludeResourceRules"] {
        for (n, value) in constraints.list(member).iter().enumerate() {
            rule(At::of(value), &format!("{at}.{member}[{n}]"), faults);
        }
    }
}

/// A rule with its operations.
pub(super) fn rule(rule: At<'_>, at: &str, faults: &mut Faults) {
    const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    listed(rule, at, "operations", "operations", faults);
    for (n, operation) in rule.list("operations").iter().enumerate() {
        faults.one_of(&format!("{at}.operations[{n}]"), operation.as_str().unwrap_or_default(), &OPERATIONS);
    }
    listed(rule, at, "apiGroups", "API groups", faults);
    listed(rule, at, "apiVersions", "API versions", faults);
    for member in ["apiVersions", "resources"] {
        for (n, word) in rule.list(member).iter().enumerate() {
            if word == "" {
                faults.required(&format!("{at}.{member}[{n}]"), "");
            }
        }
    }
    let resources = rule.list("resources");
    if resources.is_empty() {
        faults.required(&format!("{at}.resources"), "");
    }
    if resources.len() > 1 && resources.iter().any(|resource| resource == "*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        faults.invalid(&format!("{at}.resources"), &Value::from(resources.to_vec()), why);
    }
    let scope = rule.get("scope");
    if scope.is_there() {
        faults.one_of(&format!("{at}.scope"), rule.text("scope"), &["*", "Cluster", "Namespaced"]);
    }
    let names = rule.list("resourceNames");
    for (n, name) in names.iter().enumerate() {
        let field = format!("{at}.resourceNames[{n}]");
        for why in names::segment(name.as_str().unwrap_or_default()) {
            faults.invalid(&field, name, &why);
        }
        if names[..n].contains(name) {
            faults.duplicate(&field, name);
        }
    }
}

/// A list that is not empty, and in which `*` stands alone.
fn listed(rule: At<'_>, at: &str, member: &str, what: &str, faults: &mut Faults) {
    let (list, field) = (rule.list(member), format!("{at}.{member}"));
    if list.is_empty() {
        faults.required(&field, "");
    }
    if list.len() > 1 && list.iter().any(|word| word == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        faults.invalid(&field, &Value::from(list.to_vec()), &why);
    }
}
