//! What of the node a Pod may share.

use crate::{
    pod::Pod,
    pod_security::violation::{Setters, Values, Violation, containers, plural, quoted},
};

/// Not its network, processes or IPC.
pub(super) fn namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let spec = pod.spec.as_ref()?;
    let shared = [
        (spec.host_network, "hostNetwork=true"),
        (spec.host_pid, "hostPID=true"),
        (spec.host_ipc, "hostIPC=true"),
    ];
    let set: Vec<_> = shared.iter().filter(|(set, _)| *set == Some(true)).map(|(_, text)| *text).collect();
    if set.is_empty() {
        return None;
    }
    Violation::new("host namespaces", set.join(", "))
}

/// Not its ports.
pub(super) fn ports(pod: &Pod<'_>) -> Option<Violation> {
    let spec = pod.spec.as_ref()?;
    let taking: Vec<_> =
        spec.all_containers().filter(|container| container.host_ports().next().is_some()).collect();
    if taking.is_empty() {
        return None;
    }
    // They are told in the order of their digits, each of them once.
    let mut ports: Vec<_> =
        taking.iter().flat_map(|container| container.host_ports()).map(|port| port.to_string()).collect();
    ports.sort_unstable();
    ports.dedup();
    let names: Vec<_> = taking.iter().map(|container| container.name()).collect();
    let (uses, word) = (plural(names.len(), "uses", "use"), plural(ports.len(), "hostPort", "hostPorts"));
    Violation::new("hostPort", format!("{} {uses} {word} {}", containers(&names), ports.join(", ")))
}

/// Probes and lifecycle handlers turn to the Pod itself.
pub(super) fn probes(pod: &Pod<'_>) -> Option<Violation> {
    let mut names = Values::new();
    let mut hosts = Values::new();
    for container in pod.spec.as_ref()?.all_containers() {
        for host in container.probed_hosts() {
            names.insert(container.name());
            hosts.insert(host);
        }
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<_> = names.into_iter().collect();
    let uses = plural(names.len(), "uses", "use");
    let word = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    Violation::new(
        "probe or lifecycle host",
        format!("{} {uses} {word} {}", containers(&names), quoted(hosts)),
    )
}

/// Settings of the kernel that touch the Pod alone, with the version from which each is known to be safe.
const SAFE_SYSCTLS: [(&str, u32); 14] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

/// Only settings of the kernel that are safe in a version.
pub(super) fn sysctls<const MINOR: u32>(pod: &Pod<'_>) -> Option<Violation> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let is_safe = |name: &str| SAFE_SYSCTLS.iter().any(|(safe, since)| *safe == name && *since <= MINOR);
    let set = context.sysctls.iter().flatten().map(|sysctl| sysctl.name());
    let unsafe_ones: Vec<_> = set.filter(|name| !is_safe(name)).collect();
    if unsafe_ones.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", unsafe_ones.join(", "))
}

/// Nothing runs on a Windows node itself.
pub(super) fn windows_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = Setters::of(pod, |context| {
        context.windows_options.as_ref().is_some_and(|options| options.host_process == Some(true))
    })?;
    let detail =
        format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.and(None));
    Violation::new("hostProcess", detail)
}
