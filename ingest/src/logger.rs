//! Audit events of a program of your own: two calls for each request, what a policy says of it, one line a stage.
//!
//! ```
//! use ingest::{
//!     logger::{AuditLogger, FileAuditBackend, Object},
//!     policy::Loaded,
//! };
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("audit.log");
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let policy = Loaded::from_bytes(b"{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Request}]}")?;
//! let backend = FileAuditBackend::new(&path).await?;
//! let logger = AuditLogger::new(backend, policy.policy)?;
//!
//! let secret = Object {
//!     resource: "secrets".into(),
//!     namespace: "shop".into(),
//!     name: "db".into(),
//!     api_version: "v1".into(),
//!     body: Some(serde_json::json!({ "kind": "Secret", "apiVersion": "v1", "data": { "password": "aHVudGVyMg==" } })),
//!     ..Object::default()
//! };
//! let uri = "/api/v1/namespaces/shop/secrets";
//! let id = logger.log_request(uri, "create", "alice", &secret).await?;
//! // The request is on the disk: now it may be done.
//! logger.log_response(&id, 201, None).await?;
//! // Its end is on the disk: now it may be answered.
//!
//! let log = std::fs::read_to_string(&path)?;
//! let stages: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
//! assert_eq!(stages[0]["stage"], "RequestReceived");
//! assert_eq!(stages[1]["stage"], "ResponseComplete");
//! assert_eq!(stages[1]["auditID"], id.as_str());
//! assert_eq!(stages[1]["responseStatus"]["code"], 201);
//! assert!(!log.contains("aHVudGVyMg"), "secrets are removed before anything is written");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    event::{EventView, Level, ParseError, Stage},
    identity::{DeploymentKey, KeyError},
    output::{AuditFile, Bounds, DeliveryError, FileOptions, OpenFileError, Output},
    policy::{Attributes, Decision, Policy, Target},
    redact::{Redactor, RuleSet},
    time::{Clock, Timestamp},
};

/// Requests that are open at once. One that never ends keeps its place.
pub const MAX_OPEN: usize = 100_000;

/// A file that grows by a line for each stage, durable before the call returns. See [`AuditFile`] for one that is
/// rotated.
#[derive(Clone, Debug)]
pub struct FileAuditBackend(AuditFile);

impl FileAuditBackend {
    /// Opens the file, or makes it, with its folder.
    ///
    /// # Errors
    /// When it cannot be written, or another process writes it.
    pub async fn new(path: impl AsRef<Path>) -> Result<Self, OpenFileError> {
        let path = path.as_ref().to_owned();
        let options = FileOptions { path: path.clone(), max_bytes: 0, max_age_days: 0, max_backups: 0 };
        let open = move || AuditFile::open(options, Clock::system());
        let opened = tokio::task::spawn_blocking(open).await;
        let file = opened.map_err(|e| OpenFileError { path, source: std::io::Error::other(e) })??;
        Ok(Self(file))
    }
}

#[async_trait]
impl Output for FileAuditBackend {
    fn bounds(&self) -> Bounds {
        self.0.bounds()
    }

    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError> {
        self.0.deliver(events).await
    }
}

/// Names one request in all its stages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct AuditId(String);

impl AuditId {
    /// Its text, a UUID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub username: String,
    /// What tells this user from another one of that name at another time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups that the user is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl From<&str> for User {
    fn from(username: &str) -> Self {
        Self { username: username.to_owned(), ..Self::default() }
    }
}

/// What is asked for. Without a `resource` it is the path of the URI.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Resource, in the plural: `pods`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace; empty for what has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name; empty for lists.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group; empty for the core group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Version of the group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Subresource: `status`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// The body of the request, recorded at level Request and above.
    #[serde(skip)]
    pub body: Option<Value>,
}

/// Why a stage was not logged. A request may not be done then, nor its answer leave.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The backend did not take it. It may have it all the same.
    #[error("the audit event was not taken")]
    Backend(#[from] DeliveryError),
    /// No request of this id is open: it was never logged, or its response was already.
    #[error("no request {0} is open")]
    NotOpen(AuditId),
    /// [`MAX_OPEN`] requests have no response yet.
    #[error("{MAX_OPEN} requests have no response yet")]
    TooManyOpen,
    /// What was to be logged is no event, and could not be redacted.
    #[error("the event cannot be read")]
    Event(#[from] ParseError),
}

/// An event; the members in the order of kube-apiserver's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: &'static str,
    api_version: &'static str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: AuditId,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Clone, Debug, Serialize)]
struct Status {
    metadata: serde_json::Map<String, Value>,
    code: u16,
}

/// Logs the stages of requests as a policy says, redacted by the built-in rules.
///
/// Where equal secrets have equal marks, they do for the life of one logger: its key is made with it.
pub struct AuditLogger {
    backend: Box<dyn Output>,
    policy: Policy,
    redactor: Redactor,
    clock: Clock,
    open: Mutex<HashMap<AuditId, (Event, Decision)>>,
}

impl AuditLogger {
    /// A logger to a file or to another [`Output`].
    ///
    /// # Errors
    /// When the system gives no random bytes for its key.
    pub fn new(backend: impl Output + 'static, policy: Policy) -> Result<Self, KeyError> {
        Ok(Self {
            backend: Box::new(backend),
            policy,
            redactor: Redactor::new(&RuleSet::builtin(), &DeploymentKey::generate()?),
            clock: Clock::system(),
            open: Mutex::default(),
        })
    }

    /// Logs that a request has arrived, unless the policy leaves that out; when this returns, it is as safe as the
    /// backend makes it. `verb` is Kubernetes' verb, or the method in lower case where no resource is asked for.
    ///
    /// # Errors
    /// See [`LogError`]; the request is not open then.
    pub async fn log_request(
        &self,
        uri: &str,
        verb: &str,
        user: impl Into<User>,
        object: &Object,
    ) -> Result<AuditId, LogError> {
        let (user, now) = (user.into(), self.clock.now());
        let decision = self.decide(uri, verb, &user, object);
        let id = AuditId(Uuid::new_v4().to_string());
        let is_resource = !object.resource.is_empty();
        let body = object.body.as_ref().filter(|_| decision.level >= Level::Request);
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: decision.level,
            audit_id: id.clone(),
            stage: Stage::RequestReceived,
            request_uri: uri.to_owned(),
            verb: verb.to_owned(),
            user,
            object_ref: is_resource.then(|| Object { body: None, ..object.clone() }),
            response_status: None,
            request_object: body.map(|body| kept(body, &decision)),
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
        };
        if self.open().len() >= MAX_OPEN {
            return Err(LogError::TooManyOpen);
        }
        self.log(&Event { request_object: None, ..event.clone() }, &decision).await?;
        self.open().insert(id.clone(), (event, decision));
        Ok(id)
    }

    /// Logs how a request ended, unless the policy leaves that out. `object` is the body of the answer, recorded at
    /// level RequestResponse.
    ///
    /// # Errors
    /// See [`LogError`]. After an error of the backend the request is still open: this may be called again.
    pub async fn log_response(
        &self,
        id: &AuditId,
        code: u16,
        object: Option<&Value>,
    ) -> Result<(), LogError> {
        let opened = self.open().get(id).cloned();
        let (mut event, decision) = opened.ok_or_else(|| LogError::NotOpen(id.clone()))?;
        event.stage = Stage::ResponseComplete;
        event.stage_timestamp = self.clock.now();
        event.response_status = Some(Status { metadata: serde_json::Map::new(), code });
        let body = object.filter(|_| decision.level >= Level::RequestResponse);
        event.response_object = body.map(|body| kept(body, &decision));
        self.log(&event, &decision).await?;
        self.open().remove(id);
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<AuditId, (Event, Decision)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, uri: &str, verb: &str, user: &User, object: &Object) -> Decision {
        let target = if object.resource.is_empty() {
            Target::Path(uri.split('?').next().unwrap_or(uri))
        } else {
            Target::Resource {
                group: &object.api_group,
                resource: &object.resource,
                subresource: &object.subresource,
                namespace: &object.namespace,
                name: &object.name,
            }
        };
        let groups = user.groups.iter().map(String::as_str).collect();
        self.policy.decide(&Attributes { user: &user.username, groups, verb, target })
    }

    async fn log(&self, event: &Event, decision: &Decision) -> Result<(), LogError> {
        if decision.level == Level::None || decision.omit_stages.contains(event.stage) {
            return Ok(());
        }
        let json = serde_json::to_vec(event).unwrap_or_default();
        let redacted = self.redactor.redact(&EventView::parse(&json)?).bytes.into_owned();
        Ok(self.backend.deliver(&[redacted.into()]).await?)
    }
}

impl fmt::Debug for AuditLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogger").field("open", &self.open().len()).finish_non_exhaustive()
    }
}

/// A body as the policy wants it.
fn kept(body: &Value, decision: &Decision) -> Value {
    let mut body = body.clone();
    if decision.omit_managed_fields
        && let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("managedFields");
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Loaded;

    const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: [quiet]
- level: RequestResponse
  resources: [{resources: [pods]}]
- level: Metadata
  omitStages: [RequestReceived]
";

    async fn logger() -> (tempfile::TempDir, AuditLogger) {
        let dir = tempfile::tempdir().unwrap();
        let backend = FileAuditBackend::new(dir.path().join("audit.log")).await.unwrap();
        let policy = Loaded::from_bytes(POLICY.as_bytes()).unwrap().policy;
        (dir, AuditLogger::new(backend, policy).unwrap())
    }

    fn lines(dir: &tempfile::TempDir) -> Vec<Value> {
        let text = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_policy_says_what_is_logged() {
        let (dir, logger) = logger().await;
        let body = json!({ "kind": "Pod", "metadata": { "name": "web", "managedFields": [1] } });
        let pod = Object { resource: "pods".into(), body: Some(body.clone()), ..Object::default() };
        for user in ["quiet", "anna"] {
            let id = logger.log_request("/api/v1/pods", "create", user, &pod).await.unwrap();
            logger.log_response(&id, 201, Some(&body)).await.unwrap();
        }
        let id = logger.log_request("/healthz?x=y", "get", "anna", &Object::default()).await.unwrap();
        logger.log_response(&id, 200, Some(&body)).await.unwrap();
        let lines = lines(&dir);
        let told: Vec<_> =
            lines.iter().map(|l| (l["stage"].as_str().unwrap(), l["level"].as_str().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("RequestReceived", "RequestResponse"),
                ("ResponseComplete", "RequestResponse"),
                ("ResponseComplete", "Metadata")
            ]
        );
        assert_eq!(lines[0]["objectRef"], json!({ "resource": "pods" }));
        assert_eq!(lines[0].get("requestObject"), None);
        let kept = json!({ "kind": "Pod", "metadata": { "name": "web" } });
        assert_eq!((&lines[1]["requestObject"], &lines[1]["responseObject"]), (&kept, &kept));
        assert_eq!((lines[2].get("objectRef"), lines[2].get("responseObject")), (None, None));
    }

    #[tokio::test]
    async fn a_request_ends_once() {
        let (_dir, logger) = logger().await;
        let id = logger.log_request("/x", "get", "anna", &Object::default()).await.unwrap();
        logger.log_response(&id, 200, None).await.unwrap();
        assert!(
            matches!(logger.log_response(&id, 200, None).await, Err(LogError::NotOpen(again)) if again == id)
        );
    }
}
