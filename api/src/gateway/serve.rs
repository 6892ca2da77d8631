//! The path of a request through the gateway.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, request::Parts},
    response::{IntoResponse, Response},
};
use ingest::{journal::AppendError, time::Timestamp};
use tokio::sync::watch;

use super::{
    answer::Answer,
    audit::{Auditor, Trail},
    authz::{Attributes, Snapshot, refusal},
    body::MAX_BODY_BYTES,
    discovery,
    negotiate::Accepted,
    registry::Registry,
    request::RequestInfo,
    resources::resources,
    status::{Qualified, Status},
    user::UserInfo,
    verbs::Call,
};

/// The longest that a request may take that is no stream: upstream's bound for what changes an object.
const REQUEST_TIME: Duration = Duration::from_secs(34);

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A Kubernetes API over a store.
#[derive(Clone, Debug)]
pub struct Gateway {
    registry: Registry,
    auditor: Auditor,
    roles: watch::Receiver<Arc<Snapshot>>,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Who has shown who they are.
    pub user: UserInfo,
    /// The address of the connection's other end.
    pub peer: Option<IpAddr>,
}

impl Gateway {
    /// A gateway over these parts.
    pub fn new(registry: Registry, auditor: Auditor, roles: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { registry, auditor, roles }
    }

    /// Whether a path is the gateway's.
    pub fn owns(path: &str) -> bool {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        matches!(first, "api" | "apis" | "version" | "openapi")
    }

    /// Answers a request of somebody who is not known: 401, and one record of it.
    pub(crate) async fn refuse(&self, parts: &Parts, peer: Option<IpAddr>, has_shown: bool) -> Status {
        let path = percent_decoded(parts.uri.path());
        let uri = parts.uri.path_and_query().map_or(parts.uri.path(), |uri| uri.as_str());
        let info = match RequestInfo::new(parts.method.as_str(), &path, parts.uri.query()) {
            Ok(info) => info,
            Err(unclear) => return Status::bad_request(unclear.to_string()),
        };
        let trail = self.auditor.begin(&info, uri, &UserInfo::default(), &parts.headers, peer);
        let why = if has_shown {
            "Authentication failed, attempted: bearer"
        } else {
            "Authentication failed, no credentials provided"
        };
        match trail.unauthenticated(why).await {
            Ok(()) => Status::unauthorized(),
            Err(error) => unrecorded(error),
        }
    }

    /// Serves one request of somebody who is known.
    pub async fn serve(&self, request: Request, origin: Origin) -> Response {
        let (parts, body) = request.into_parts();
        let path = percent_decoded(parts.uri.path());
        let info = match RequestInfo::new(parts.method.as_str(), &path, parts.uri.query()) {
            Ok(info) => info,
            Err(unclear) => return Status::bad_request(unclear.to_string()).into_response(),
        };
        let uri = parts.uri.path_and_query().map_or(parts.uri.path(), |uri| uri.as_str()).to_owned();
        let mut trail = self.auditor.begin(&info, &uri, &origin.user, &parts.headers, origin.peer);
        let audit_id = HeaderValue::from_str(trail.audit_id());
        let mut response = match trail.open(info.is_mutating(), MAX_BODY_BYTES).await {
            Ok(()) => self.opened(&info, &parts, body, &origin.user, trail).await,
            Err(error) => unrecorded(error).into_response(),
        };
        if let Ok(id) = audit_id {
            response.headers_mut().insert(AUDIT_ID.clone(), id);
        }
        response
    }

    /// What comes after the opening record, up to the closing one.
    async fn opened(
        &self,
        info: &RequestInfo,
        parts: &Parts,
        body: Body,
        user: &UserInfo,
        mut trail: Trail,
    ) -> Response {
        if let Err(status) = self.authorize(info, user, &mut trail) {
            return close(trail, Err(status)).await;
        }
        if !info.is_resource {
            return match discovery::answer(&info.path, &parts.headers) {
                Some(response) => close(trail, Ok(response)).await,
                None => close(trail, Err(Status::no_such_resource())).await,
            };
        }
        let call = match self.call(info, parts) {
            Ok(call) => call,
            Err(status) => return close(trail, Err(status)).await,
        };
        if info.verb == "watch" {
            return call.watch(trail).await;
        }
        let accepted = call.accepted;
        let answered = tokio::time::timeout(REQUEST_TIME, call.run(body, &mut trail)).await;
        let answered = answered
            .unwrap_or_else(|_| Err(Status::timeout("request did not complete within the allotted timeout")));
        let written = answered.and_then(|answer| write(&answer, accepted, self.registry.now(), &mut trail));
        close(trail, written).await
    }

    fn authorize(&self, info: &RequestInfo, user: &UserInfo, trail: &mut Trail) -> Result<(), Status> {
        let attributes = Attributes::of(user, info);
        let verdict = self.roles.borrow().authorize(&attributes);
        let decision = if verdict.is_allowed { "allow" } else { "forbid" };
        trail.annotate("authorization.k8s.io/decision", decision);
        trail.annotate("authorization.k8s.io/reason", verdict.reason.clone());
        if verdict.is_allowed {
            return Ok(());
        }
        Err(Status::forbidden(Qualified::of(info), &info.name, &refusal(&attributes, &verdict.reason)))
    }

    fn call<'c>(&'c self, info: &'c RequestInfo, parts: &'c Parts) -> Result<Call<'c>, Status> {
        let resource = resources()
            .get(&info.group, &info.version, &info.resource)
            .filter(|_| !info.has_rest)
            .ok_or_else(Status::no_such_resource)?;
        let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
        if !resource.namespaced && !info.namespace.is_empty() && !is_namespace {
            return Err(Status::no_such_resource());
        }
        let verbs = match info.subresource.as_str() {
            "" => &resource.verbs,
            name => &resource.subresource(name).ok_or_else(Status::no_such_resource)?.verbs,
        };
        if !verbs.contains(&&*info.verb) || (parts.method == Method::HEAD && info.verb != "get") {
            return Err(Status::method_not_allowed(Qualified::of(info), &info.verb));
        }
        if resource.stored != (resource.group, resource.version) {
            return Err(Status::no_such_resource());
        }
        let accepted = Accepted::of(&parts.headers, parts.uri.query())?;
        Ok(Call {
            registry: &self.registry,
            info,
            resource,
            query: parts.uri.query(),
            headers: &parts.headers,
            accepted,
        })
    }
}

fn write(answer: &Answer, accepted: Accepted, now: Timestamp, trail: &mut Trail) -> Result<Response, Status> {
    let json = answer.json()?;
    trail.response_object(&json);
    answer.write(accepted, json, now)
}

/// Records how a request ended, then lets its answer go.
async fn close(mut trail: Trail, answered: Result<Response, Status>) -> Response {
    let (recorded, response) = match answered {
        Ok(response) => (trail.complete(Ok(response.status().as_u16())).await, response),
        Err(status) => {
            trail.response_object(&status.to_json());
            (trail.complete(Err(&status)).await, status.into_response())
        }
    };
    recorded.map_or_else(|error| unrecorded(error).into_response(), |()| response)
}

/// The pipeline cannot take the record of a request.
pub(super) fn unrecorded(error: AppendError) -> Status {
    match error {
        AppendError::Full => Status::too_many_requests(
            "the audit journal is full until the log and the ledger have caught up; nothing was done",
            1,
        ),
        AppendError::NoSpace | AppendError::Ended => {
            Status::unavailable(format!("the request cannot be recorded: {error}"), 1)
        }
    }
}

/// A path as upstream reads it: decoded, so that an escaped slash is a slash.
fn percent_decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}
