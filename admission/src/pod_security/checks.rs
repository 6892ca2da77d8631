//! The table of checks: what each version of the standards demands.

use super::{level::Level, violation::Violation};
use crate::pod::Pod;

mod capabilities;
mod host;
mod privileges;
mod profiles;
mod users;
mod volumes;

/// Looks at a Pod, and tells how it violates one rule.
pub(super) type CheckPod = fn(&Pod<'_>) -> Option<Violation>;

/// The newest version that the table knows.
pub(super) const NEWEST: u32 = 37;

/// One rule over all versions.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) level: Level,
    /// From the oldest to the newest.
    versions: &'static [Since],
}

/// A rule as it is from a version on.
pub(super) struct Since {
    minor: u32,
    pub(super) check: CheckPod,
    /// The baseline rule that this one replaces.
    pub(super) overrides: Option<&'static str>,
}

impl Check {
    /// The rule as it is in a version; none before there was one.
    pub(super) fn in_version(&self, minor: u32) -> Option<&'static Since> {
        self.versions.iter().rev().find(|since| since.minor <= minor)
    }
}

const fn since(minor: u32, check: CheckPod) -> Since {
    Since { minor, check, overrides: None }
}

const fn instead_of(id: &'static str, minor: u32, check: CheckPod) -> Since {
    Since { minor, check, overrides: Some(id) }
}

const fn baseline(id: &'static str, versions: &'static [Since]) -> Check {
    Check { id, level: Level::Baseline, versions }
}

const fn restricted(id: &'static str, versions: &'static [Since]) -> Check {
    Check { id, level: Level::Restricted, versions }
}

/// Every check, in the order in which violations are told: baseline before restricted, each by the bytes of its id.
pub(super) static CHECKS: [Check; 19] = [
    baseline("appArmorProfile", &[since(0, profiles::app_armor)]),
    baseline("capabilities_baseline", &[since(0, capabilities::baseline)]),
    baseline("hostNamespaces", &[since(0, host::namespaces)]),
    baseline("hostPathVolumes", &[since(0, volumes::host_path)]),
    baseline("hostPorts", &[since(0, host::ports)]),
    baseline("hostProbesAndHostLifecycle", &[since(34, host::probes)]),
    baseline("privileged", &[since(0, privileges::privileged)]),
    baseline(
        "procMount",
        &[since(0, privileges::proc_mount), since(35, privileges::proc_mount_of_the_nodes_users)],
    ),
    baseline("seLinuxOptions", &[since(0, profiles::se_linux), since(31, profiles::se_linux_with_engine)]),
    baseline(
        "seccompProfile_baseline",
        &[since(0, profiles::seccomp_annotations), since(19, profiles::seccomp)],
    ),
    baseline(
        "sysctls",
        &[
            since(0, host::sysctls::<0>),
            since(27, host::sysctls::<27>),
            since(29, host::sysctls::<29>),
            since(32, host::sysctls::<32>),
            since(37, host::sysctls::<37>),
        ],
    ),
    baseline("windowsHostProcess", &[since(0, host::windows_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[since(8, privileges::escalation), since(25, privileges::escalation_but_on_windows)],
    ),
    restricted(
        "capabilities_restricted",
        &[
            instead_of("capabilities_baseline", 22, capabilities::restricted),
            instead_of("capabilities_baseline", 25, capabilities::restricted_but_on_windows),
        ],
    ),
    restricted("procMount_restricted", &[instead_of("procMount", 35, privileges::proc_mount)]),
    restricted("restrictedVolumes", &[instead_of("hostPathVolumes", 0, volumes::restricted)]),
    restricted("runAsNonRoot", &[since(0, users::non_root), since(35, users::non_root_of_the_nodes_users)]),
    restricted("runAsUser", &[since(23, users::user_0), since(35, users::user_0_of_the_nodes_users)]),
    restricted(
        "seccompProfile_restricted",
        &[
            instead_of("seccompProfile_baseline", 19, profiles::seccomp_demanded),
            instead_of("seccompProfile_baseline", 25, profiles::seccomp_demanded_but_on_windows),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_in_which_violations_are_told() {
        assert!(CHECKS.is_sorted_by_key(|check| (check.level, check.id)));
        assert!(CHECKS.iter().all(|check| check.versions.is_sorted_by_key(|since| since.minor)));
    }

    #[test]
    fn the_newest_version_is_the_newest_in_the_table() {
        let minors = CHECKS.iter().flat_map(|check| check.versions).map(|since| since.minor);
        assert_eq!(minors.max(), Some(NEWEST));
    }

    #[test]
    fn only_baseline_rules_are_replaced_and_only_by_restricted_ones() {
        for check in &CHECKS {
            for replaced in check.versions.iter().filter_map(|since| since.overrides) {
                assert_eq!(check.level, Level::Restricted);
                let found = CHECKS.iter().find(|other| other.id == replaced).unwrap();
                assert_eq!(found.level, Level::Baseline);
            }
        }
    }
}
