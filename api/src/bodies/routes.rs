//! `/v1/keys/days`: the keys that seal bodies, and dropping one.

use axum::{Json, extract::State, http::StatusCode};
use ingest::{
    journal::Journal,
    pipeline::Fact,
    time::{Clock, Day},
};
use serde::Serialize;

use super::{DayKey, DayKeys, KeyError};
use crate::{
    asked::Path,
    errors::{ApiError, chain},
};

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Shredder {
    /// The keys.
    pub keys: DayKeys,
    /// Where it is recorded that one was dropped.
    pub journal: Journal,
    /// What the day is.
    pub clock: Clock,
}

#[derive(Debug, Serialize)]
pub(crate) struct Days {
    days: Vec<DayKey>,
}

pub(crate) async fn list(State(shredder): State<Shredder>) -> Result<Json<Days>, ApiError> {
    Ok(Json(Days { days: shredder.keys.list().await? }))
}

pub(crate) async fn shred(
    State(shredder): State<Shredder>,
    Path(day): Path<String>,
) -> Result<StatusCode, ApiError> {
    let day: Day = day
        .parse()
        .map_err(|_| ApiError::bad_request("bad_parameter", format!("{day:?} is no day as 2026-11-23")))?;
    if day >= shredder.clock.now().day() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "day_not_over",
            format!("{day} is not over (UTC), and its bodies are still sealed under its key"),
        ));
    }
    if !shredder.keys.shred(day).await? {
        return Err(ApiError::not_found(format!("{day} has no key: nothing of it was sealed")));
    }
    let fact = Fact::BodiesShredded { day: day.to_string() };
    shredder.journal.append(vec![fact.draft(&shredder.clock)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        tracing::warn!(error = chain(&error), "the keys of days cannot be used");
        Self::unavailable("day_keys_unavailable", chain(&error))
    }
}
