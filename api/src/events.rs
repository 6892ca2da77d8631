//! `GET /v1/events` and `GET /v1/events/{id}`: found records, with the exact bytes of their events.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use index::{Cursor, MAX_LIMIT, Partial, QUERY_TIME, SearchError, SearchRequest};
use ingest::{
    event::EventView,
    record::{Record, RecordId},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    access::{Results, Scope},
    asked::{Path, Query},
    errors::ApiError,
    fetched::{Fetched, PENDING_WAIT},
    search::Search,
    when,
};

/// Items of a page when the caller does not say.
const DEFAULT_LIMIT: usize = 100;

/// Records of one request that are given together. A request has four at most, but what several webhooks or a
/// client of its own making send under one audit id and one time of arrival has no bound.
const MAX_STAGES: usize = 50;

/// One record as the interface gives it.
#[derive(Debug, Serialize)]
pub struct Item {
    id: String,
    cluster: Arc<str>,
    source: Arc<str>,
    boot: String,
    /// Only for whoever sees everything: it tells how many records there are of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    received_at: Timestamp,
    kind: &'static str,
    at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    rules: Arc<str>,
    redactions: u32,
    event: Box<RawValue>,
}

impl Item {
    pub(crate) fn new(record: &Record, scope: &Scope) -> Result<Self, ApiError> {
        let envelope = &record.envelope;
        let event = serde_json::from_slice(&record.event).map_err(|e| ApiError::internal(&e))?;
        Ok(Self {
            id: envelope.id.to_string(),
            cluster: envelope.cluster.clone(),
            source: envelope.source.clone(),
            boot: envelope.boot.to_string(),
            seq: scope.is_everything().then_some(envelope.seq.0),
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<String>,
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
    scope: Scope,
    Query(asked): Query<ListQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let filter = search.parse(&asked.q, &scope)?;
    let range = when::range(asked.from.as_deref(), asked.to.as_deref(), search.now())?;
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
    let found = search.find(&filter, request).await?;
    let fetched = search.fetch(&found.hits, &mut None, PENDING_WAIT).await?;
    // A page that ends early is followed by one that begins with what this one did not get to.
    let next = found.hits.get(fetched.done).map(|hit| Cursor::at(hit, filter.query())).or(found.next);
    let results = Extension(Results(fetched.records.len() as u64));
    Ok((results, Json(page(&fetched, next, found.partial, &scope)?)))
}

fn page(
    fetched: &Fetched,
    next: Option<Cursor>,
    partial: Option<Partial>,
    scope: &Scope,
) -> Result<EventsPage, ApiError> {
    let pending = fetched.pending.map(|_| Partial::Pending);
    let gone = (!fetched.gone.is_empty()).then_some(Partial::Gone);
    let reason = partial.or(pending).or(gone);
    Ok(EventsPage {
        items: items(&fetched.records, scope)?,
        next: next.map(|cursor| cursor.to_string()),
        partial: reason.is_some(),
        reason: reason.map(|r| r.as_str().to_owned()),
        pending: fetched.pending.iter().map(ToString::to_string).collect(),
        gone: fetched.gone.iter().map(ToString::to_string).collect(),
    })
}

fn items(records: &[Record], scope: &Scope) -> Result<Vec<Item>, ApiError> {
    records.iter().map(|record| Item::new(record, scope)).collect()
}

/// The query of `GET /v1/events/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneQuery {
    /// The event's exact bytes and nothing else.
    #[serde(default)]
    raw: String,
}

impl OneQuery {
    fn raw(&self) -> Result<bool, ApiError> {
        match self.raw.as_str() {
            "1" | "true" => Ok(true),
            "" | "0" | "false" => Ok(false),
            other => {
                Err(ApiError::bad_request("bad_parameter", format!("raw is true or false, not {other:?}")))
            }
        }
    }
}

/// `GET /v1/events/{id}`.
#[derive(Debug, Serialize)]
struct OneAnswer {
    item: Item,
    /// The stages of the same request, in the order of time.
    stages: Vec<Item>,
    /// Whether there are others of it that are not given here.
    more: bool,
}

pub(crate) async fn one(
    State(search): State<Search>,
    scope: Scope,
    Path(id): Path<String>,
    Query(options): Query<OneQuery>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found(format!("there is no record {id:?}"));
    let key = RecordId(id.parse().map_err(|_| missing())?);
    let is_raw = options.raw()?;
    // One that the caller may not see is not there.
    let found = search.ledger()?.get(&[key]).await?.pop();
    let record = found.filter(|record| scope.holds(record)).ok_or_else(missing)?;
    if is_raw {
        let results = Extension(Results(1));
        let event = search.opened(record).await.event;
        return Ok((results, [(header::CONTENT_TYPE, "application/json")], event).into_response());
    }
    let Stages { records, more } = search.stages(&record, &scope).await?;
    let results = Extension(Results(records.len() as u64));
    let mut opened = Vec::with_capacity(records.len());
    for record in records {
        opened.push(search.opened(record).await);
    }
    let stages = items(&opened, &scope)?;
    let record = search.opened(record).await;
    Ok((results, Json(OneAnswer { item: Item::new(&record, &scope)?, stages, more })).into_response())
}

/// The records of one request, as many as one answer gives.
struct Stages {
    records: Vec<Record>,
    more: bool,
}

impl Search {
    /// The records of one request: the same cluster, audit id and time of arrival. A client may use an audit id twice.
    async fn stages(&self, record: &Record, scope: &Scope) -> Result<Stages, ApiError> {
        let Some(request) = RequestKey::of(record) else {
            return Ok(Stages { records: vec![record.clone()], more: false });
        };
        let query = self.parse(&request.query(&record.envelope.cluster), scope)?;
        let found = self.find(&query, SearchRequest::newest(MAX_STAGES)).await?;
        let fetched = self.fetch(&found.hits, &mut None, PENDING_WAIT).await?;
        let is_short = fetched.done < found.hits.len() || !fetched.gone.is_empty();
        let more = found.next.is_some() || found.partial.is_some() || is_short;
        let mut records = fetched.records;
        records.retain(|other| RequestKey::of(other).as_ref() == Some(&request));
        if !records.iter().any(|other| other.envelope.id == record.envelope.id) {
            records.push(record.clone());
        }
        records.sort_by_key(|other| (other.envelope.at, other.envelope.seq));
        Ok(Stages { records, more })
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

    /// What finds the records of the request, and none of another one where the time of arrival is known.
    fn query(&self, cluster: &str) -> String {
        let named = format!("audit_id:={} cluster:={}", quoted(&self.audit_id), quoted(cluster));
        match self.received {
            Some(received) => format!("{named} received:\"{received}\""),
            None => named,
        }
    }
}

/// A value of the query language that means exactly `text`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
