//! What an object must keep to beyond its type, told as kube-apiserver 1.36 tells it: each fault with the path of its
//! field. Metadata of every kind; what the commonest kinds need most. `docs/compatibility.md` says what is not looked at.

mod fault;
mod metadata;
mod names;
mod pod;
mod policy;
mod rbac;
mod rules;
mod service;
mod storage;
mod webhook;
mod workload;

use serde_json::{Value, json};

use super::{
    object::Object,
    resources::Resource,
    status::{Qualified, Status},
};
use fault::Faults;

/// A place in an object.
#[derive(Clone, Copy)]
struct At<'v> {
    value: &'v Value,
}

impl<'v> At<'v> {
    fn of(value: &'v Value) -> Self {
        Self { value }
    }

    fn get(self, key: &str) -> Self {
        Self { value: self.value.get(key).unwrap_or(&Value::Null) }
    }

    fn text(self, key: &str) -> &'v str {
        self.get(key).value.as_str().unwrap_or_default()
    }

    fn int(self, key: &str) -> Option<i64> {
        self.get(key).value.as_i64()
    }

    fn list(self, key: &str) -> &'v [Value] {
        self.get(key).value.as_array().map_or(&[], Vec::as_slice)
    }

    fn members(self, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
        self.get(key).value.as_object().into_iter().flatten()
    }

    fn is_there(self) -> bool {
        !self.value.is_null()
    }
}

/// Checks a new object.
///
/// # Errors
/// 422 with every fault.
pub fn created(resource: &Resource, object: &Object) -> Result<(), Status> {
    let mut faults = Faults::default();
    metadata::check(resource, object, &mut faults);
    body(resource, object, &mut faults);
    answer(resource, object, faults)
}

/// Checks what an object is to become; `subresource` says which part was to be changed.
///
/// # Errors
/// 422 with every fault.
pub fn updated(resource: &Resource, subresource: &str, new: &Object, old: &Object) -> Result<(), Status> {
    let mut faults = Faults::default();
    metadata::check(resource, new, &mut faults);
    metadata::check_unchanged(new, old, &mut faults);
    if subresource.is_empty() {
        body(resource, new, &mut faults);
        unchanged(resource, new, old, &mut faults);
    }
    answer(resource, new, faults)
}

fn answer(resource: &Resource, object: &Object, faults: Faults) -> Result<(), Status> {
    match faults.into_causes() {
        causes if causes.is_empty() => Ok(()),
        causes => {
            let kind = Qualified { group: resource.group, name: resource.kind };
            Err(Status::invalid(kind, object.name(), causes))
        }
    }
}

/// What a kind needs.
fn body(resource: &Resource, object: &Object, faults: &mut Faults) {
    let value = Value::Object(object.members().clone());
    let object = At::of(&value);
    match (resource.group, resource.plural) {
        ("", "configmaps") => storage::config_map(object, faults),
        ("", "secrets") => storage::secret(object, faults),
        ("", "services") => service::check(object.get("spec"), faults),
        ("", "pods") => pod::check(object.get("spec"), "spec", faults),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => {
            workload::check(resource.plural, object.get("spec"), faults);
        }
        ("batch", "jobs") => workload::job(object.get("spec"), "spec", faults),
        ("batch", "cronjobs") => workload::cron_job(object.get("spec"), faults),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => policy::mutating(object, faults),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            policy::mutating_binding(object, faults);
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => policy::validating(object, faults),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => {
            webhook::configuration(object, true, faults);
        }
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => {
            webhook::configuration(object, false, faults);
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            policy::validating_binding(object, faults);
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            rbac::role(object, resource.namespaced, faults);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            rbac::binding(object, resource.namespaced, faults);
        }
        _ => {}
    }
}

/// What of a kind stays as it was made.
fn unchanged(resource: &Resource, new: &Object, old: &Object, faults: &mut Faults) {
    match (resource.group, resource.plural) {
        ("apps", "deployments" | "replicasets" | "daemonsets") => faults.same(new, old, "/spec/selector"),
        ("apps", "statefulsets") => workload::unchanged_set(new, old, faults),
        ("", "pods") => pod::unchanged(new, old, faults),
        ("batch", "jobs") => {
            for pointer in ["/spec/completionMode", "/spec/selector"] {
                faults.same(new, old, pointer);
            }
        }
        ("", "secrets") => {
            faults.same(new, old, "/type");
            storage::still(new, old, faults);
        }
        ("", "configmaps") => storage::still(new, old, faults),
        ("", "services") if new.text_at("/spec/type") != "ExternalName" => {
            service::unchanged(new, old, faults)
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if new.at("/roleRef") != old.at("/roleRef") =>
        {
            let shown = json!({
                "APIGroup": new.text_at("/roleRef/apiGroup"),
                "Kind": new.text_at("/roleRef/kind"),
                "Name": new.text_at("/roleRef/name"),
            });
            faults.invalid("roleRef", &shown, "cannot change roleRef");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gateway::{
        body::{Expected, FieldValidation},
        resources::resources,
    };

    /// What kube-apiserver 1.36 says to these objects.
    const RECORDED: &str = include_str!("validation/recorded.jsonl");

    /// The faults of an object as a client would send it.
    fn faults(resource: &'static Resource, sent: &Value) -> BTreeSet<(String, String, String)> {
        let api_version = resource.api_version();
        let expected =
            Expected { ty: resource.ty().unwrap(), api_version: &api_version, kind: resource.kind };
        let headers = axum::http::HeaderMap::new();
        let received = expected.read(sent.to_string().as_bytes(), &headers, FieldValidation::Ignore).unwrap();
        let Err(status) = created(resource, &received.object) else { return BTreeSet::new() };
        assert_eq!(status.code, 422);
        let causes = status.details.unwrap().causes;
        causes.into_iter().map(|cause| (cause.reason, cause.field, cause.message)).collect()
    }

    #[test]
    fn faults_are_those_of_upstream() {
        let mut differing = Vec::new();
        for line in RECORDED.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let (group, plural) = case["resource"].as_str().unwrap().split_once('/').unwrap();
            let resource = resources().all().find(|r| r.group == group && r.plural == plural).unwrap();
            let causes = case["causes"].as_array().unwrap().iter();
            let text = |cause: &Value, n: usize| cause[n].as_str().unwrap_or_default().to_owned();
            let theirs: BTreeSet<_> = causes.map(|c| (text(c, 0), text(c, 1), text(c, 2))).collect();
            let ours = faults(resource, &case["object"]);
            for (whose, one, other) in [("theirs", &theirs, &ours), ("ours", &ours, &theirs)] {
                differing
                    .extend(one.difference(other).map(|fault| format!("{plural}: only {whose}: {fault:?}")));
            }
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
        assert!(RECORDED.lines().count() > 40);
    }
}
