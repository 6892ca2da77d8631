//! Which rights containers may have or gain.

use crate::{
    pod::{Pod, SecurityContext},
    pod_security::violation::{Values, Violation, containers, quoted},
};

/// Not all of the node's.
pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names =
        containers_where(pod, |context| context.is_some_and(|context| context.privileged == Some(true)))?;
    let detail = format!("{} must not set securityContext.privileged=true", containers(&names));
    Violation::new("privileged", detail)
}

/// No more than they began with, and they say so.
pub(super) fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names = containers_where(pod, |context| {
        context.and_then(|context| context.allow_privilege_escalation) != Some(false)
    })?;
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    Violation::new("allowPrivilegeEscalation != false", detail)
}

/// Windows has no such setting.
pub(super) fn escalation_but_on_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.is_windows() { None } else { escalation(pod) }
}

/// /proc is mounted with its masks.
pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let unmasked = |context: Option<&SecurityContext<'_>>| {
        context.and_then(|context| context.proc_mount).is_some_and(|mount| mount != "Default")
    };
    let names = containers_where(pod, unmasked)?;
    let contexts =
        pod.spec.as_ref()?.all_containers().filter_map(|container| container.security_context.as_ref());
    let values: Values<'_> =
        contexts.filter_map(|context| context.proc_mount).filter(|mount| *mount != "Default").collect();
    let detail =
        format!("{} must not set securityContext.procMount to {}", containers(&names), quoted(values));
    Violation::new("procMount", detail)
}

/// A Pod with users of its own may see /proc as it is.
pub(super) fn proc_mount_of_the_nodes_users(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.has_own_users() { None } else { proc_mount(pod) }
}

/// The names of the containers whose context is like that; none where there are none.
fn containers_where<'a>(
    pod: &Pod<'a>,
    is_bad: impl Fn(Option<&SecurityContext<'a>>) -> bool,
) -> Option<Vec<&'a str>> {
    let bad = pod.spec.as_ref()?.all_containers().filter(|c| is_bad(c.security_context.as_ref()));
    let names: Vec<_> = bad.map(|container| container.name()).collect();
    (!names.is_empty()).then_some(names)
}
