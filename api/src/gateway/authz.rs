//! Who may do what: role based access control over the stored roles and bindings.

mod cover;
mod follow;
mod rules;
mod snapshot;

pub use self::{
    cover::{missing, quoted},
    follow::follow,
    rules::{Rule, RuleRequest, listed},
    snapshot::{Binding, RoleRef, Snapshot, Subject},
};
use super::{
    request::RequestInfo,
    user::{MASTERS, UserInfo},
};

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// What.
    pub request: RuleRequest<'a>,
    /// Where; empty at the cluster's scope.
    pub namespace: &'a str,
}

impl<'a> Attributes<'a> {
    /// What a request needs.
    pub fn of(user: &'a UserInfo, info: &'a RequestInfo) -> Self {
        let request = if info.is_resource {
            RuleRequest::Resource {
                verb: &info.verb,
                group: &info.group,
                resource: &info.resource,
                subresource: &info.subresource,
                name: &info.name,
            }
        } else {
            RuleRequest::Path { verb: &info.verb, path: &info.path }
        };
        Self { user, request, namespace: &info.namespace }
    }
}

/// What the authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be.
    pub is_allowed: bool,
    /// Which binding allows it, or what stood in the way of an answer; often empty.
    pub reason: String,
}

impl Snapshot {
    /// Whether the stored roles, or the group of those who may do everything, allow it.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Verdict {
        if attributes.user.is_in(MASTERS) {
            return Verdict { is_allowed: true, reason: String::new() };
        }
        self.rbac(attributes)
    }
}

/// Why something may not be, in upstream's words.
pub fn refusal(attributes: &Attributes<'_>, reason: &str) -> String {
    let user = &attributes.user.username;
    let mut why = match &attributes.request {
        RuleRequest::Path { verb, path } => format!("User {user:?} cannot {verb} path {path:?}"),
        RuleRequest::Resource { verb, group, resource, subresource, .. } => {
            let slash = if subresource.is_empty() { "" } else { "/" };
            let place = match attributes.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {user:?} cannot {verb} resource \"{resource}{slash}{subresource}\" in API group {group:?} {place}"
            )
        }
    };
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    why
}
