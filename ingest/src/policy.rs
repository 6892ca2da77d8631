//! The audit policy: which requests are recorded, at which level and in which stages.
//!
//! Rules, validation and matching are those of `audit.k8s.io/v1` as kube-apiserver 1.36 has them. Loading is
//! not: kube-apiserver falls back to ignoring what it does not know, so that a misplaced `verbs` widens a rule
//! without a word. Here an unknown or repeated field is an error, always.

mod load;
mod matching;
mod validate;

#[cfg(test)]
mod tests;

pub use load::Loaded;
pub use manifest::{Refused as PolicyError, Violation};
pub use matching::{Attributes, Decision, Explanation, Mismatch, Target};

use crate::event::{Level, Stage};

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stages(u8);

impl Stages {
    /// Whether `stage` is in the set.
    pub const fn contains(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u8) != 0
    }

    /// What is in one of the sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The stages of the set, in the order of a request's life.
    pub fn iter(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(move |stage| self.contains(*stage))
    }
}

impl FromIterator<Stage> for Stages {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        Self(stages.into_iter().fold(0, |bits, stage| bits | 1 << stage as u8))
    }
}

/// A valid policy. It has at least one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rules; the first that matches a request decides.
    pub rules: Vec<Rule>,
    /// Stages in which no request is recorded.
    pub omit_stages: Stages,
    /// Whether `metadata.managedFields` is left out of bodies where the rule does not say.
    pub omit_managed_fields: bool,
}

/// A rule. An empty list asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is recorded of a request that matches.
    pub level: Level,
    /// Names of users.
    pub users: Vec<String>,
    /// Names of groups, of which the user is in at least one.
    pub groups: Vec<String>,
    /// Verbs; there is no wildcard.
    pub verbs: Vec<String>,
    /// Resources, of which one is meant. With these or with namespaces only resource requests match.
    pub resources: Vec<Resources>,
    /// Namespaces; the empty name is that of resources without one.
    pub namespaces: Vec<String>,
    /// Paths of requests that are not for resources.
    pub paths: Vec<String>,
    /// Stages that are left out besides the policy's.
    pub omit_stages: Stages,
    /// Overrides the policy's, either way.
    pub omit_managed_fields: Option<bool>,
}

/// Resources of one API group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// The group; the empty name is the core group, `*` is every group.
    pub group: String,
    /// `pods`, `pods/log`, `*`, `*/scale` or `pods/*`; none means all of the group.
    pub resources: Vec<String>,
    /// Names of objects.
    pub names: Vec<String>,
}
