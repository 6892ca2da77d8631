//! As which user containers may run.

use crate::{
    pod::Pod,
    pod_security::violation::{Setters, Violation, containers},
};

/// As another than root, and that is said.
pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if let Some(setters) = Setters::of(pod, |context| context.run_as_non_root == Some(false)) {
        let who = setters.and(None);
        return Violation::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let spec = pod.spec.as_ref()?;
    if spec.security_context.as_ref().is_some_and(|context| context.run_as_non_root == Some(true)) {
        return None;
    }
    let silent = spec.all_containers().filter(|container| {
        container.security_context.as_ref().is_none_or(|context| context.run_as_non_root.is_none())
    });
    let names: Vec<_> = silent.map(|container| container.name()).collect();
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    Violation::new(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

/// In a Pod with users of its own root is nobody on the node.
pub(super) fn non_root_of_the_nodes_users(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.has_own_users() { None } else { non_root(pod) }
}

/// Not as user 0.
pub(super) fn user_0(pod: &Pod<'_>) -> Option<Violation> {
    let setters = Setters::of(pod, |context| context.run_as_user == Some(0))?;
    Violation::new("runAsUser=0", format!("{} must not set runAsUser=0", setters.and(None)))
}

/// In a Pod with users of its own user 0 is nobody on the node.
pub(super) fn user_0_of_the_nodes_users(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.has_own_users() { None } else { user_0(pod) }
}
