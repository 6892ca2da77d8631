//! What a request counts as in the metrics: names of the tables only, so that nobody makes series by asking.

use std::time::Duration;

use super::{
    request::RequestInfo,
    resources::{Resource, resources},
};
use crate::metrics;

/// Every verb that is measured under its own name: those of resources, then those of other paths.
const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "proxy",
    "post",
    "put",
    "head",
];

/// What is none of these.
const OTHER: &str = "other";

/// The labels of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// As in the audit events, `other` for one that nobody knows.
    pub(crate) verb: &'static str,
    /// Empty for the core group, and for what is about no resource.
    pub(crate) group: &'static str,
    /// Empty for what is about no resource, `other` for one that is not served.
    pub(crate) resource: &'static str,
    /// Empty for the resource itself.
    pub(crate) subresource: &'static str,
}

impl Measured {
    /// Of a request.
    pub(super) fn of(info: &RequestInfo) -> Self {
        let verb = VERBS.into_iter().find(|verb| *verb == info.verb).unwrap_or(OTHER);
        let mut measured = Self { verb, group: "", resource: "", subresource: "" };
        if !info.is_resource {
            return measured;
        }
        match resources().get(&info.group, &info.version, &info.resource) {
            Some(resource) => {
                (measured.group, measured.resource) = (resource.group, resource.plural);
                measured.subresource = subresource(resource, &info.subresource);
            }
            None => measured.resource = OTHER,
        }
        measured
    }

    /// Its answer has this status, and its head was ready after this time.
    pub(super) fn answered(self, status: u16, after: Duration) {
        metrics::gateway_request(self, status, after);
    }
}

fn subresource(resource: &'static Resource, name: &str) -> &'static str {
    match name {
        "" => "",
        name => resource.subresource(name).map_or(OTHER, |subresource| subresource.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path: &str) -> [&'static str; 4] {
        let Measured { verb, group, resource, subresource } =
            Measured::of(&RequestInfo::new(method, path, None).unwrap());
        [verb, group, resource, subresource]
    }

    #[test]
    fn a_request_counts_under_the_names_of_the_tables_and_a_made_up_one_under_one_name() {
        assert_eq!(of("GET", "/api/v1/pods"), ["list", "", "pods", ""]);
        assert_eq!(
            of("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale"),
            ["patch", "apps", "deployments", "scale"]
        );
        assert_eq!(of("GET", "/api/v1/namespaces/a/pods/p/made-up"), ["get", "", "pods", "other"]);
        assert_eq!(of("GET", "/apis/made.up/v1/things"), ["list", "", "other", ""]);
        assert_eq!(of("MADEUP", "/api/v1/pods"), ["other", "", "pods", ""]);
        assert_eq!(of("GET", "/version"), ["get", "", "", ""]);
        assert_eq!(of("MADEUP", "/made/up"), ["other", "", "", ""]);
    }
}
