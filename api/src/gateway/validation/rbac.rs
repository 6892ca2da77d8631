//! Roles and bindings.

use super::{At, fault::Faults, names};

pub(super) fn role(role: At<'_>, is_namespaced: bool, faults: &mut Faults) {
    for (n, value) in role.list("rules").iter().enumerate() {
        let (rule, at) = (At::of(value), format!("rules[{n}]"));
        if rule.list("verbs").is_empty() {
            faults.required(&format!("{at}.verbs"), "verbs must contain at least one value");
        }
        if !rule.list("nonResourceURLs").is_empty() {
            let shown = rule.get("nonResourceURLs").value;
            let field = format!("{at}.nonResourceURLs");
            if is_namespaced {
                faults.invalid(&field, shown, "namespaced rules cannot apply to non-resource URLs");
            }
            let others = ["apiGroups", "resources", "resourceNames"];
            if others.iter().any(|key| !rule.list(key).is_empty()) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                faults.invalid(&field, shown, why);
            }
            continue;
        }
        if rule.list("apiGroups").is_empty() {
            let why = "resource rules must supply at least one api group";
            faults.required(&format!("{at}.apiGroups"), why);
        }
        if rule.list("resources").is_empty() {
            let why = "resource rules must supply at least one resource";
            faults.required(&format!("{at}.resources"), why);
        }
    }
    let aggregation = role.get("aggregationRule");
    if aggregation.is_there() && aggregation.list("clusterRoleSelectors").is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        faults.required("aggregationRule.clusterRoleSelectors", why);
    }
}

pub(super) fn binding(binding: At<'_>, is_namespaced: bool, faults: &mut Faults) {
    let role = binding.get("roleRef");
    faults.one_of("roleRef.apiGroup", role.text("apiGroup"), &["rbac.authorization.k8s.io"]);
    let kinds: &[&str] = if is_namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    faults.one_of("roleRef.kind", role.text("kind"), kinds);
    if role.text("name").is_empty() {
        faults.required("roleRef.name", "");
    }
    for why in names::segment(role.text("name")) {
        faults.invalid_text("roleRef.name", role.text("name"), &why);
    }
    for (n, value) in binding.list("subjects").iter().enumerate() {
        subject(At::of(value), &format!("subjects[{n}]"), is_namespaced, faults);
    }
}

fn subject(subject: At<'_>, at: &str, is_namespaced: bool, faults: &mut Faults) {
    let name = subject.text("name");
    if name.is_empty() {
        faults.required(&format!("{at}.name"), "");
    }
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                for why in names::subdomain(name) {
                    faults.invalid_text(&format!("{at}.name"), name, &why);
                }
            }
            if !subject.text("apiGroup").is_empty() {
                faults.one_of(&format!("{at}.apiGroup"), subject.text("apiGroup"), &[""]);
            }
            if !is_namespaced && subject.text("namespace").is_empty() {
                faults.required(&format!("{at}.namespace"), "");
            }
        }
        "User" | "Group" => {
            let group = subject.text("apiGroup");
            faults.one_of(&format!("{at}.apiGroup"), group, &["rbac.authorization.k8s.io"]);
        }
        other => faults.one_of(&format!("{at}.kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
