//! The roles and bindings of one moment, and what they allow.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Attributes, Rule, Verdict};
use crate::gateway::user::UserInfo;

/// What precedes the name of a service account's user.
const ACCOUNT: &str = "system:serviceaccount:";

/// Whom a binding is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The namespace of a service account.
    #[serde(default)]
    pub namespace: String,
}

/// Which role a binding gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A role for some subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its own name.
    pub name: String,
    /// The role.
    pub role: RoleRef,
    /// Whom it is for.
    pub subjects: Vec<Subject>,
}

/// The roles and bindings of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether the store was read at all.
    pub is_known: bool,
    /// By name.
    pub cluster_roles: HashMap<String, Arc<[Rule]>>,
    /// By namespace, then name.
    pub roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    /// For every namespace and for what is in none.
    pub cluster_bindings: Vec<Binding>,
    /// By namespace.
    pub bindings: HashMap<String, Vec<Binding>>,
}

impl Subject {
    /// Whether a user is meant. Accounts without a namespace are those of the binding's.
    fn is(&self, user: &UserInfo, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => user.username == self.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
                let account = user.username.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
                !namespace.is_empty() && account == Some((namespace, self.name.as_str()))
            }
            _ => false,
        }
    }

    fn told(&self, namespace: &str) -> String {
        let place = if self.namespace.is_empty() { namespace } else { &self.namespace };
        match self.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount {:?}", format!("{}/{place}", self.name)),
            kind => format!("{kind} {:?}", self.name),
        }
    }
}

impl Snapshot {
    pub(super) fn rbac(&self, attributes: &Attributes<'_>) -> Verdict {
        let mut missing = Vec::new();
        let found =
            self.bindings_of(attributes.user, attributes.namespace).find_map(|bound| match bound.rules {
                Some(rules) => rules.iter().any(|r| r.allows(&attributes.request)).then(|| bound.reason()),
                None => {
                    missing.push(bound.missing());
                    None
                }
            });
        match found {
            Some(reason) => Verdict { is_allowed: true, reason },
            None if missing.is_empty() => Verdict { is_allowed: false, reason: String::new() },
            None if missing.len() == 1 => {
                Verdict { is_allowed: false, reason: format!("RBAC: {}", missing[0]) }
            }
            None => Verdict { is_allowed: false, reason: format!("RBAC: [{}]", missing.join(", ")) },
        }
    }

    /// Every rule that a user has at a place, in the order of the bindings.
    pub fn rules_of<'s>(&'s self, user: &'s UserInfo, namespace: &'s str) -> impl Iterator<Item = &'s Rule> {
        let rules = self.bindings_of(user, namespace).filter_map(|bound| bound.rules);
        rules.flat_map(|rules: &'s Arc<[Rule]>| rules.iter())
    }

    /// The namespaces in which a binding of the namespace itself gives a user a rule that passes.
    pub fn namespaces_of<'s>(
        &'s self,
        user: &'s UserInfo,
        passes: impl Fn(&Rule) -> bool + 's,
    ) -> impl Iterator<Item = &'s str> {
        let is_given = move |binding: &Binding, namespace: &str| {
            binding.subjects.iter().any(|subject| subject.is(user, namespace))
                && self.role(&binding.role, namespace).is_some_and(|rules| rules.iter().any(&passes))
        };
        let bound = self
            .bindings
            .iter()
            .filter(move |(namespace, bindings)| bindings.iter().any(|binding| is_given(binding, namespace)));
        bound.map(|(namespace, _)| namespace.as_str())
    }

    /// The bindings that are for a user, those of the whole cluster first.
    fn bindings_of<'s>(&'s self, user: &'s UserInfo, namespace: &'s str) -> impl Iterator<Item = Bound<'s>> {
        let cluster = self.cluster_bindings.iter().map(|b| (b, ""));
        let local = self.bindings.get(namespace).into_iter().flatten().map(move |b| (b, namespace));
        cluster.chain(local).filter_map(move |(binding, namespace)| {
            let subject = binding.subjects.iter().find(|s| s.is(user, namespace))?;
            Some(Bound { binding, subject, namespace, rules: self.role(&binding.role, namespace) })
        })
    }

    /// The rules of a role, as a binding in a namespace names it.
    pub fn role(&self, role: &RoleRef, namespace: &str) -> Option<&Arc<[Rule]>> {
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&role.name),
            _ => self.roles.get(namespace)?.get(&role.name),
        }
    }
}

/// A binding that is for somebody.
struct Bound<'s> {
    binding: &'s Binding,
    subject: &'s Subject,
    namespace: &'s str,
    rules: Option<&'s Arc<[Rule]>>,
}

impl Bound<'_> {
    fn reason(&self) -> String {
        let (kind, name) = match self.namespace {
            "" => ("ClusterRoleBinding", self.binding.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.binding.name)),
        };
        let RoleRef { kind: role_kind, name: role } = &self.binding.role;
        format!(
            "RBAC: allowed by {kind} {name:?} of {role_kind} {role:?} to {}",
            self.subject.told(self.namespace)
        )
    }

    fn missing(&self) -> String {
        let RoleRef { kind, name } = &self.binding.role;
        format!("{}.rbac.authorization.k8s.io {name:?} not found", kind.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::authz::{RuleRequest, refusal};

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            username: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    fn binding(name: &str, role: (&str, &str), kind: &str, subject: &str) -> Binding {
        let subject = Subject { kind: kind.into(), name: subject.into(), namespace: String::new() };
        Binding {
            name: name.into(),
            role: RoleRef { kind: role.0.into(), name: role.1.into() },
            subjects: vec![subject],
        }
    }

    fn snapshot() -> Snapshot {
        let read = Rule {
            verbs: vec!["get".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        let rules: Arc<[Rule]> = [read].into();
        let mut snapshot = Snapshot::default();
        snapshot.cluster_roles.insert("reader".into(), rules.clone());
        snapshot.roles.entry("shop".into()).or_default().insert("local".into(), rules);
        snapshot.cluster_bindings.push(binding("all", ("ClusterRole", "reader"), "Group", "ops"));
        snapshot.bindings.insert(
            "shop".into(),
            vec![
                binding("dev", ("Role", "local"), "User", "alice"),
                binding("bot", ("ClusterRole", "reader"), "ServiceAccount", "ci"),
                binding("lost", ("Role", "gone"), "User", "carol"),
            ],
        );
        snapshot
    }

    fn asked(user: &UserInfo, namespace: &str) -> Verdict {
        let request =
            RuleRequest::Resource { verb: "get", group: "", resource: "pods", subresource: "", name: "p" };
        snapshot().authorize(&Attributes { user, request, namespace })
    }

    #[test]
    fn bindings_allow_at_their_place_and_nowhere_else() {
        assert!(asked(&user("bob", &["ops"]), "any").is_allowed);
        assert!(asked(&user("alice", &[]), "shop").is_allowed);
        assert!(!asked(&user("alice", &[]), "other").is_allowed);
        assert!(!asked(&user("alice", &[]), "").is_allowed);
        assert!(asked(&user("system:serviceaccount:shop:ci", &[]), "shop").is_allowed);
        assert!(!asked(&user("system:serviceaccount:other:ci", &[]), "shop").is_allowed);
        assert!(asked(&user("root", &["system:masters"]), "").is_allowed);
    }

    #[test]
    fn reasons_name_the_binding_the_role_and_the_subject() {
        assert_eq!(
            asked(&user("bob", &["ops"]), "any").reason,
            r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "ops""#
        );
        assert_eq!(
            asked(&user("system:serviceaccount:shop:ci", &[]), "shop").reason,
            r#"RBAC: allowed by RoleBinding "bot/shop" of ClusterRole "reader" to ServiceAccount "ci/shop""#
        );
        assert_eq!(
            asked(&user("carol", &[]), "shop").reason,
            r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#
        );
    }

    #[test]
    fn a_refusal_says_who_cannot_do_what_where() {
        let eve = user("eve", &[]);
        let request = RuleRequest::Resource {
            verb: "get",
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            name: "d",
        };
        let attributes = Attributes { user: &eve, request, namespace: "shop" };
        assert_eq!(
            refusal(&attributes, ""),
            r#"User "eve" cannot get resource "deployments/scale" in API group "apps" in the namespace "shop""#
        );
    }
}
