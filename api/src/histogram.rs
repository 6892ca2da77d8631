//! `GET /v1/histogram`: how many records match, over time.

use std::time::Duration;

use axum::{Extension, Json, extract::State, response::IntoResponse};
use index::{Histogram, HistogramRequest, QUERY_TIME};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    access::{Results, Scope},
    asked::Query,
    errors::ApiError,
    search::Search,
    when,
};

/// The length of a bucket when the caller does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(3_600);

/// The query of `GET /v1/histogram`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistogramQuery {
    #[serde(default)]
    q: String,
    from: Option<String>,
    to: Option<String>,
    interval: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    interval_seconds: f64,
    total: u64,
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    buckets: Vec<Bucket>,
}

#[derive(Serialize)]
struct Bucket {
    at: Timestamp,
    count: u64,
}

pub(crate) async fn histogram(
    State(search): State<Search>,
    scope: Scope,
    Query(asked): Query<HistogramQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let filter = search.parse(&asked.q, &scope)?;
    let range = when::range(asked.from.as_deref(), asked.to.as_deref(), search.now())?;
    let interval = interval(asked.interval.as_deref())?;
    let request = HistogramRequest { range, interval, time: QUERY_TIME };
    let counted = search.count(&filter, request).await?;
    Ok((Extension(Results(counted.total)), Json(answer(counted))))
}

fn interval(text: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_INTERVAL) };
    let read = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    read.filter(|d| *d >= Duration::from_millis(1)).ok_or_else(|| {
        ApiError::bad_request("bad_interval", format!("{text:?} is no interval: write it like 5m, 1h or 24h"))
    })
}

fn answer(found: Histogram) -> Answer {
    let step = found.interval.as_micros() as i64;
    let buckets = found
        .counts
        .iter()
        .zip(0..)
        .map(|(&count, i)| Bucket { at: Timestamp::from_micros(found.start.micros() + i * step), count });
    Answer {
        interval_seconds: found.interval.as_secs_f64(),
        total: found.total,
        partial: found.partial.is_some(),
        reason: found.partial.map(|partial| partial.as_str()),
        buckets: buckets.collect(),
    }
}
