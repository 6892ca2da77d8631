//! `GET /v1/completeness`: what every source numbered, what of it arrived, and why the rest did not.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::IntoResponse,
};
use ingest::{
    ledger::{BootSummary, Gap},
    record::Boot,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{errors::ApiError, events::Search, when};

/// The query of `GET /v1/completeness`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletenessQuery {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Whether no number of the boots below is missing.
    complete: bool,
    boots: Vec<BootView>,
    /// Every range that was noticed to be lost, whether of a boot or of a partition of the log.
    gaps: Vec<Gap>,
}

#[derive(Debug, Serialize)]
struct BootView {
    source: Arc<str>,
    boot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousView>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    count: u64,
    holes: Vec<Hole>,
    duplicates: u64,
    rejected: u64,
    first_received: Timestamp,
    last_received: Timestamp,
}

#[derive(Debug, Serialize)]
struct PreviousView {
    boot: String,
    last_seq: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Hole {
    first: u64,
    last: u64,
    reason: String,
}

pub(crate) async fn completeness(
    State(search): State<Search>,
    query: Result<Query<CompletenessQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(asked) = query?;
    let range = when::range(asked.from.as_deref(), asked.to.as_deref(), search.clock.now())?;
    let ledger = search.ledger()?;
    let boots = ledger.boots(range).await?;
    let gaps = ledger.gaps().await?;
    Ok(Json(answer(boots, gaps)))
}

fn answer(boots: Vec<BootSummary>, gaps: Vec<Gap>) -> Answer {
    let ends: BTreeMap<(Arc<str>, Boot), u64> = boots
        .iter()
        .filter_map(|b| b.previous.map(|(boot, last)| ((b.source.clone(), boot), last)))
        .collect();
    let boots: Vec<BootView> = boots
        .into_iter()
        .map(|boot| {
            let end = ends.get(&(boot.source.clone(), boot.boot)).copied();
            view(boot, end, &gaps)
        })
        .collect();
    Answer { complete: boots.iter().all(|b| b.holes.is_empty()), boots, gaps }
}

/// `end` is the last number of the boot as the next boot tells it, so that a lost end shows.
fn view(boot: BootSummary, end: Option<u64>, gaps: &[Gap]) -> BootView {
    let last = boot.seen.last().max(end).unwrap_or(0);
    let holes = if last == 0 { Vec::new() } else { boot.seen.holes(1..=last) };
    let holes = holes.into_iter().map(|range| {
        let (first, last) = range.into_inner();
        Hole { first, last, reason: reason(&boot, first, last, gaps) }
    });
    let holes = holes.collect();
    BootView {
        boot: boot.boot.to_string(),
        previous: boot.previous.map(|(boot, last_seq)| PreviousView { boot: boot.to_string(), last_seq }),
        first_seq: boot.seen.first(),
        last_seq: boot.seen.last(),
        count: boot.seen.count(),
        holes,
        duplicates: boot.duplicates,
        rejected: boot.rejected,
        first_received: boot.received.0,
        last_received: boot.received.1,
        source: boot.source,
    }
}

fn reason(boot: &BootSummary, first: u64, last: u64, gaps: &[Gap]) -> String {
    let of_boot = gaps.iter().find(|gap| {
        gap.boot == Some(boot.boot)
            && gap.source.as_ref().is_none_or(|source| *source == boot.source)
            && gap.first <= last
            && first <= gap.last
    });
    match of_boot {
        Some(gap) => gap.reason.clone(),
        None => "has not arrived: on its way, or lost before the log".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn boot(number: u128, seen: &[u64], previous: Option<(u128, u64)>) -> BootSummary {
        BootSummary {
            source: "a".into(),
            boot: Boot(Uuid::from_u128(number)),
            previous: previous.map(|(boot, last)| (Boot(Uuid::from_u128(boot)), last)),
            seen: seen.iter().copied().collect(),
            received: (Timestamp::from_micros(0), Timestamp::from_micros(1)),
            duplicates: 0,
            rejected: 0,
        }
    }

    #[test]
    fn a_hole_is_shown_with_its_reason() {
        let gap = Gap {
            source: Some("a".into()),
            boot: Some(Boot(Uuid::from_u128(1))),
            first: 3,
            last: 4,
            partition: None,
            reason: "damaged".into(),
            at: Timestamp::from_micros(0),
        };
        let answer = answer(vec![boot(1, &[1, 2, 5, 7], None)], vec![gap]);
        assert!(!answer.complete);
        assert_eq!(answer.boots[0].holes[0], Hole { first: 3, last: 4, reason: "damaged".into() });
        assert_eq!((answer.boots[0].holes[1].first, answer.boots[0].holes[1].last), (6, 6));
    }

    #[test]
    fn a_lost_end_shows_because_the_next_boot_names_it() {
        let answer = answer(vec![boot(1, &[1, 2], None), boot(2, &[1], Some((1, 4)))], Vec::new());
        assert_eq!((answer.boots[0].holes[0].first, answer.boots[0].holes[0].last), (3, 4));
        assert!(answer.boots[1].holes.is_empty());
    }
}
