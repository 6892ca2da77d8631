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
    #[serde(skip_serializing_if = "Option::is_none")]
    first_received: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_received: Option<Timestamp>,
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
    let start = range.start;
    let boots = ledger.boots(range).await?;
    let mut absent = named(&boots);
    absent.retain(|key, _| !boots.iter().any(|boot| *key == key_of(boot)));
    // A boot that is named may have been over before the range began: then it is not missing.
    if !absent.is_empty() {
        let earlier = ledger.boots(Timestamp::from_micros(0)..start).await?;
        for boot in &earlier {
            absent.remove(&key_of(boot));
        }
    }
    let gaps = ledger.gaps().await?;
    Ok(Json(answer(boots, &absent, gaps)))
}

/// A boot of a source.
type Key = (Arc<str>, Boot);

fn key_of(boot: &BootSummary) -> Key {
    (boot.source.clone(), boot.boot)
}

/// The last number of each boot as the boot after it tells.
fn named(boots: &[BootSummary]) -> BTreeMap<Key, u64> {
    boots.iter().filter_map(|b| b.previous.map(|(boot, last)| ((b.source.clone(), boot), last))).collect()
}

/// `absent` are the boots that another one names and of which nothing arrived.
fn answer(boots: Vec<BootSummary>, absent: &BTreeMap<Key, u64>, gaps: Vec<Gap>) -> Answer {
    let ends = named(&boots);
    let mut views: Vec<BootView> = boots
        .into_iter()
        .map(|boot| {
            let end = ends.get(&key_of(&boot)).copied();
            view(boot, end, &gaps)
        })
        .collect();
    // A boot that numbered nothing has nothing that could be missing.
    let absent = absent.iter().filter(|(_, last)| **last > 0);
    views.extend(absent.map(|(key, last)| absent_view(key, *last, &gaps)));
    // The ids of boots grow with time.
    views.sort_by(|a, b| (&a.source, &a.boot).cmp(&(&b.source, &b.boot)));
    Answer { complete: views.iter().all(|b| b.holes.is_empty()), boots: views, gaps }
}

fn absent_view((source, boot): &Key, last: u64, gaps: &[Gap]) -> BootView {
    let reason = known_reason(source, *boot, 1, last, gaps);
    let reason = reason.unwrap_or("nothing of this boot has arrived, the one after it names it").to_owned();
    BootView {
        source: source.clone(),
        boot: boot.to_string(),
        previous: None,
        first_seq: None,
        last_seq: None,
        count: 0,
        holes: vec![Hole { first: 1, last, reason }],
        duplicates: 0,
        rejected: 0,
        first_received: None,
        last_received: None,
    }
}

/// `end` is the last number of the boot as the next boot tells it, so that a lost end shows.
fn view(boot: BootSummary, end: Option<u64>, gaps: &[Gap]) -> BootView {
    let last = boot.seen.last().max(end).unwrap_or(0);
    let holes = if last == 0 { Vec::new() } else { boot.seen.holes(1..=last) };
    let holes = holes.into_iter().map(|range| {
        let (first, last) = range.into_inner();
        let reason = known_reason(&boot.source, boot.boot, first, last, gaps);
        Hole {
            first,
            last,
            reason: reason.unwrap_or("has not arrived: on its way, or lost before the log").to_owned(),
        }
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
        first_received: Some(boot.received.0),
        last_received: Some(boot.received.1),
        source: boot.source,
    }
}

/// Why a range is missing, where that was noticed.
fn known_reason<'g>(
    source: &Arc<str>,
    boot: Boot,
    first: u64,
    last: u64,
    gaps: &'g [Gap],
) -> Option<&'g str> {
    let of_boot = gaps.iter().find(|gap| {
        gap.boot == Some(boot)
            && gap.source.as_ref().is_none_or(|named| named == source)
            && gap.first <= last
            && first <= gap.last
    });
    of_boot.map(|gap| &*gap.reason)
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
        let answer = answer(vec![boot(1, &[1, 2, 5, 7], None)], &BTreeMap::new(), vec![gap]);
        assert!(!answer.complete);
        assert_eq!(answer.boots[0].holes[0], Hole { first: 3, last: 4, reason: "damaged".into() });
        assert_eq!((answer.boots[0].holes[1].first, answer.boots[0].holes[1].last), (6, 6));
    }

    #[test]
    fn a_lost_end_shows_because_the_next_boot_names_it() {
        let boots = vec![boot(1, &[1, 2], None), boot(2, &[1], Some((1, 4)))];
        let answer = answer(boots, &BTreeMap::new(), Vec::new());
        assert_eq!((answer.boots[0].holes[0].first, answer.boots[0].holes[0].last), (3, 4));
        assert!(answer.boots[1].holes.is_empty());
    }

    #[test]
    fn a_boot_of_which_nothing_arrived_is_a_hole_from_its_first_number() {
        let boots = vec![boot(2, &[1], Some((1, 4))), boot(3, &[1], Some((2, 1)))];
        let mut absent = named(&boots);
        absent.remove(&key_of(&boots[0]));
        let answer = answer(boots, &absent, Vec::new());
        assert!(!answer.complete);
        assert_eq!(answer.boots.len(), 3);
        assert_eq!((answer.boots[0].count, answer.boots[0].holes[0].first), (0, 1));
        assert_eq!(answer.boots[0].holes[0].last, 4);
        assert!(answer.boots[1..].iter().all(|boot| boot.holes.is_empty()));
    }
}
