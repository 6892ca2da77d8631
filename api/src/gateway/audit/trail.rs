//! The records of one request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ::admission::PATCH_ANNOTATION;
use axum::http::HeaderMap;
use ingest::{
    event::{Level, Stage},
    journal::{AppendError, Hold},
    pipeline::Asked,
    policy::Decision,
    record::Draft,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Auditor,
    decisions::{ANNOTATION, Decisions, MAX_PATCH_BYTES},
    event::{Event, ObjectRef, ResponseStatus, agent},
    is_recorded,
    opening::{Opening, Rest},
};
use crate::gateway::{object::Object, request::RequestInfo, status::Status, user::UserInfo};

/// What a closing record has beyond its opening one, without bodies: a status, its details, annotations.
const CLOSING_BYTES: usize = 16 * 1024;

/// What an opening record has beyond the event: the key of the change that it announces.
const CHANGE_BYTES: usize = 1024;

/// Between two tries to say how a request ended that changed something, while it cannot be journaled.
const RETRY: Duration = Duration::from_secs(1);

/// Marks an event whose bodies were left out because there was no room for them.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// One request on its way, as it is recorded.
#[derive(Debug)]
pub struct Trail {
    auditor: Auditor,
    event: Event,
    decision: Decision,
    admission: Decisions,
    opening: Unopened,
}

/// What is still to be said of a request's beginning.
#[derive(Debug, Default)]
enum Unopened {
    /// Nothing.
    #[default]
    Nothing,
    /// That it arrived, which waits for nobody: it is written with the next record.
    Arrived(Draft),
    /// It may change something, and is opened before it does.
    Changing(Arc<Opening>),
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
        let (admission, opening) = (Decisions::default(), Unopened::Nothing);
        Trail { auditor: self.clone(), event, decision, admission, opening }
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

    /// A request has arrived. One that may change something gets room for all its records: what it
    /// changes is announced in its opening record first. `body` is the most that a body may add.
    ///
    /// # Errors
    /// When there is no room: nothing may be done then.
    pub fn open(&mut self, may_change: bool, body: usize) -> Result<(), AppendError> {
        if self.decision.level == Level::None {
            crate::metrics::unaudited(may_change);
            return Ok(());
        }
        let is_opened = is_recorded(&self.decision, Stage::RequestReceived);
        self.opening = if may_change {
            let bodies =
                [self.wants_request(), self.wants_response()].iter().filter(|wanted| **wanted).count();
            let event = self.event.to_json().len();
            // Of the decisions and of the webhooks' annotations, and each is text within text.
            let patches = if self.wants_request() { 4 * MAX_PATCH_BYTES } else { 0 };
            let room = 2 * event + CHANGE_BYTES + CLOSING_BYTES + patches + bodies * body;
            let hold = self.auditor.journal.hold(2, room)?;
            let event = is_opened.then(|| Box::new(self.event.clone()));
            Unopened::Changing(Arc::new(Opening::new(self.auditor.clone(), self.asked(), event, hold)))
        } else if is_opened {
            Unopened::Arrived(self.auditor.draft(&self.event, self.event.stage_timestamp))
        } else {
            Unopened::Nothing
        };
        Ok(())
    }

    /// What its changes must be announced in.
    pub(in crate::gateway) fn opening(&self) -> Option<Arc<Opening>> {
        match &self.opening {
            Unopened::Changing(opening) => Some(opening.clone()),
            Unopened::Nothing | Unopened::Arrived(_) => None,
        }
    }

    fn asked(&self) -> Asked {
        let Event { audit_id, user, verb, request_uri, request_received_timestamp, .. } = &self.event;
        Asked {
            audit_id: audit_id.clone(),
            received: *request_received_timestamp,
            user: user.username.clone(),
            verb: verb.clone(),
            path: request_uri.split('?').next().unwrap_or_default().to_owned(),
        }
    }

    /// Adds an annotation. One that is there already is never overwritten.
    pub fn annotate(&mut self, key: &str, value: impl Into<String>) {
        self.event.annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// Annotations of admission controllers. Those that quote patches are there where bodies of requests are recorded, as
    /// far as they fit into the room that patches have.
    pub fn admitted(&mut self, annotations: impl IntoIterator<Item = (String, String)>) {
        let mut room = if self.wants_request() { MAX_PATCH_BYTES } else { 0 };
        for (key, value) in annotations {
            if key.starts_with(PATCH_ANNOTATION) {
                match room.checked_sub(value.len()) {
                    Some(left) => room = left,
                    None => continue,
                }
            }
            self.annotate(&key, value);
        }
    }

    /// What admission controllers decided; what they changed as well where bodies of requests are recorded.
    pub fn decided(&mut self, decisions: &[::admission::Decision]) {
        self.admission.add(decisions, self.wants_request());
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

    /// The answer has this HTTP status.
    pub fn answers(&mut self, code: u16) {
        self.event.response_status.get_or_insert_with(|| ResponseStatus::code(code));
    }

    /// The answer is a Status, of a failure or of something that is done.
    pub fn answers_status(&mut self, status: &Status) {
        self.event.response_status = Some(ResponseStatus::of(status));
    }

    /// Records that a long answer has begun.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn started(&mut self) -> Result<(), AppendError> {
        self.stage(Stage::ResponseStarted).await
    }

    /// Records the end of a request, and returns when that is on the disk.
    ///
    /// # Errors
    /// When it cannot be recorded: the answer must not leave then.
    pub async fn complete(mut self) -> Result<(), AppendError> {
        self.stage(Stage::ResponseComplete).await
    }

    /// Records that a request was refused before anybody was known: its only record.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn refused(mut self, status: &Status) -> Result<(), AppendError> {
        self.answers_status(status);
        self.stage(Stage::ResponseStarted).await
    }

    /// Records that the handler panicked.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn panicked(mut self, status: &Status) -> Result<(), AppendError> {
        self.answers_status(status);
        self.stage(Stage::Panic).await
    }

    async fn stage(&mut self, stage: Stage) -> Result<(), AppendError> {
        match std::mem::take(&mut self.opening) {
            Unopened::Nothing => self.say(stage, None).await,
            Unopened::Arrived(opening) => self.say(stage, Some(opening)).await,
            Unopened::Changing(opening) => match opening.end().await {
                Some(rest) => self.close(stage, rest).await,
                None => Ok(()),
            },
        }
    }

    /// Records a stage of a request that has no room of its own.
    async fn say(&mut self, stage: Stage, opening: Option<Draft>) -> Result<(), AppendError> {
        let mut drafts = Vec::from_iter(opening);
        if is_recorded(&self.decision, stage) {
            drafts.push(self.reach(stage));
        }
        if drafts.is_empty() {
            return Ok(());
        }
        let Auditor { journal, mode, .. } = &self.auditor;
        mode.look(journal)?;
        mode.wait(journal.submit(drafts).await?).await
    }

    /// Records the end of a request that was to change something.
    async fn close(&mut self, stage: Stage, rest: Rest) -> Result<(), AppendError> {
        let mut drafts = Vec::from_iter(rest.unsaid.clone());
        if is_recorded(&self.decision, stage) {
            let room = rest.hold.bytes();
            let draft = self.reach(stage);
            drafts.push(if draft.event.len() > room { self.without_bodies() } else { draft });
        } else if rest.hold.is_begun() {
            let code = self.event.response_status.as_ref().map_or(0, ResponseStatus::number);
            drafts.push(rest.outcome(code, &self.auditor));
        }
        if drafts.is_empty() {
            return Ok(());
        }
        let mut hold = rest.hold;
        let closed = self.auditor.write(&mut hold, drafts.clone()).await;
        match closed {
            Err(AppendError::NoSpace | AppendError::NoKey | AppendError::Full) if hold.is_begun() => {
                let bare = is_recorded(&self.decision, stage).then(|| self.without_bodies());
                tokio::spawn(close_later(self.auditor.clone(), hold, drafts, bare));
            }
            // The boot is over, and the next one finds that this did not end.
            Err(_) => {}
            Ok(()) => hold.finish(),
        }
        closed
    }

    /// The event of a stage, as it is now.
    fn reach(&mut self, stage: Stage) -> Draft {
        if let Some(decisions) = self.admission.value() {
            self.annotate(ANNOTATION, decisions);
        }
        self.event.stage = stage;
        self.event.stage_timestamp = self.auditor.clock.now();
        self.auditor.draft(&self.event, self.event.stage_timestamp)
    }

    /// The same event in the room that there is.
    fn without_bodies(&mut self) -> Draft {
        self.event.request_object = None;
        self.event.response_object = None;
        self.event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        self.auditor.draft(&self.event, self.event.stage_timestamp)
    }
}

impl Auditor {
    async fn write(&self, hold: &mut Hold, drafts: Vec<Draft>) -> Result<(), AppendError> {
        self.mode.look(&self.journal)?;
        self.mode.wait(hold.submit(drafts).await?).await
    }
}

/// Says how a request ended as soon as it can be journaled. While it cannot be, nothing else begins, so these are never
/// more than there are writes in flight.
///
/// When bodies are sealed since the room was held, they may be too large for it: then the event goes without them.
async fn close_later(auditor: Auditor, mut hold: Hold, mut drafts: Vec<Draft>, mut bare: Option<Draft>) {
    loop {
        tokio::time::sleep(RETRY).await;
        match auditor.write(&mut hold, drafts.clone()).await {
            Ok(()) => return hold.finish(),
            Err(AppendError::Ended) => return,
            Err(AppendError::Full) => {
                if let (Some(bare), Some(last)) = (bare.take(), drafts.last_mut()) {
                    *last = bare;
                }
            }
            Err(AppendError::NoSpace | AppendError::NoKey) => {}
        }
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
