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
    extract::State,
    http::{HeaderMap, StatusCode},
};
use ingest::{
    accept::{self, Acceptor, Rejection},
    journal::{Journal, Receipt},
    pipeline::{Fact, MAX_PLACES},
    record::Draft,
    split::Splitter,
    time::Clock,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    asked::{Path, Query},
    cluster::ClusterName,
    errors::ApiError,
    metrics,
};

pub mod body;
pub mod delivery;
pub mod pace;
mod room;

use delivery::Delivery;
use pace::{Allowance, Pace};
use room::{Place, Room};

/// Requests that are open at once. One that waits for its sender costs a buffer and a decoder, so there may be many:
/// slow senders keep nobody else out.
const MAX_REQUESTS: usize = 1_024;

/// Memory of all bodies that are being read: batches and half items. Five of the largest events fit at once with what
/// reading takes; the rest wait for a moment, then are told to come again.
const MAX_MEMORY: usize = 192 * 1024 * 1024;

/// zstd bodies that are open at once: the memory of each one's window, up to 8 MiB, is the sender's choice.
const MAX_ZSTD: usize = 16;

/// How long a zstd body waits for its turn.
const ZSTD_WAIT: Duration = Duration::from_secs(5);

/// What an event takes in a batch besides its bytes, about.
const DRAFT_BYTES: usize = 256;

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

/// What intake allows all its senders together, and each of them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests that are open at once.
    pub requests: usize,
    /// Memory of all bodies that are being read, in bytes.
    pub memory: usize,
    /// How slowly a body may come.
    pub pace: Allowance,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { requests: MAX_REQUESTS, memory: MAX_MEMORY, pace: Allowance::default() }
    }
}

/// Takes events in. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    acceptor: Acceptor,
    journal: Journal,
    delivery: Option<Delivery>,
    clock: Clock,
    bounds: Bounds,
    open: Arc<Semaphore>,
    zstd: Arc<Semaphore>,
    room: Room,
}

impl Inner {
    /// A draft that the journal takes.
    fn accept(&self, cluster: &Arc<str>, item: &[u8]) -> Result<Draft, Rejection> {
        let draft = self.acceptor.accept(cluster, item)?;
        accept::bounded(draft.event.len(), self.journal.max_event_bytes())?;
        Ok(draft)
    }
}

impl Intake {
    /// Takes events in through `acceptor` into `journal`; with `delivery`, answers only once the log has them safely.
    pub fn new(
        acceptor: Acceptor,
        journal: Journal,
        delivery: Option<Delivery>,
        clock: Clock,
        bounds: Bounds,
    ) -> Self {
        let (open, zstd) = (Semaphore::new(bounds.requests), Semaphore::new(MAX_ZSTD));
        let room = Room::new(bounds.memory);
        let (open, zstd) = (Arc::new(open), Arc::new(zstd));
        Self(Arc::new(Inner { acceptor, journal, delivery, clock, bounds, open, zstd, room }))
    }

    /// Lets one more request in. It holds what is returned until its body has ended.
    async fn admit(&self, headers: &HeaderMap) -> Result<Admitted, ApiError> {
        let Inner { open, zstd, bounds, .. } = &*self.0;
        let busy = |what: String| ApiError::too_much("busy", what);
        let open = open
            .clone()
            .try_acquire_owned()
            .map_err(|_| busy(format!("{} intake requests are open already", bounds.requests)))?;
        let decoder = match body::is_zstd(headers) {
            true => {
                let turn = timeout(ZSTD_WAIT, zstd.clone().acquire_owned()).await;
                let busy = || busy(format!("{MAX_ZSTD} zstd bodies are being read already"));
                Some(turn.ok().and_then(Result::ok).ok_or_else(busy)?)
            }
            false => None,
        };
        Ok(Admitted { _open: open, _decoder: decoder })
    }
}

/// A request's place among those that are open.
struct Admitted {
    _open: OwnedSemaphorePermit,
    _decoder: Option<OwnedSemaphorePermit>,
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
    let admitted = intake.admit(&headers).await?;
    let mut receiving = Receiving::new(intake.0.clone(), cluster.as_arc().clone());
    let read = receiving.read(body::decoded(&headers, body)?).await;
    receiving.unreadable(options.unreadable);
    // What follows waits for the journal and the log, not for the sender, and keeps no part of the body.
    drop(admitted);
    receiving.end(read).await.map(Json)
}

/// One request on its way.
struct Receiving {
    intake: Arc<Inner>,
    cluster: Arc<str>,
    batch: Vec<Draft>,
    batch_bytes: usize,
    place: Place,
    answer: IntakeAnswer,
    reasons: BTreeMap<String, u64>,
    places: Vec<String>,
    receipt: Option<Receipt>,
}

impl Receiving {
    fn new(intake: Arc<Inner>, cluster: Arc<str>) -> Self {
        let place = intake.room.place();
        Self {
            intake,
            cluster,
            batch: Vec::new(),
            batch_bytes: 0,
            place,
            answer: IntakeAnswer::default(),
            reasons: BTreeMap::new(),
            places: Vec::new(),
            receipt: None,
        }
    }

    async fn read(&mut self, mut body: body::Decoded) -> Result<(), ApiError> {
        self.place.hold(READ_BYTES).await?;
        let mut splitter = Splitter::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut pace = Pace::new(self.intake.bounds.pace);
        let mut is_empty = true;
        loop {
            let read = next(&mut body, &mut buffer, &mut pace).await?;
            if read == 0 {
                break;
            }
            is_empty = false;
            splitter.push(&buffer[..read], |place, item| self.item(place, item));
            if self.batch.len() >= MAX_BATCH_EVENTS || self.batch_bytes >= MAX_BATCH_BYTES {
                self.flush().await?;
            }
            self.make_room(READ_BYTES + splitter.buffered()).await?;
        }
        if is_empty {
            return Err(ApiError::bad_request("empty_body", "the body is empty: send events in it"));
        }
        splitter.finish(|place, item| self.item(place, item));
        drop(buffer);
        self.flush().await
    }

    /// Holds memory for what is being read, so many bytes, and for the batch; journals the batch where there is none.
    async fn make_room(&mut self, reading: usize) -> Result<(), ApiError> {
        if self.place.try_hold(reading + self.batch_bytes + self.batch.len() * DRAFT_BYTES) {
            return Ok(());
        }
        self.flush().await?;
        self.place.hold(reading).await
    }

    fn item(&mut self, place: accept::Place, item: Result<&[u8], Rejection>) {
        match item.and_then(|item| self.intake.accept(&self.cluster, item)) {
            Ok(draft) => {
                self.batch_bytes += draft.event.len();
                self.batch.push(draft);
            }
            Err(rejection) => self.reject(place, &rejection),
        }
    }

    fn reject(&mut self, place: accept::Place, rejection: &Rejection) {
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
        self.place.try_hold(0);
        self.record_refusals().await?;
        self.acknowledge().await?;
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
        let kept = kept.and(self.acknowledge().await);
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

    /// Waits until what was journaled is as safe as `--ack` asks, and only then counts it. What is not is not told of as
    /// accepted.
    async fn acknowledge(&mut self) -> Result<(), ApiError> {
        if let (Some(delivery), Some(receipt)) = (&self.intake.delivery, &self.receipt)
            && let Err(error) = delivery.wait(receipt.next).await
        {
            self.answer.accepted = 0;
            return Err(error);
        }
        metrics::accepted(&self.cluster, self.answer.accepted);
        Ok(())
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

/// Reads on, unless the sender is too slow.
async fn next(body: &mut body::Decoded, buffer: &mut [u8], pace: &mut Pace) -> Result<usize, ApiError> {
    let begun = Instant::now();
    let read = timeout(pace.next(body.arrived()), body.read(buffer)).await;
    let read = read.map_err(|_| pace.broken(body.arrived()))?.map_err(body::broken);
    pace.waited(begun.elapsed());
    read
}
