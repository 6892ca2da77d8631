//! `POST /v1/intake/audit/{cluster}`: events in, a receipt out once they are durable.
//!
//! Good items are kept whatever stands beside them. The answer is a success as soon as one item was kept, so that
//! a sender which repeats failed batches (kube-apiserver does, five times) does not repeat one for a bad item in
//! it; what was refused is listed in the answer and recorded as a fact. Repeating is harmless in any case: the
//! same event has the same id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use ingest::{
    accept::{Acceptor, Place, Rejection},
    journal::{Journal, Receipt},
    pipeline::{Fact, MAX_PLACES},
    record::Draft,
    split::Splitter,
    time::Clock,
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt, sync::Semaphore};

use crate::{cluster::ClusterName, errors::ApiError, metrics};

pub mod body;
pub mod delivery;

use delivery::Delivery;

/// Requests that are worked on at once. Each holds at most one batch and one item in memory.
const MAX_REQUESTS: usize = 64;

/// Events that go to the journal together: enough that a sync is shared, few enough that memory stays small.
const MAX_BATCH_EVENTS: usize = 1_000;

/// Bytes of events that go to the journal together.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Refused items that an answer tells of one by one; the count tells of all.
const MAX_ERRORS: usize = 1_000;

/// Items that one request may say its sender could not read; `muniment import` sends at most so many at a time.
const MAX_UNREADABLE: u64 = 1_000;

/// What is read of a body at a time.
const READ_BYTES: usize = 64 * 1024;

/// How long a sender may pause within a body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes events in. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    acceptor: Acceptor,
    journal: Journal,
    delivery: Option<Delivery>,
    clock: Clock,
    permits: Semaphore,
}

impl Intake {
    /// Takes events in through `acceptor` into `journal`; with `delivery`, answers only once the log has them safely.
    pub fn new(acceptor: Acceptor, journal: Journal, delivery: Option<Delivery>, clock: Clock) -> Self {
        let permits = Semaphore::new(MAX_REQUESTS);
        Self(Arc::new(Inner { acceptor, journal, delivery, clock, permits }))
    }
}

/// What the answer says of one refused item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    /// Which item, counted from 0.
    pub index: u64,
    /// Its line, counted from 1.
    pub line: u64,
    /// Its byte, counted from 0.
    pub offset: u64,
    /// A name for programs.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntakeAnswer {
    /// Events that are durable now. Some may turn out to be duplicates once the ledger meets them.
    pub accepted: u64,
    /// Items that were refused.
    pub rejected: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ItemError>,
    /// The boot that numbered the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The last number that it gave to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<u64>,
}

/// What may stand in the query.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Options {
    /// Items that the sender had and could not read, so that they are counted too.
    #[serde(default)]
    unreadable: u64,
}

pub(crate) async fn receive(
    State(intake): State<Intake>,
    Path(cluster): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IntakeAnswer>, ApiError> {
    let cluster: ClusterName =
        cluster.parse().map_err(|e| ApiError::bad_request("bad_cluster", format!("{e}")))?;
    if options.unreadable > MAX_UNREADABLE {
        let message =
            format!("unreadable is {}: a request tells of at most {MAX_UNREADABLE}", options.unreadable);
        return Err(ApiError::bad_request("bad_unreadable", message));
    }
    let _permit = intake.0.permits.try_acquire().map_err(|_| {
        ApiError::too_much("busy", format!("{MAX_REQUESTS} intake requests are being worked on already"))
    })?;
    let mut receiving = Receiving::new(intake.0.clone(), cluster.as_arc().clone());
    let read = receiving.read(body::decoded(&headers, body)?).await;
    receiving.unreadable(options.unreadable);
    receiving.end(read).await.map(Json)
}

/// One request on its way.
struct Receiving {
    intake: Arc<Inner>,
    cluster: Arc<str>,
    batch: Vec<Draft>,
    batch_bytes: usize,
    answer: IntakeAnswer,
    reasons: BTreeMap<String, u64>,
    places: Vec<String>,
    receipt: Option<Receipt>,
}

impl Receiving {
    fn new(intake: Arc<Inner>, cluster: Arc<str>) -> Self {
        Self {
            intake,
            cluster,
            batch: Vec::new(),
            batch_bytes: 0,
            answer: IntakeAnswer::default(),
            reasons: BTreeMap::new(),
            places: Vec::new(),
            receipt: None,
        }
    }

    async fn read(&mut self, mut body: body::Decoded) -> Result<(), ApiError> {
        let mut splitter = Splitter::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut is_empty = true;
        loop {
            let read = tokio::time::timeout(READ_TIMEOUT, body.read(&mut buffer)).await;
            let read = read.map_err(|_| body::stalled(READ_TIMEOUT))?.map_err(body::broken)?;
            if read == 0 {
                break;
            }
            is_empty = false;
            splitter.push(&buffer[..read], |place, item| self.item(place, item));
            if self.batch.len() >= MAX_BATCH_EVENTS || self.batch_bytes >= MAX_BATCH_BYTES {
                self.flush().await?;
            }
        }
        if is_empty {
            return Err(ApiError::bad_request("empty_body", "the body is empty: send events in it"));
        }
        splitter.finish(|place, item| self.item(place, item));
        self.flush().await
    }

    fn item(&mut self, place: Place, item: Result<&[u8], Rejection>) {
        match item.and_then(|item| self.intake.acceptor.accept(&self.cluster, item)) {
            Ok(draft) => {
                self.batch_bytes += draft.event.len();
                self.batch.push(draft);
            }
            Err(rejection) => self.reject(place, &rejection),
        }
    }

    fn reject(&mut self, place: Place, rejection: &Rejection) {
        let reason = rejection.reason.as_str();
        metrics::rejected(reason, 1);
        self.answer.rejected += 1;
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        if self.places.len() < MAX_PLACES {
            self.places.push(format!("{place}: {reason}"));
        }
        if self.answer.errors.len() < MAX_ERRORS {
            self.answer.errors.push(ItemError {
                index: place.item,
                line: place.line,
                offset: place.offset,
                reason: reason.to_owned(),
                message: rejection.detail.clone(),
            });
        }
    }

    fn unreadable(&mut self, count: u64) {
        if count > 0 {
            metrics::rejected("unreadable", count);
            self.answer.rejected += count;
            *self.reasons.entry("unreadable".to_owned()).or_default() += count;
        }
    }

    /// Journals what was read so far.
    async fn flush(&mut self) -> Result<(), ApiError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let events = batch.len() as u64;
        let receipt = self.intake.journal.append(batch).await?;
        self.answer.accepted += events;
        self.answer.boot = Some(receipt.boot.to_string());
        self.answer.last_seq = Some(receipt.last.0);
        self.receipt = Some(receipt);
        Ok(())
    }

    /// Waits for what the answer promises, records what was refused, and answers.
    async fn end(mut self, read: Result<(), ApiError>) -> Result<IntakeAnswer, ApiError> {
        if let Err(error) = read {
            return Err(self.broken_off(error).await);
        }
        self.record_refusals().await?;
        metrics::accepted(&self.cluster, self.answer.accepted);
        if let (Some(delivery), Some(receipt)) = (&self.intake.delivery, &self.receipt) {
            delivery.wait(receipt.next).await?;
        }
        match (self.answer.accepted, self.answer.rejected) {
            (0, 1..) => Err(self.nothing_kept()),
            _ => Ok(self.answer),
        }
    }

    /// What stood before the break is kept. A sender that is told to come again sends the same items again: they are
    /// kept, and recorded as refused, then.
    async fn broken_off(mut self, error: ApiError) -> ApiError {
        let kept = match error.is_temporary() {
            true => Ok(()),
            false => self.keep_the_rest().await,
        };
        metrics::accepted(&self.cluster, self.answer.accepted);
        let errors = serde_json::to_value(&self.answer.errors).unwrap_or_default();
        kept.err()
            .unwrap_or(error)
            .with("accepted", self.answer.accepted)
            .with("rejected", self.answer.rejected)
            .with("errors", errors)
    }

    async fn keep_the_rest(&mut self) -> Result<(), ApiError> {
        self.flush().await?;
        self.record_refusals().await
    }

    async fn record_refusals(&mut self) -> Result<(), ApiError> {
        if self.answer.rejected == 0 {
            return Ok(());
        }
        let fact = Fact::Rejected {
            cluster: self.cluster.clone(),
            count: self.answer.rejected,
            reasons: std::mem::take(&mut self.reasons),
            places: std::mem::take(&mut self.places),
        };
        self.intake.journal.append(vec![fact.draft(&self.intake.clock)]).await?;
        Ok(())
    }

    fn nothing_kept(self) -> ApiError {
        let first = self.answer.errors.first();
        let example = first.map_or_else(String::new, |e| {
            format!("; the first, at line {}, byte {}: {}: {}", e.line, e.offset, e.reason, e.message)
        });
        let message =
            format!("none of {} items is an audit event that can be taken{example}", self.answer.rejected);
        let errors = serde_json::to_value(&self.answer.errors).unwrap_or_default();
        ApiError::new(StatusCode::BAD_REQUEST, "nothing_accepted", message)
            .with("accepted", 0)
            .with("rejected", self.answer.rejected)
            .with("errors", errors)
    }
}
