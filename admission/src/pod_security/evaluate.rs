//! A Pod before a level of a version: which checks it has to pass, and how violations are told.

use std::sync::LazyLock;

use super::{
    checks::{CHECKS, CheckPod, NEWEST},
    level::{Level, LevelVersion, Version},
    violation::Violation,
};
use crate::pod::Pod;

/// The checks of each minor version up to the newest, for baseline and for restricted.
static BY_VERSION: LazyLock<Vec<[Vec<CheckPod>; 2]>> = LazyLock::new(|| {
    let of = |minor| [checks(Level::Baseline, minor), checks(Level::Restricted, minor)];
    (0..=NEWEST).map(of).collect()
});

/// The checks of a level in a version, in the order in which violations are told.
fn checks(level: Level, minor: u32) -> Vec<CheckPod> {
    let versions = CHECKS.iter().filter(|check| check.level <= level);
    let in_force: Vec<_> = versions.filter_map(|check| Some((check.id, check.in_version(minor)?))).collect();
    let overridden: Vec<_> = in_force.iter().filter_map(|(_, version)| version.overrides).collect();
    let kept = in_force.into_iter().filter(|(id, _)| !overridden.contains(id));
    kept.map(|(_, version)| version.check).collect()
}

/// What a Pod violates; nothing where it may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// The violated rules in their order.
    pub violations: Vec<Violation>,
}

impl Evaluation {
    /// Whether the Pod may pass.
    pub fn is_allowed(&self) -> bool {
        self.violations.is_empty()
    }

    /// The short form: `host namespaces, privileged`.
    pub fn reasons(&self) -> String {
        let reasons: Vec<_> = self.violations.iter().map(|violation| violation.reason.as_str()).collect();
        reasons.join(", ")
    }

    /// The long form: `host namespaces (hostNetwork=true), privileged (container "a" must not set …)`.
    pub fn details(&self) -> String {
        let detailed = |violation: &Violation| match violation.detail.as_str() {
            "" => violation.reason.clone(),
            detail => format!("{} ({detail})", violation.reason),
        };
        self.violations.iter().map(detailed).collect::<Vec<_>>().join(", ")
    }
}

/// Holds a Pod to a level of a version. A version that is newer than the newest known one is taken as that.
pub fn evaluate(policy: LevelVersion, pod: &Pod<'_>) -> Evaluation {
    evaluate_up_to(policy, pod, NEWEST)
}

/// The same as if a version were the newest.
fn evaluate_up_to(policy: LevelVersion, pod: &Pod<'_>, newest: u32) -> Evaluation {
    let minor = match policy.version {
        Version::Latest => newest,
        Version::V1(minor) => minor.min(newest),
    };
    let checks = match policy.level {
        Level::Privileged => return Evaluation::default(),
        Level::Baseline => &BY_VERSION[minor as usize][0],
        Level::Restricted => &BY_VERSION[minor as usize][1],
    };
    Evaluation { violations: checks.iter().filter_map(|check| check(pod)).collect() }
}
