//! What is asked of the API: an operation on an object, by a user.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;
use tokio::time::Instant;

use crate::webhook::Memory;

/// The operations that admission sees. Reads are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object, whether by PUT or PATCH.
    Update,
    /// The removal of an object.
    Delete,
    /// exec, attach, port-forward or proxy.
    Connect,
}

impl Operation {
    /// The word of `AdmissionReview`: `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type of object in a version of its group; the core group is "".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    /// Such as `apps`.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Deployment`.
    pub kind: String,
}

/// A resource in a version of its group; the core group is "".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupVersionResource {
    /// Such as `apps`.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Lower case and plural, such as `deployments`.
    pub resource: String,
}

impl GroupVersionResource {
    /// A resource of a group.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), resource: resource.to_owned() }
    }

    /// Whether this is a resource of a group, in whatever version.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource == resource && self.group == group
    }
}

/// `deployments.apps`, or `pods` in the core group: the resource as errors name it.
impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, &self.resource, &self.group)
    }
}

/// `Deployment.apps`, or `Pod` in the core group: the kind as errors name it.
impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, &self.kind, &self.group)
    }
}

fn qualified(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    match group {
        "" => f.write_str(name),
        group => write!(f, "{name}.{group}"),
    }
}

/// Who asks: the impersonated user where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name.
    pub username: String,
    /// Tells users of one name apart.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// One request on its way into the cluster.
///
/// Objects are held as they came, unknown fields and all, and shared: a clone is cheap.
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// Names the request among all others; a charge against a quota carries it.
    pub uid: String,
    /// What is asked.
    pub operation: Operation,
    /// The type of `object`.
    pub kind: GroupVersionKind,
    /// The resource in the URL.
    pub resource: GroupVersionResource,
    /// The subresource in the URL, or "".
    pub subresource: String,
    /// The namespace in the URL, or "". For a Namespace it is the Namespace's own name.
    pub namespace: String,
    /// The object's name, or "" where the server is to generate it.
    pub name: String,
    /// Who asks.
    pub user: UserInfo,
    /// The object as it is to be; none for a deletion.
    pub object: Option<Arc<Value>>,
    /// The object as it is; none for a creation.
    pub old_object: Option<Arc<Value>>,
    /// The options of the operation, such as `CreateOptions`.
    pub options: Option<Arc<Value>>,
    /// Whether the outcome is thrown away.
    pub dry_run: bool,
    /// When the client is to have its answer.
    pub deadline: Option<Instant>,
    /// What the chain remembers of it between its rounds; new for each request.
    pub memory: Memory,
}

impl AdmissionRequest {
    /// A request to create an object, whose kind, name and namespace it takes from the object.
    pub fn create(resource: GroupVersionResource, object: Value) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("/metadata/name");
        let kind = text("/kind");
        let namespace = if kind == "Namespace" { name.clone() } else { text("/metadata/namespace") };
        Self {
            uid: String::new(),
            operation: Operation::Create,
            kind: GroupVersionKind { group: resource.group.clone(), version: resource.version.clone(), kind },
            resource,
            subresource: String::new(),
            namespace,
            name,
            user: UserInfo::default(),
            object: Some(Arc::new(object)),
            old_object: None,
            options: None,
            dry_run: false,
            deadline: None,
            memory: Memory::default(),
        }
    }

    /// A request to change an object: [`AdmissionRequest::create`] with the object as it was.
    pub fn update(resource: GroupVersionResource, old: Value, new: Value) -> Self {
        let old_object = Some(Arc::new(old));
        Self { operation: Operation::Update, old_object, ..Self::create(resource, new) }
    }

    /// A request to remove an object.
    pub fn delete(resource: GroupVersionResource, old: Value) -> Self {
        let mut request = Self::create(resource, old);
        request.operation = Operation::Delete;
        request.old_object = request.object.take();
        request
    }

    /// The object as it is to be.
    pub fn object(&self) -> Option<&Value> {
        self.object.as_deref()
    }

    /// The object as it is.
    pub fn old_object(&self) -> Option<&Value> {
        self.old_object.as_deref()
    }

    /// Whether the request is for a resource of a group itself, not for a subresource of it.
    pub fn is_for(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.resource.is(group, resource)
    }

    /// The name that an error speaks of: that of the request, else the object's, else the one to generate from.
    pub fn display_name(&self) -> &str {
        let text = |path| self.object().and_then(|object| object.pointer(path)).and_then(Value::as_str);
        let named = |name: &&str| !name.is_empty();
        Some(self.name.as_str())
            .filter(named)
            .or_else(|| text("/metadata/name").filter(named))
            .or_else(|| text("/metadata/generateName").filter(named))
            .unwrap_or("Unknown")
    }
}
