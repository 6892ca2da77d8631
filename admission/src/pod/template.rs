//! Where the objects that make Pods keep the template.

use serde_json::Value;

use crate::request::GroupVersionResource;

/// Whether objects of a resource are Pods, or hold the template of some.
pub fn takes_template(resource: &GroupVersionResource) -> bool {
    place(&resource.group, &resource.resource).is_some()
}

/// The Pod or Pod template in an object of a resource; none where the object holds none.
pub fn pod_template<'a>(resource: &GroupVersionResource, object: &'a Value) -> Option<&'a Value> {
    object.pointer(place(&resource.group, &resource.resource)?).filter(|template| !template.is_null())
}

pub(super) fn place(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "pods") => "",
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers") => "/spec/template",
        ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets") => "/spec/template",
        ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}
