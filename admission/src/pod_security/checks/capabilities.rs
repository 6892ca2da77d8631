//! Which Linux capabilities containers may add, and must drop.

use crate::{
    pod::Pod,
    pod_security::violation::{Values, Violation, containers, quoted},
};

const ADDABLE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Nothing is added that a runtime would not give by itself.
pub(super) fn baseline(pod: &Pod<'_>) -> Option<Violation> {
    let added = added(pod, |capability| ADDABLE.contains(&capability))?;
    Violation::new("non-default capabilities", added)
}

/// Everything is dropped, and nothing is added but the right to low ports.
pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let spec = pod.spec.as_ref()?;
    let keeping: Vec<_> = spec
        .all_containers()
        .filter(|container| {
            let context = container.security_context.as_ref();
            let capabilities = context.and_then(|context| context.capabilities.as_ref());
            !capabilities.is_some_and(|capabilities| capabilities.dropped().contains(&"ALL"))
        })
        .map(|container| container.name())
        .collect();
    let kept = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    let added = added(pod, |capability| capability == "NET_BIND_SERVICE");
    let details: Vec<_> = kept.into_iter().chain(added).collect();
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

/// Windows has no capabilities.
pub(super) fn restricted_but_on_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.is_windows() { None } else { restricted(pod) }
}

/// The containers that add capabilities that they may not.
fn added(pod: &Pod<'_>, may: impl Fn(&str) -> bool) -> Option<String> {
    let mut adding = Vec::new();
    let mut values = Values::new();
    for container in pod.spec.as_ref()?.all_containers() {
        let context = container.security_context.as_ref();
        let Some(capabilities) = context.and_then(|context| context.capabilities.as_ref()) else { continue };
        let before = adding.len();
        for capability in capabilities.added().iter().filter(|capability| !may(capability)) {
            values.insert(capability);
            if adding.len() == before {
                adding.push(container.name());
            }
        }
    }
    (!adding.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(values)
        )
    })
}
