//! What expressions see of a request.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    cel::Subject,
    cluster::{ClusterState, StateError},
    matching::Form,
    request::{AdmissionRequest, GroupVersionKind},
};

/// What expressions see of a request.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) object: Option<Arc<Value>>,
    old_object: Option<Arc<Value>>,
    request: Value,
    namespace: Option<Arc<Value>>,
}

impl Seen {
    /// The same, once the object has become another one.
    pub(super) fn with(&self, object: Arc<Value>) -> Self {
        Self { object: Some(object), ..self.clone() }
    }

    pub(super) fn subject(&self) -> Subject {
        let Self { object, old_object, request, namespace } = self.clone();
        Subject::new(object, old_object, request, namespace)
    }
}

/// The request in the form that a policy is for.
///
/// # Errors
/// When an object cannot be converted to that form.
pub(crate) fn subject(
    request: &AdmissionRequest,
    form: &Form,
    namespace: Option<&Arc<Value>>,
    state: &dyn ClusterState,
) -> Result<Subject, StateError> {
    Ok(seen(request, form, namespace, state)?.subject())
}

/// The same, before it is made a subject.
///
/// # Errors
/// When an object cannot be converted to the form.
pub(super) fn seen(
    request: &AdmissionRequest,
    form: &Form,
    namespace: Option<&Arc<Value>>,
    state: &dyn ClusterState,
) -> Result<Seen, StateError> {
    let object = converted(request.object.as_ref(), request, form, state)?;
    let old_object = converted(request.old_object.as_ref(), request, form, state)?;
    let namespace = namespace.map(|namespace| Arc::new(shown(namespace)));
    Ok(Seen { object, old_object, request: request_value(request, form), namespace })
}

/// An object of a request in the form that somebody wants to see.
///
/// # Errors
/// When it cannot be converted.
pub(crate) fn converted(
    object: Option<&Arc<Value>>,
    request: &AdmissionRequest,
    form: &Form,
    state: &dyn ClusterState,
) -> Result<Option<Arc<Value>>, StateError> {
    match object {
        Some(object) if form.kind != request.kind => Ok(Some(Arc::new(state.convert(object, &form.kind)?))),
        object => Ok(object.cloned()),
    }
}

/// `request`: what is empty is absent.
fn request_value(request: &AdmissionRequest, form: &Form) -> Value {
    let kind =
        |kind: &GroupVersionKind| json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let resource = |resource: &crate::request::GroupVersionResource| json!({ "group": resource.group, "version": resource.version, "resource": resource.resource });
    let mut members = Map::new();
    members.insert("kind".into(), kind(&form.kind));
    members.insert("resource".into(), resource(&form.resource));
    members.insert("requestKind".into(), kind(&request.kind));
    members.insert("requestResource".into(), resource(&request.resource));
    for (name, text) in [
        ("subResource", &request.subresource),
        ("requestSubResource", &request.subresource),
        ("name", &request.name),
        ("namespace", &request.namespace),
    ] {
        if !text.is_empty() {
            members.insert(name.into(), text.as_str().into());
        }
    }
    members.insert("operation".into(), request.operation.as_str().into());
    members.insert("userInfo".into(), user(request));
    members.insert("dryRun".into(), request.dry_run.into());
    if let Some(options) = &request.options {
        members.insert("options".into(), Value::clone(options));
    }
    Value::Object(members)
}

/// Who asks, as requests name them: what is empty is absent.
pub(crate) fn user(request: &AdmissionRequest) -> Value {
    let user = &request.user;
    let mut members = Map::new();
    for (name, text) in [("username", &user.username), ("uid", &user.uid)] {
        if !text.is_empty() {
            members.insert(name.into(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        members.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        members.insert("extra".into(), json!(user.extra));
    }
    Value::Object(members)
}

/// What of a namespace expressions see.
fn shown(namespace: &Value) -> Value {
    const METADATA: [&str; 8] = [
        "name",
        "generateName",
        "labels",
        "annotations",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "resourceVersion",
    ];
    let part = |part: &str, keys: &[&str]| {
        let members =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), namespace[part].get(key)?.clone())));
        Value::Object(members.collect())
    };
    json!({
        "metadata": part("metadata", &METADATA),
        "spec": part("spec", &["finalizers"]),
        "status": part("status", &["phase"]),
    })
}
