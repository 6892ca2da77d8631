//! One use of our own interface, as it is recorded.

use std::{collections::BTreeMap, net::IpAddr};

use axum::{extract::Request, http::HeaderMap};
use index::query::{Expr, MAX_QUERY_BYTES, Pattern, Piece, Query};
use ingest::{journal::Hold, time::Timestamp};
use serde::Serialize;

use super::{caller::Caller, scope::Scope, table, table::Row, uses::Uses};
use crate::{
    errors::ApiError,
    gateway::{
        audit::{DECISIONS, ObjectRef, agent, decided, source_ips},
        request::RequestInfo,
        user::UserInfo,
    },
    reviews::Reviewed,
};

/// The most that a record of a use has: its texts are cut, and what a client may send in a head has a bound.
pub(super) const MAX_USE_BYTES: usize = 256 * 1024;

/// Paths and values of parameters longer than this are cut.
const MAX_TEXT_BYTES: usize = 1_024;

/// Parameters that are recorded besides the query. Any other is refused by its route, and may hold what somebody sent by
/// mistake.
const PARAMETERS: [&str; 8] = ["from", "to", "limit", "cursor", "interval", "raw", "resource", "per_second"];

/// How many things an answer gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Results(pub(crate) u64);

/// The record's event. It has the members of an audit event where it says the same, so that the same fields find it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: &'static str,
    verb: String,
    route: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo>,
    /// What showed who it is.
    #[serde(skip_serializing_if = "str::is_empty")]
    by: &'static str,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<&'static str, String>,
    /// Which records could be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<u64>,
    /// What was decided about the object, where the use is a review.
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<Review>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

/// A review: what was asked of the other API server, and whether it may be.
#[derive(Debug, Serialize)]
struct Review {
    uid: String,
    operation: &'static str,
    user: String,
    allowed: bool,
}

#[derive(Debug, Serialize)]
struct ResponseStatus {
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// One use on its way. One that is dropped before its end is recorded without an answer.
#[derive(Debug)]
pub(super) struct Used {
    uses: Uses,
    event: Event,
    is_recorded: bool,
    room: Option<Hold>,
}

impl Used {
    /// Begins: nothing is written yet.
    pub(super) fn new(
        uses: &Uses,
        request: &Request,
        row: Option<&'static Row>,
        peer: Option<IpAddr>,
    ) -> Self {
        let now = uses.now();
        let method = request.method().as_str().to_ascii_lowercase();
        let path = request.uri().path();
        let (query, parameters) = parameters(request.uri().query(), now);
        let event = Event {
            kind: "Access",
            verb: row.map_or(cut(&method, MAX_TEXT_BYTES), |row| row.verb.to_owned()),
            route: row.map_or("", |row| row.path),
            request_uri: cut(path, MAX_TEXT_BYTES),
            user: UserInfo::default(),
            impersonated_user: None,
            by: "",
            source_ips: source_ips(request.headers(), peer),
            user_agent: agent(header(request.headers(), "user-agent")),
            object_ref: row.and_then(|row| object(row, path)),
            query,
            parameters,
            scope: None,
            response_status: None,
            results: None,
            review: None,
            annotations: BTreeMap::new(),
            request_received_timestamp: now,
            stage_timestamp: now,
        };
        let is_recorded = row.is_none_or(|row| row.is_recorded);
        Self { uses: uses.clone(), event, is_recorded, room: None }
    }

    /// Somebody is known.
    pub(super) fn by(&mut self, caller: &Caller) {
        self.event.user = caller.user.clone();
        self.event.impersonated_user = caller.acts_as.clone();
        self.event.by = caller.by;
    }

    /// The roles have decided.
    pub(super) fn decided(&mut self, is_allowed: bool, reason: &str) {
        let decision = if is_allowed { "allow" } else { "forbid" };
        self.event.annotations.insert("authorization.k8s.io/decision", decision.to_owned());
        self.event.annotations.insert("authorization.k8s.io/reason", reason.to_owned());
    }

    /// What admission decided about a review's object, which the record is about then.
    pub(super) fn reviewed(&mut self, reviewed: &Reviewed) {
        self.event.object_ref = Some(reviewed.object.clone());
        self.event.review = Some(Review {
            uid: cut(&reviewed.uid, MAX_TEXT_BYTES),
            operation: reviewed.operation,
            user: cut(&reviewed.username, MAX_TEXT_BYTES),
            allowed: reviewed.is_allowed,
        });
        if let Some(decisions) = decided(&reviewed.decisions) {
            self.event.annotations.insert(DECISIONS, decisions);
        }
    }

    /// Which records can be seen.
    pub(super) fn within(&mut self, scope: &Scope) {
        self.event.scope = Some(scope.clone());
    }

    /// It is about to change something: there is room for its record from now on.
    pub(super) fn changes(&mut self) -> Result<(), ApiError> {
        self.room = Some(self.uses.hold()?);
        Ok(())
    }

    /// Says what the answer was; a refusal that was only counted leaves no record.
    pub(super) fn answered(&mut self, code: u16, message: Option<&str>, is_recorded: bool) {
        let message = message.map(|text| cut(text, MAX_TEXT_BYTES));
        self.event.response_status = Some(ResponseStatus { code, message });
        self.is_recorded = is_recorded;
    }

    /// Whether it has a record of its own, unless it is refused.
    pub(super) const fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// Records it. A change is on the disk when this returns.
    ///
    /// # Errors
    /// When a change cannot be recorded: its answer must not leave then.
    pub(super) async fn end(mut self, results: Option<u64>) -> Result<(), ApiError> {
        if !std::mem::take(&mut self.is_recorded) {
            return Ok(());
        }
        self.event.results = results;
        let (json, at) = self.json();
        match self.room.take() {
            Some(room) => self.uses.record(&json, at, room).await?,
            None => self.uses.queue(&json, at).await,
        }
        Ok(())
    }

    fn json(&mut self) -> (Vec<u8>, Timestamp) {
        let now = self.uses.now();
        self.event.stage_timestamp = now;
        // Plain texts and numbers have no way to fail.
        (serde_json::to_vec(&self.event).unwrap_or_default(), now)
    }
}

impl Drop for Used {
    /// Its caller has gone, or its handler panicked.
    fn drop(&mut self) {
        if self.is_recorded {
            let (json, at) = self.json();
            self.uses.queue_now(&json, at);
        }
    }
}

/// What the row's need is about, as roles name it.
fn object(row: &Row, path: &str) -> Option<ObjectRef> {
    let (resource, subresource) = match row.need {
        table::Need::Resource(resource, subresource) => (resource, subresource),
        table::Need::Events => (table::EVENTS, ""),
        table::Need::Nothing | table::Need::Path => return None,
    };
    let info = RequestInfo {
        group: table::GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: cut(table::parameter(row.path, path), MAX_TEXT_BYTES),
        ..RequestInfo::default()
    };
    Some(ObjectRef::of(&info))
}

/// The query's text as it is recorded, and the other parameters.
fn parameters(query: Option<&str>, now: Timestamp) -> (Option<String>, BTreeMap<&'static str, String>) {
    let mut text = None;
    let mut others = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "q" {
            text = Some(recorded(&value, now));
        } else if let Some(name) = PARAMETERS.into_iter().find(|known| *known == name) {
            others.insert(name, cut(&value, MAX_TEXT_BYTES));
        }
    }
    (text, others)
}

/// A query without the words that it looks for everywhere: whoever looks for a secret that got out writes it down.
fn recorded(text: &str, now: Timestamp) -> String {
    match index::query::parse(text, now) {
        Ok(query) => cut(&Query::new(veiled(query.filter)).to_string(), MAX_QUERY_BYTES),
        Err(_) => format!("$unreadable(len={})", text.len()),
    }
}

fn veiled(filter: Expr) -> Expr {
    match filter {
        Expr::All(parts) => Expr::All(parts.into_iter().map(veiled).collect()),
        Expr::Any(parts) => Expr::Any(parts.into_iter().map(veiled).collect()),
        Expr::Not(part) => !veiled(*part),
        Expr::Clause(clause) => Expr::Clause(clause),
        Expr::Text(pattern) => {
            let text = format!("$redacted(len={})", length(&pattern));
            Expr::Text(Pattern::Phrase { text, slop: 0 })
        }
    }
}

fn length(pattern: &Pattern) -> usize {
    match pattern {
        Pattern::Word(text) | Pattern::Phrase { text, .. } => text.len(),
        Pattern::Wildcard(pieces) => {
            let length = |piece: &Piece| if let Piece::Literal(text) = piece { text.len() } else { 1 };
            pieces.iter().map(length).sum()
        }
        Pattern::Regex(regex) => regex.source().len(),
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The beginning of a text.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}
