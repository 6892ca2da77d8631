//! Which rule a request falls under, and why it does not fall under the ones before.

use std::fmt;

use super::{Policy, Resources, Rule, Stages};
use crate::event::Level;

/// What a policy looks at in a request. It is what the URL and the credentials tell, before the body is read and
/// before impersonation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// The authenticated user's name; empty when nobody was authenticated.
    pub user: &'a str,
    /// The user's groups.
    pub groups: Vec<&'a str>,
    /// The Kubernetes verb of a resource request, otherwise the HTTP method in lower case.
    pub verb: &'a str,
    /// What the request is for.
    pub target: Target<'a>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A resource.
    Resource {
        /// API group; empty for the core group.
        group: &'a str,
        /// Resource, in the plural.
        resource: &'a str,
        /// Subresource, or empty.
        subresource: &'a str,
        /// Namespace; empty for what has none. Of a request for a Namespace it is that namespace's name.
        namespace: &'a str,
        /// The object's name; empty for lists, and for creates, whose URL does not name it.
        name: &'a str,
    },
    /// Anything else: the URL's path, without its query.
    Path(&'a str),
}

/// What a policy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is recorded.
    pub level: Level,
    /// The stages that are left out: the policy's and the rule's.
    pub omit_stages: Stages,
    /// Whether `metadata.managedFields` is left out of bodies.
    pub omit_managed_fields: bool,
    /// Index of the rule that decided; none when no rule matched, which is level None.
    pub rule: Option<usize>,
}

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The decision.
    pub decision: Decision,
    /// Why each rule before the deciding one did not match, in order.
    pub passed: Vec<Mismatch<'a>>,
}

/// The first condition of a rule that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// Another user.
    User(&'a [String]),
    /// In none of the groups.
    Groups(&'a [String]),
    /// Another verb.
    Verb(&'a [String]),
    /// The rule is for resources and the request is not.
    NotForResource,
    /// Another namespace.
    Namespace(&'a [String]),
    /// No entry of the rule's resources is met.
    Resources(&'a [Resources]),
    /// The rule is for paths and the request is for a resource.
    NotForPath,
    /// Another path.
    Path(&'a [String]),
}

impl Policy {
    /// What the policy says of a request. The first rule that matches decides.
    pub fn decide(&self, request: &Attributes<'_>) -> Decision {
        self.decision(self.rules.iter().position(|rule| rule.mismatch(request).is_none()))
    }

    /// The same, with the reasons.
    pub fn explain(&self, request: &Attributes<'_>) -> Explanation<'_> {
        let passed: Vec<_> = self.rules.iter().map_while(|rule| rule.mismatch(request)).collect();
        let rule = Some(passed.len()).filter(|rule| *rule < self.rules.len());
        Explanation { decision: self.decision(rule), passed }
    }

    fn decision(&self, index: Option<usize>) -> Decision {
        let rule = index.and_then(|index| self.rules.get(index));
        Decision {
            level: rule.map_or(Level::None, |rule| rule.level),
            omit_stages: self.omit_stages.union(rule.map_or_else(Stages::default, |rule| rule.omit_stages)),
            omit_managed_fields: rule
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
            rule: index,
        }
    }
}

impl Rule {
    /// The first condition that the request does not meet; none when the rule matches.
    pub fn mismatch(&self, request: &Attributes<'_>) -> Option<Mismatch<'_>> {
        let unmet = |list: &[String], given: &str| !list.is_empty() && !contains(list, given);
        if unmet(&self.users, request.user) || !self.users.is_empty() && request.user.is_empty() {
            return Some(Mismatch::User(&self.users));
        }
        if !self.groups.is_empty() && !request.groups.iter().any(|group| contains(&self.groups, group)) {
            return Some(Mismatch::Groups(&self.groups));
        }
        if unmet(&self.verbs, request.verb) {
            return Some(Mismatch::Verb(&self.verbs));
        }
        match request.target {
            Target::Path(_) if self.is_for_resources() => Some(Mismatch::NotForResource),
            Target::Path(path) => {
                let met =
                    self.paths.is_empty() || self.paths.iter().any(|pattern| path_matches(pattern, path));
                (!met).then_some(Mismatch::Path(&self.paths))
            }
            Target::Resource { .. } if !self.paths.is_empty() => Some(Mismatch::NotForPath),
            Target::Resource { namespace, .. } if unmet(&self.namespaces, namespace) => {
                Some(Mismatch::Namespace(&self.namespaces))
            }
            resource @ Target::Resource { .. } => {
                let met =
                    self.resources.is_empty() || self.resources.iter().any(|entry| entry.matches(&resource));
                (!met).then_some(Mismatch::Resources(&self.resources))
            }
        }
    }

    pub(super) fn is_for_resources(&self) -> bool {
        !self.resources.is_empty() || !self.namespaces.is_empty()
    }
}

impl Resources {
    fn matches(&self, target: &Target<'_>) -> bool {
        let Target::Resource { group, resource, subresource, name, .. } = *target else { return false };
        let names = self.names.is_empty() || contains(&self.names, name);
        let group = self.group == group || self.group == "*";
        group
            && (self.resources.is_empty()
                || names && self.resources.iter().any(|r| item_matches(r, resource, subresource)))
    }
}

/// `pods` is the resource alone, `pods/*` the resource and all below it, `*` everything.
fn item_matches(item: &str, resource: &str, subresource: &str) -> bool {
    match item.split_once('/') {
        None => item == "*" || subresource.is_empty() && item == resource,
        Some(("*", sub)) if sub == subresource => !subresource.is_empty(),
        Some((res, "*")) => res == resource,
        Some((res, sub)) => !sub.is_empty() && res == resource && sub == subresource,
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == path,
        Some(_) => path.starts_with(pattern.trim_end_matches('*')),
    }
}

fn contains(list: &[String], given: &str) -> bool {
    list.iter().any(|item| item == given)
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(users) => write!(f, "the user is not one of {}", listed(users)),
            Self::Groups(groups) => write!(f, "the user is in none of the groups {}", listed(groups)),
            Self::Verb(verbs) => write!(f, "the verb is not one of {}", listed(verbs)),
            Self::NotForResource => f.write_str("the rule is for resources, the request is not"),
            Self::Namespace(namespaces) => write!(f, "the namespace is not one of {}", listed(namespaces)),
            Self::Resources(entries) => {
                let entries: Vec<_> = entries.iter().map(ToString::to_string).collect();
                write!(f, "the resource is not one of {}", entries.join(", "))
            }
            Self::NotForPath => {
                f.write_str("the rule is for non-resource URLs, the request is for a resource")
            }
            Self::Path(paths) => write!(f, "the path is not one of {}", listed(paths)),
        }
    }
}

impl fmt::Display for Resources {
    /// `apps: deployments, deployments/scale named "web"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        let resources = if self.resources.is_empty() { "*".to_owned() } else { self.resources.join("|") };
        write!(f, "{group}:{resources}")?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " named {}", listed(&self.names)) }
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
