//! Nobody gives themselves or others more than they have: what is checked when roles and bindings are written.

use serde::Deserialize;

use super::{
    authz::{Attributes, RoleRef, Rule, RuleRequest, Snapshot, missing, quoted},
    object::Object,
    registry::Target,
    status::{Qualified, Status},
    user::{MASTERS, UserInfo},
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Somebody, and what they have.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'g> {
    /// Who writes.
    pub user: &'g UserInfo,
    /// The roles and bindings in force.
    pub roles: &'g Snapshot,
}

impl Guard<'_> {
    /// Lets a new state pass that gives nothing away, or that its writer may give (verbs `escalate` and `bind`).
    ///
    /// # Errors
    /// 403 that names what is missing, 404 where a binding names a role that is not there.
    pub fn check(&self, target: &Target<'_>, new: &Object, old: Option<&Object>) -> Result<(), Status> {
        if target.resource.group != GROUP
            || self.user.is_in(MASTERS)
            || old.is_some_and(|old| is_same(old, new))
        {
            return Ok(());
        }
        match target.resource.plural {
            "roles" | "clusterroles" => self.role(target, new, old),
            _ => self.binding(target, new),
        }
    }

    fn role(&self, target: &Target<'_>, new: &Object, old: Option<&Object>) -> Result<(), Status> {
        if self.may("escalate", target.resource.plural, target.namespace, target.name) {
            return Ok(());
        }
        // Rules that cannot be read here could be read by another server of the same cluster.
        let rules = new.at("/rules").map(Option::<Vec<Rule>>::deserialize).transpose();
        let rules =
            rules.map_err(|error| Status::bad_request(error.to_string()))?.flatten().unwrap_or_default();
        self.holds(target, new.name(), &rules)?;
        let gathers = |object: &Object| object.at("/aggregationRule").is_some_and(|rule| !rule.is_null());
        if gathers(new) || old.is_some_and(gathers) {
            let all = everything();
            self.holds(target, new.name(), &all).map_err(|_| {
                let why = "must have cluster-admin privileges to use an aggregationRule";
                Status::forbidden(target.what(), new.name(), why)
            })?;
        }
        Ok(())
    }

    fn binding(&self, target: &Target<'_>, new: &Object) -> Result<(), Status> {
        // One without a role binds nothing, and is refused as invalid elsewhere.
        let Some(role) = new.at("/roleRef").and_then(|role| RoleRef::deserialize(role).ok()) else {
            return Ok(());
        };
        let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may("bind", plural, target.namespace, &role.name) {
            return Ok(());
        }
        let rules = self.roles.role(&role, target.namespace);
        let rules =
            rules.ok_or_else(|| Status::not_found(Qualified { group: GROUP, name: plural }, &role.name))?;
        self.holds(target, new.name(), rules)
    }

    fn may(&self, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let request = RuleRequest::Resource { verb, group: GROUP, resource, subresource: "", name };
        self.roles.authorize(&Attributes { user: self.user, request, namespace }).is_allowed
    }

    fn holds(&self, target: &Target<'_>, name: &str, rules: &[Rule]) -> Result<(), Status> {
        let held: Vec<&Rule> = self.roles.rules_of(self.user, target.namespace).collect();
        let missing = missing(&held, rules)
            .map_err(|error| Status::forbidden(target.what(), name, &error.to_string()))?;
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.username,
            quoted(&self.user.groups),
            missing.join("\n")
        );
        Err(Status::forbidden(target.what(), name, &why))
    }
}

/// Whether nothing changes but what the garbage collector needs to change. Labels count: roles are gathered by them.
fn is_same(old: &Object, new: &Object) -> bool {
    let without = |object: &Object| {
        let mut object = object.clone();
        for key in ["finalizers", "ownerReferences", "resourceVersion", "managedFields"] {
            object.metadata_mut().shift_remove(key);
        }
        object
    };
    without(old) == without(new)
}

fn everything() -> [Rule; 2] {
    let star = || vec!["*".to_owned()];
    [
        Rule { verbs: star(), api_groups: star(), resources: star(), ..Rule::default() },
        Rule { verbs: star(), non_resource_urls: star(), ..Rule::default() },
    ]
}
