//! `GET /v1/events` and `GET /v1/events/{id}`: found records, with the exact bytes of their events.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use index::{Hit, Index, MAX_LIMIT, Page, Partial, QUERY_TIME, SearchError, SearchRequest};
use ingest::{
    event::EventView,
    ledger::Ledger,
    record::{Record, RecordId},
    time::{Clock, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{errors::ApiError, later::Later, when};

/// Items of a page when the caller does not say.
const DEFAULT_LIMIT: usize = 100;

/// Bytes of events after which a page ends early: the next page goes on there.
const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// Records that are fetched from the ledger at once.
const FETCH: usize = 200;

/// How long a record that is indexed and not yet in the ledger is waited for. The two are fed from the same log
/// and are rarely further apart.
const PENDING_WAIT: Duration = Duration::from_secs(2);

/// How often the ledger is asked meanwhile.
const PENDING_POLL: Duration = Duration::from_millis(50);

/// Records of one request: one for each stage, and those of a client that uses an audit id for several.
const MAX_STAGES: usize = 50;

/// Answers queries. Clones are handles of the same.
#[derive(Clone)]
pub struct Search {
    /// Where records are found.
    pub index: Index,
    /// Where they are.
    pub ledger: Later<Arc<dyn Ledger>>,
    /// What `now` in a query means.
    pub clock: Clock,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Search")
    }
}

impl Search {
    /// The ledger, when it is connected.
    pub(crate) fn ledger(&self) -> Result<Arc<dyn Ledger>, ApiError> {
        self.ledger.get().ok_or_else(|| {
            ApiError::unavailable("ledger_unavailable", "the ledger's database is not connected yet")
        })
    }

    /// Reads a query as of now.
    pub(crate) fn parse(&self, text: &str) -> Result<index::query::Query, ApiError> {
        Ok(index::query::parse(text, self.clock.now())?)
    }
}

/// One record as the interface gives it.
#[derive(Debug, Serialize)]
pub struct Item {
    id: String,
    cluster: Arc<str>,
    source: Arc<str>,
    boot: String,
    seq: u64,
    received_at: Timestamp,
    kind: &'static str,
    at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    rules: Arc<str>,
    redactions: u32,
    event: Box<RawValue>,
}

impl Item {
    pub(crate) fn new(record: &Record) -> Result<Self, ApiError> {
        let envelope = &record.envelope;
        let event = serde_json::from_slice(&record.event).map_err(|e| ApiError::internal(&e))?;
        Ok(Self {
            id: envelope.id.to_string(),
            cluster: envelope.cluster.clone(),
            source: envelope.source.clone(),
            boot: envelope.boot.to_string(),
            seq: envelope.seq.0,
            received_at: envelope.received_at,
            kind: envelope.kind.as_str(),
            at: envelope.at,
            rules: envelope.rules.clone(),
            redactions: envelope.redactions,
            event,
        })
    }
}

/// A page of `GET /v1/events`.
#[derive(Debug, Serialize)]
struct EventsPage {
    items: Vec<Item>,
    next: Option<String>,
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pending: Vec<String>,
}

/// The query of `GET /v1/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    #[serde(default)]
    q: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(crate) async fn list(
    State(search): State<Search>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(asked) = query?;
    let filter = search.parse(&asked.q)?;
    let range = when::range(asked.from.as_deref(), asked.to.as_deref(), search.clock.now())?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request("bad_limit", format!("limit is a number from 1 to {MAX_LIMIT}")));
    }
    let cursor = asked
        .cursor
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(SearchError::from)?;
    let request = SearchRequest { range, limit, cursor, time: QUERY_TIME };
    let found = search.index.search(&filter, request.clone()).await?;
    let fetched = search.fetch(&found.hits).await?;
    let end = match fetched.cut {
        Some(kept) => search.index.search(&filter, SearchRequest { limit: kept, ..request }).await?,
        None => found,
    };
    Ok(Json(page(fetched, &end)?))
}

fn page(fetched: Fetched, end: &Page) -> Result<EventsPage, ApiError> {
    let pending = !fetched.pending.is_empty();
    let reason = end.partial.or(pending.then_some(Partial::Pending));
    Ok(EventsPage {
        items: fetched.records.iter().map(Item::new).collect::<Result<_, _>>()?,
        next: end.next.map(|cursor| cursor.to_string()),
        partial: reason.is_some(),
        reason: reason.map(|r| r.as_str().to_owned()),
        pending: fetched.pending.iter().map(ToString::to_string).collect(),
    })
}

/// What the ledger gave for hits.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<Record>,
    pub(crate) pending: Vec<RecordId>,
    /// How many hits were dealt with when the page was full.
    cut: Option<usize>,
}

impl Search {
    /// The records of `hits`, in their order.
    pub(crate) async fn fetch(&self, hits: &[Hit]) -> Result<Fetched, ApiError> {
        let ledger = self.ledger()?;
        let (mut fetched, mut bytes, mut done) = (Fetched::default(), 0, 0);
        for part in hits.chunks(FETCH) {
            let ids: Vec<RecordId> = part.iter().map(|hit| hit.id).collect();
            let mut records = wait_for(&*ledger, &ids).await?.into_iter().peekable();
            for id in ids {
                done += 1;
                match records.next_if(|record| record.envelope.id == id) {
                    None => fetched.pending.push(id),
                    Some(record) => {
                        bytes += record.event.len();
                        fetched.records.push(record);
                    }
                }
                if bytes > MAX_PAGE_BYTES && done < hits.len() {
                    return Ok(Fetched { cut: Some(done), ..fetched });
                }
            }
        }
        Ok(fetched)
    }
}

/// The records of these ids; those that stay away for [`PENDING_WAIT`] are left out.
async fn wait_for(ledger: &dyn Ledger, ids: &[RecordId]) -> Result<Vec<Record>, ApiError> {
    let deadline = tokio::time::Instant::now() + PENDING_WAIT;
    loop {
        let records = ledger.get(ids).await?;
        if records.len() == ids.len() || tokio::time::Instant::now() >= deadline {
            return Ok(records);
        }
        tokio::time::sleep(PENDING_POLL).await;
    }
}

/// The query of `GET /v1/events/{id}`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct OneQuery {
    /// The event's exact bytes and nothing else.
    #[serde(default)]
    raw: String,
}

/// `GET /v1/events/{id}`.
#[derive(Debug, Serialize)]
struct OneAnswer {
    item: Item,
    /// Every stage of the same request, in the order of time.
    stages: Vec<Item>,
}

pub(crate) async fn one(
    State(search): State<Search>,
    Path(id): Path<String>,
    Query(options): Query<OneQuery>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found(format!("there is no record {id:?}"));
    let key = RecordId(id.parse().map_err(|_| missing())?);
    let record = search.ledger()?.get(&[key]).await?.pop().ok_or_else(missing)?;
    if matches!(options.raw.as_str(), "1" | "true") {
        return Ok(([(header::CONTENT_TYPE, "application/json")], record.event).into_response());
    }
    let stages = search.stages(&record).await?;
    let stages = stages.iter().map(Item::new).collect::<Result<_, _>>()?;
    Ok(Json(OneAnswer { item: Item::new(&record)?, stages }).into_response())
}

impl Search {
    /// The records of one request: the same cluster, audit id and time of arrival. A client may use an audit id twice.
    async fn stages(&self, record: &Record) -> Result<Vec<Record>, ApiError> {
        let Some(request) = RequestKey::of(record) else { return Ok(vec![record.clone()]) };
        let query =
            format!("audit_id:={} cluster:={}", quoted(&request.audit_id), quoted(&record.envelope.cluster));
        let query = self.parse(&query)?;
        let hits = self.index.search(&query, SearchRequest::newest(MAX_STAGES)).await?.hits;
        let mut records = self.fetch(&hits).await?.records;
        records.retain(|other| RequestKey::of(other).as_ref() == Some(&request));
        if !records.iter().any(|other| other.envelope.id == record.envelope.id) {
            records.push(record.clone());
        }
        records.sort_by_key(|other| (other.envelope.at, other.envelope.seq));
        Ok(records)
    }
}

/// What the stages of one request have in common.
#[derive(PartialEq, Eq)]
struct RequestKey {
    audit_id: String,
    received: Option<Timestamp>,
}

impl RequestKey {
    fn of(record: &Record) -> Option<Self> {
        let view = EventView::parse(&record.event).ok()?;
        let audit_id = view.audit_id()?.into_owned();
        Some(Self { audit_id, received: view.request_received() })
    }
}

/// A value of the query language that means exactly `text`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
