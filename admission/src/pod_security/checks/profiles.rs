//! The profiles that confine a Pod: AppArmor, SELinux and seccomp.

use crate::{
    pod::{Pod, Profile, SecurityContext},
    pod_security::violation::{Setters, Values, Violation, containers, plural, quoted},
    quote::Quoted,
};

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn is_confining(profile: &Profile<'_>) -> bool {
    matches!(profile.kind(), "RuntimeDefault" | "Localhost")
}

/// No AppArmor profile that confines nothing.
pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let unconfined = |context: &SecurityContext<'_>| {
        context.app_armor_profile.as_ref().is_some_and(|profile| !is_confining(profile))
    };
    let setters = Setters::of(pod, unconfined).unwrap_or_default();
    let mut annotations: Vec<_> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APP_ARMOR_ANNOTATION) && !is_app_armor(value))
        .map(|(key, value)| format!("{key}={}", Quoted(value)))
        .collect();
    if setters.is_empty() && annotations.is_empty() {
        return None;
    }
    annotations.sort_unstable();
    let last = (!annotations.is_empty()).then(|| plural(annotations.len(), "annotation", "annotations"));
    let kinds =
        values(pod, |context| context.app_armor_profile.as_ref().filter(|profile| !is_confining(profile)));
    let mut values: Vec<_> = kinds.into_iter().map(str::to_owned).collect();
    values.append(&mut annotations);
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let detail = format!("{} must not set AppArmor profile type to {}", setters.and(last), quoted(&values));
    Violation::new(reason, detail)
}

fn is_app_armor(annotation: &str) -> bool {
    annotation.is_empty() || annotation == "runtime/default" || annotation.starts_with("localhost/")
}

const SE_LINUX_TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];

/// Only SELinux types that are made for containers, and neither user nor role.
pub(super) fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    se_linux_but(pod, |kind| SE_LINUX_TYPES.contains(&kind))
}

/// The type for container engines too.
pub(super) fn se_linux_with_engine(pod: &Pod<'_>) -> Option<Violation> {
    se_linux_but(pod, |kind| SE_LINUX_TYPES.contains(&kind) || kind == "container_engine_t")
}

fn se_linux_but(pod: &Pod<'_>, may: impl Fn(&str) -> bool) -> Option<Violation> {
    let setters = Setters::of(pod, |context| {
        let options = context.se_linux_options.as_ref();
        options.is_some_and(|options| !may(options.kind()) || options.sets_user() || options.sets_role())
    })?;
    let all = || pod.contexts().filter_map(|context| context.se_linux_options.as_ref());
    let types: Values<'_> = all().map(|options| options.kind()).filter(|kind| !may(kind)).collect();
    let mut flaws = Vec::with_capacity(3);
    if !types.is_empty() {
        flaws.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(types)));
    }
    if all().any(|options| options.sets_user()) {
        flaws.push("user may not be set".to_owned());
    }
    if all().any(|options| options.sets_role()) {
        flaws.push("role may not be set".to_owned());
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.and(None), flaws.join("; "));
    Violation::new("seLinuxOptions", detail)
}

/// No seccomp annotation that confines nothing: before there was a field for it.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let containers = pod.spec.as_ref().into_iter().flat_map(|spec| spec.all_containers());
    let keys = containers.map(|container| format!("{SECCOMP_CONTAINER_ANNOTATION}{}", container.name()));
    let keys = std::iter::once(SECCOMP_POD_ANNOTATION.to_owned()).chain(keys);
    let set = keys.filter_map(|key| pod.annotation(&key).map(|value| (key, value)));
    let mut forbidden: Vec<_> = set
        .filter(|(_, value)| !is_seccomp(value))
        .map(|(key, value)| format!("{key}={}", Quoted(value)))
        .collect();
    forbidden.sort_unstable();
    forbidden.dedup();
    if forbidden.is_empty() {
        return None;
    }
    let word = plural(forbidden.len(), "annotation", "annotations");
    Violation::new("seccompProfile", format!("forbidden {word} {}", forbidden.join(", ")))
}

fn is_seccomp(annotation: &str) -> bool {
    matches!(annotation, "runtime/default" | "docker/default") || annotation.starts_with("localhost/")
}

/// No seccomp profile that confines nothing.
pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let unconfined = |profile: &&Profile<'_>| !is_confining(profile);
    let setters = Setters::of(pod, |context| context.seccomp_profile.as_ref().filter(unconfined).is_some())?;
    let kinds = values(pod, |context| context.seccomp_profile.as_ref().filter(unconfined));
    let who = setters.and(None);
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds));
    Violation::new("seccompProfile", detail)
}

/// A seccomp profile for every container, its own or the Pod's.
pub(super) fn seccomp_demanded(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp(pod) {
        return Some(violation);
    }
    let spec = pod.spec.as_ref()?;
    let has_profile =
        |context: Option<&SecurityContext<'_>>| context.is_some_and(|c| c.seccomp_profile.is_some());
    if has_profile(spec.security_context.as_ref()) {
        return None;
    }
    let without = spec.all_containers().filter(|container| !has_profile(container.security_context.as_ref()));
    let names: Vec<_> = without.map(|container| container.name()).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&names)
    );
    Violation::new("seccompProfile", detail)
}

/// Windows has no seccomp.
pub(super) fn seccomp_demanded_but_on_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.spec.as_ref()?.is_windows() { None } else { seccomp_demanded(pod) }
}

/// The types of some of the profiles.
fn values<'a>(
    pod: &'a Pod<'a>,
    profile: impl Fn(&'a SecurityContext<'a>) -> Option<&'a Profile<'a>>,
) -> Values<'a> {
    pod.contexts().filter_map(profile).map(|profile| profile.kind()).collect()
}
