//! The records of one request.

use std::{mem, net::IpAddr};

use axum::http::HeaderMap;
use ingest::{
    event::{Level, Stage},
    journal::{AppendError, Reservation},
    policy::Decision,
    time::Timestamp,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Auditor,
    event::{Event, ObjectRef, ResponseStatus, agent},
    is_recorded,
};
use crate::gateway::{object::Object, request::RequestInfo, status::Status, user::UserInfo};

/// What a closing record has beyond its opening one, without bodies: a status, its details, annotations.
const CLOSING_BYTES: usize = 16 * 1024;

/// Marks an event whose bodies were left out because there was no room for them.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// One request on its way, as it is recorded.
#[derive(Debug)]
pub struct Trail {
    auditor: Auditor,
    event: Event,
    decision: Decision,
    room: Option<Reservation>,
}

impl Auditor {
    /// Begins to record a request: nothing is written yet.
    pub fn begin(
        &self,
        info: &RequestInfo,
        uri: &str,
        user: &UserInfo,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Trail {
        let now = self.clock.now();
        let decision = self.decide(user, info);
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: decision.level,
            audit_id: text(headers, "audit-id").map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            stage: Stage::RequestReceived,
            request_uri: uri.to_owned(),
            verb: info.verb.clone().into_owned(),
            user: user.clone(),
            impersonated_user: None,
            source_ips: source_ips(headers, peer),
            user_agent: agent(text(headers, "user-agent").unwrap_or_default()),
            object_ref: info.is_resource.then(|| ObjectRef::of(info)),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: std::collections::BTreeMap::new(),
        };
        Trail { auditor: self.clone(), event, decision, room: None }
    }
}

impl Trail {
    /// The id that the answer carries.
    pub fn audit_id(&self) -> &str {
        &self.event.audit_id
    }

    /// Whether bodies of requests are recorded.
    pub fn wants_request(&self) -> bool {
        self.decision.level >= Level::Request
    }

    /// Whether bodies of answers are recorded.
    pub fn wants_response(&self) -> bool {
        self.decision.level >= Level::RequestResponse
    }

    /// Records that a request has arrived. One that may change something also gets room for its end, and returns when
    /// its record is on the disk; `body` is the most that a body may add.
    ///
    /// # Errors
    /// When there is no room: nothing may be done then.
    pub async fn open(&mut self, is_mutating: bool, body: usize) -> Result<(), AppendError> {
        if self.decision.level == Level::None {
            return Ok(());
        }
        if is_mutating {
            let bodies =
                [self.wants_request(), self.wants_response()].iter().filter(|wanted| **wanted).count();
            let room = self.event.to_json().len() + CLOSING_BYTES + bodies * body;
            self.room = Some(self.auditor.journal.reserve(room)?);
        }
        if is_recorded(&self.decision, Stage::RequestReceived) {
            self.auditor.record(&self.event, self.event.stage_timestamp).await?;
        }
        Ok(())
    }

    /// Adds an annotation. One that is there already is never overwritten.
    pub fn annotate(&mut self, key: &str, value: impl Into<String>) {
        self.event.annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// Somebody acts for somebody else.
    pub fn impersonates(&mut self, user: &UserInfo) {
        self.event.impersonated_user = Some(user.clone());
    }

    /// What the body tells of the object, and the body itself where it is recorded.
    pub fn request_object(&mut self, object: &Object) {
        if let Some(reference) = &mut self.event.object_ref {
            reference.fill(object);
        }
        if self.wants_request() {
            self.event.request_object = serde_json::value::to_raw_value(object.members()).ok();
        }
    }

    /// A body that is no object of the API, such as a patch.
    pub fn request_body(&mut self, json: &[u8]) {
        if self.wants_request() {
            self.event.request_object = serde_json::from_slice::<&RawValue>(json).ok().map(ToOwned::to_owned);
        }
    }

    /// The object of an answer, as JSON.
    pub fn response_object(&mut self, json: &[u8]) {
        if self.wants_response() {
            self.event.response_object =
                serde_json::from_slice::<&RawValue>(json).ok().map(ToOwned::to_owned);
        }
    }

    /// Records that a long answer has begun.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn started(&mut self, code: u16) -> Result<(), AppendError> {
        self.event.response_status = Some(ResponseStatus::code(code));
        self.stage(Stage::ResponseStarted).await
    }

    /// Records the end of a request, and returns when that is on the disk.
    ///
    /// # Errors
    /// When it cannot be recorded: the answer must not leave then.
    pub async fn complete(mut self, answer: Result<u16, &Status>) -> Result<(), AppendError> {
        self.event.response_status = Some(match answer {
            Ok(code) => ResponseStatus::code(code),
            Err(status) => ResponseStatus::of(status),
        });
        self.stage(Stage::ResponseComplete).await
    }

    /// Records that a request was refused before anybody was known: its only record.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn refused(mut self, status: &Status) -> Result<(), AppendError> {
        self.event.response_status = Some(ResponseStatus::of(status));
        self.stage(Stage::ResponseStarted).await
    }

    /// Records that the handler panicked.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn panicked(mut self, status: &Status) -> Result<(), AppendError> {
        self.event.response_status = Some(ResponseStatus::of(status));
        self.stage(Stage::Panic).await
    }

    async fn stage(&mut self, stage: Stage) -> Result<(), AppendError> {
        if !is_recorded(&self.decision, stage) {
            return Ok(());
        }
        let now = self.auditor.clock.now();
        self.event.stage = stage;
        self.event.stage_timestamp = now;
        let draft = self.auditor.draft(&self.event, now);
        let Some(room) = mem::take(&mut self.room) else {
            return self.auditor.journal.append(vec![draft]).await.map(drop);
        };
        let draft = if draft.event.len() > room.bytes() { self.without_bodies(now) } else { draft };
        self.auditor.journal.append_reserved(draft, room).await.map(drop)
    }

    /// The same event in the room that there is.
    fn without_bodies(&mut self, now: Timestamp) -> ingest::record::Draft {
        self.event.request_object = None;
        self.event.response_object = None;
        self.event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        self.auditor.draft(&self.event, now)
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

/// Every address that a request names as its origin; only the last one, its peer, is known to be true.
pub(crate) fn source_ips(headers: &HeaderMap, peer: Option<IpAddr>) -> Vec<String> {
    let forwarded = text(headers, "x-forwarded-for").into_iter().flat_map(|list| list.split(','));
    let mut ips: Vec<String> =
        forwarded.filter_map(|ip| ip.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_string()).collect();
    if let Some(real) = text(headers, "x-real-ip").and_then(|ip| ip.parse::<IpAddr>().ok()) {
        let real = real.to_string();
        if !ips.contains(&real) {
            ips.push(real);
        }
    }
    if let Some(peer) = peer.map(|ip| ip.to_string())
        && ips.last() != Some(&peer)
    {
        ips.push(peer);
    }
    ips
}
