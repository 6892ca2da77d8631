//! The path of a request through the gateway.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header::InvalidHeaderValue, request::Parts},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use ingest::time::Timestamp;
use tracing::Instrument;

use super::{
    admission::{Charges, Gate},
    answer::{Answer, Content},
    audit::{Auditor, Trail},
    body::MAX_BODY_BYTES,
    discovery,
    door::{Admission, Door, TurnedAway},
    escalation::Guard,
    limits::Place,
    measured::Measured,
    negotiate::Accepted,
    openapi,
    registry::Registry,
    request::RequestInfo,
    resources::resources,
    status::{Qualified, Status},
    user::UserInfo,
    verbs::{Begun, Call},
};

/// The longest that a request may take that is no stream: upstream's bound for what changes an object.
const REQUEST_TIME: Duration = Duration::from_secs(34);

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A Kubernetes API over a store. Clones are handles of the same: every layer of the server makes some for each request.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    auditor: Auditor,
    door: Door,
    gate: Gate,
}

impl Gateway {
    /// A gateway over these parts.
    pub fn new(registry: Registry, auditor: Auditor, door: Door, gate: Gate) -> Self {
        Self(Arc::new(Inner { registry, auditor, door, gate }))
    }

    /// What decides over changes.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// What is charged for requests on their way.
    pub(super) fn charges(&self) -> &Charges {
        &self.0.gate.charges
    }

    /// Whether a path is the gateway's.
    pub fn owns(path: &str) -> bool {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        matches!(first, "api" | "apis" | "version" | "openapi")
    }

    /// What its requests pass before anything is done for them.
    pub fn door(&self) -> &Door {
        &self.0.door
    }

    /// Serves one request.
    pub async fn serve(&self, request: Request, peer: Option<IpAddr>) -> Response {
        let (parts, body) = request.into_parts();
        let path = percent_decoded(parts.uri.path());
        let (info, unclear) = match RequestInfo::new(parts.method.as_str(), &path, parts.uri.query()) {
            Ok(info) => (info, None),
            Err(unclear) => {
                let info = RequestInfo::of_path(parts.method.as_str(), &path);
                (info, Some(Status::bad_request(unclear.to_string())))
            }
        };
        let (measured, begun) = (Measured::of(&info), Instant::now());
        let response = match self.0.door.identify(&parts, peer).await {
            Ok(user) => self.known(parts, body, (info, unclear), user, peer).await,
            Err(turned) => self.turn_away(*turned, &info, &parts, peer).await,
        };
        measured.answered(response.status().as_u16(), begun.elapsed());
        response
    }

    /// Serves one request of somebody within the process.
    pub(super) async fn serve_as(&self, request: Request, user: UserInfo) -> Response {
        let (parts, body) = request.into_parts();
        let path = percent_decoded(parts.uri.path());
        match RequestInfo::new(parts.method.as_str(), &path, parts.uri.query()) {
            Ok(info) => self.known(parts, body, (info, None), user, None).await,
            Err(unclear) => Status::bad_request(unclear.to_string()).into_response(),
        }
    }

    /// Serves one request of somebody who is known.
    async fn known(
        &self,
        parts: Parts,
        body: Body,
        (info, unclear): (RequestInfo, Option<Status>),
        user: UserInfo,
        peer: Option<IpAddr>,
    ) -> Response {
        let mut admission = self.0.door.admit(&user, &info, &parts.headers);
        if let (Ok(_), Some(status)) = (&admission.outcome, unclear) {
            admission.outcome = Err(status);
        }
        if let (Err(status), false) = (&admission.outcome, admission.is_recorded) {
            return status.clone().into_response();
        }
        let mut trail = self.0.auditor.begin(&info, uri(&parts), &user, &parts.headers, peer);
        let audit_id = HeaderValue::from_str(trail.audit_id());
        let may_change = info.is_mutating() && admission.outcome.is_ok();
        let response = match trail.open(may_change, MAX_BODY_BYTES) {
            Ok(()) => {
                let work = Work { gateway: self.clone(), info, parts, user, admission };
                // Whatever was begun comes to its end though its client goes away.
                let answered = tokio::spawn(work.answered(body, trail).in_current_span());
                answered.await.unwrap_or_else(|_| broken().into_response())
            }
            Err(error) => Status::from(error).into_response(),
        };
        with_audit_id(response, audit_id)
    }

    /// Answers a request of somebody who is not known, and records it where it was not counted only.
    async fn turn_away(
        &self,
        turned: TurnedAway,
        info: &RequestInfo,
        parts: &Parts,
        peer: Option<IpAddr>,
    ) -> Response {
        let Some(recorded) = turned.recorded else { return turned.told.into_response() };
        let trail = self.0.auditor.begin(info, uri(parts), &UserInfo::default(), &parts.headers, peer);
        let audit_id = HeaderValue::from_str(trail.audit_id());
        let status = match trail.refused(&recorded).await {
            Ok(()) => turned.told,
            Err(error) => error.into(),
        };
        with_audit_id(status.into_response(), audit_id)
    }

    fn call<'c>(
        &'c self,
        info: &'c RequestInfo,
        parts: &'c Parts,
        guard: Guard<'c>,
    ) -> Result<Call<'c>, Status> {
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
        let accepted = Accepted::of(&parts.headers, parts.uri.query())?;
        Ok(Call {
            registry: &self.0.registry,
            info,
            resource,
            query: parts.uri.query(),
            headers: &parts.headers,
            accepted,
            door: &self.0.door,
            guard,
            gate: &self.0.gate,
        })
    }
}

/// One request of somebody who is known.
struct Work {
    gateway: Gateway,
    info: RequestInfo,
    parts: Parts,
    user: UserInfo,
    admission: Admission,
}

/// What there is to answer.
enum Answered {
    Now(Response),
    /// A watch, which goes on.
    Later(Begun, Place),
}

impl Work {
    /// Does what is asked and records how it ended, before its answer goes.
    async fn answered(mut self, body: Body, mut trail: Trail) -> Response {
        let done = AssertUnwindSafe(self.run(body, &mut trail)).catch_unwind().await;
        match done {
            Ok(Ok(Answered::Later(begun, place))) => begun.answer(trail, place).await,
            Ok(Ok(Answered::Now(response))) => self.close(trail, Ok(response)).await,
            Ok(Err(status)) => self.close(trail, Err(status)).await,
            Err(_) => panicked(trail).await,
        }
    }

    async fn run(&mut self, body: Body, trail: &mut Trail) -> Result<Answered, Status> {
        let Self { gateway, info, parts, user, admission } = self;
        if let Some(other) = &admission.acts_as {
            trail.impersonates(other);
        }
        if let Some(verdict) = admission.verdict.take() {
            let decision = if verdict.is_allowed { "allow" } else { "forbid" };
            trail.annotate("authorization.k8s.io/decision", decision);
            trail.annotate("authorization.k8s.io/reason", verdict.reason);
        }
        let place = std::mem::replace(&mut admission.outcome, Err(Status::no_such_resource()))?;
        if !info.is_resource {
            let document = discovery::answer(&info.path, &parts.headers)
                .or_else(|| openapi::answer(&info.path, parts.uri.query(), &parts.headers));
            return document.map(Answered::Now).ok_or_else(Status::no_such_resource);
        }
        let roles = gateway.0.door.roles.borrow().clone();
        let user = admission.acts_as.as_ref().unwrap_or(user);
        let call = gateway.call(info, parts, Guard { user, roles: &roles })?;
        if info.verb == "watch" {
            return Ok(Answered::Later(call.begin_watch().await?, place));
        }
        let accepted = call.accepted;
        let answered = tokio::time::timeout(REQUEST_TIME, call.run(body, trail)).await;
        let answer = answered.unwrap_or_else(|_| {
            Err(Status::timeout("request did not complete within the allotted timeout"))
        })?;
        write(&answer, accepted, gateway.0.registry.now(), trail).map(Answered::Now)
    }

    /// Records how a request ended, then lets its answer go.
    async fn close(&self, mut trail: Trail, answered: Result<Response, Status>) -> Response {
        let response = match answered {
            Ok(response) => {
                trail.answers(response.status().as_u16());
                response
            }
            Err(status) => {
                trail.response_object(&status.to_json());
                trail.answers_status(&status);
                status.into_response()
            }
        };
        // What could have been a long answer has a begin of its own, though this one is over.
        let begun = if self.info.is_long_running() { trail.started().await } else { Ok(()) };
        let recorded = match begun {
            Ok(()) => trail.complete().await,
            Err(error) => Err(error),
        };
        recorded.map_or_else(|error| Status::from(error).into_response(), |()| response)
    }
}

fn write(answer: &Answer, accepted: Accepted, now: Timestamp, trail: &mut Trail) -> Result<Response, Status> {
    let json = answer.json()?;
    trail.response_object(&json);
    if let Content::Status(status) = &answer.content {
        trail.answers_status(status);
    }
    answer.write(accepted, json, now)
}

/// Records that a handler panicked. The panic itself is in the log; the process goes on.
pub(super) async fn panicked(mut trail: Trail) -> Response {
    crate::metrics::panicked();
    let status = broken();
    trail.response_object(&status.to_json());
    let recorded = trail.panicked(&status).await;
    recorded.map_or_else(Status::from, |()| status).into_response()
}

/// What a client is told when its handler panicked.
fn broken() -> Status {
    Status::internal("the request could not be finished; the server's log says why")
}

fn uri(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or(parts.uri.path(), |uri| uri.as_str())
}

fn with_audit_id(mut response: Response, id: Result<HeaderValue, InvalidHeaderValue>) -> Response {
    if let Ok(id) = id {
        response.headers_mut().insert(AUDIT_ID.clone(), id);
    }
    response
}

/// A path as upstream reads it: decoded, so that an escaped slash is a slash.
fn percent_decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
