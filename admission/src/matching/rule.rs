//! One rule: operations on resources.

use serde::Deserialize;

use crate::request::{AdmissionRequest, GroupVersionResource};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
    resource_names: Vec<String>,
}

impl Rule {
    /// Whether the request is meant, were it for this resource.
    pub(super) fn is_for(&self, request: &AdmissionRequest, resource: &GroupVersionResource) -> bool {
        has(&self.operations, request.operation.as_str())
            && has(&self.api_groups, &resource.group)
            && has(&self.api_versions, &resource.version)
            && self
                .resources
                .iter()
                .any(|wanted| is_resource(wanted, &resource.resource, &request.subresource))
            && self.is_in_scope(request)
            && (self.resource_names.is_empty() || self.resource_names.contains(&request.name))
    }

    /// A Namespace carries its own name as its namespace, and lies in none.
    fn is_in_scope(&self, request: &AdmissionRequest) -> bool {
        let is_namespaced = !request.namespace.is_empty() && !request.resource.is("", "namespaces");
        match self.scope.as_deref() {
            Some("Namespaced") => is_namespaced,
            Some("Cluster") => !is_namespaced,
            _ => true,
        }
    }
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|item| item == "*" || item == word)
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*/*`; `*` means no subresource.
fn is_resource(wanted: &str, resource: &str, subresource: &str) -> bool {
    let (plural, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
    (plural == "*" || plural == resource) && (sub == "*" || sub == subresource)
}
