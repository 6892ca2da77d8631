//! `GET /v1/completeness`: what every source numbered, what of it arrived, and why the rest did not.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use axum::{Extension, Json, extract::State, response::IntoResponse};
use index::ALL_TIME;
use ingest::{
    ledger::{BootSummary, Gap},
    pipeline::Unfinished,
    record::Boot,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{access::Results, asked::Query, errors::ApiError, search::Search, when};

/// The query of `GET /v1/completeness`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletenessQuery {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Whether no number of the boots below is missing, and no range of the log was noticed to be lost.
    complete: bool,
    boots: Vec<BootView>,
    /// Ranges that were noticed to be lost in this time, whether of a boot or of a partition of the log, and those of
    /// the boots above whenever they were noticed.
    gaps: Vec<Gap>,
    /// Requests of the gateway that arrived in this time and died between their stages, the earliest first, at most
    /// [`MAX_UNFINISHED`](ingest::ledger::MAX_UNFINISHED).
    unfinished: Vec<Unfinished>,
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
    Query(asked): Query<CompletenessQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let range = when::range(asked.from.as_deref(), asked.to.as_deref(), search.now())?;
    let ledger = search.ledger()?;
    let boots = ledger.boots(range.clone()).await?;
    // The boot that tells where one ended may have begun after the range.
    let later = ledger.boots(range.end..ALL_TIME.end).await?;
    let ends = named(boots.iter().chain(&later));
    let mut absent = ends.clone();
    absent.retain(|(_, boot), _| boot.started() < range.end);
    for boot in boots.iter().chain(&later) {
        absent.remove(&key_of(boot));
    }
    // A boot that is named may have been over before the range began: then it is not missing. Only what came before
    // tells whether a boot that names none is the first of its source.
    let earlier = if absent.is_empty() && !boots.iter().any(names_none) {
        Vec::new()
    } else {
        ledger.boots(ALL_TIME.start..range.start).await?
    };
    for boot in &earlier {
        absent.remove(&key_of(boot));
    }
    let cut = cut_off(&earlier, &boots, &later, &ends);
    let known = Known { ends, absent, cut, gaps: ledger.gaps().await? };
    let mut answer = answer(boots, known, &range);
    answer.unfinished = ledger.unfinished(range).await?;
    Ok((Extension(Results(answer.boots.len() as u64)), Json(answer)))
}

/// A boot of a source.
type Key = (Arc<str>, Boot);

fn key_of(boot: &BootSummary) -> Key {
    (boot.source.clone(), boot.boot)
}

/// The last number of each boot as the boot after it tells.
fn named<'b>(boots: impl Iterator<Item = &'b BootSummary>) -> BTreeMap<Key, u64> {
    boots.filter_map(|b| b.previous.map(|(boot, last)| ((b.source.clone(), boot), last))).collect()
}

/// Whether the boot's first record has arrived and tells of no boot before it: its journal was a new one.
fn names_none(boot: &BootSummary) -> bool {
    boot.previous.is_none() && boot.seen.first() == Some(1)
}

/// The boots whose end is not known, because the next boot of their source began with a new journal: each with its
/// last number that arrived. Those of the range, and those that were cut off by a boot of the range.
fn cut_off(
    earlier: &[BootSummary],
    boots: &[BootSummary],
    later: &[BootSummary],
    ends: &BTreeMap<Key, u64>,
) -> BTreeMap<Key, u64> {
    // A boot that journaled in the range and before or after it stands in both lists.
    let all: BTreeMap<Key, &BootSummary> =
        earlier.iter().chain(boots).chain(later).map(|boot| (key_of(boot), boot)).collect();
    let asked: BTreeSet<Key> = boots.iter().map(key_of).collect();
    let pairs = all.iter().zip(all.iter().skip(1));
    let cut = pairs.filter(|((before, _), (after, boot))| {
        before.0 == after.0
            && names_none(boot)
            && !ends.contains_key(before)
            && (asked.contains(before) || asked.contains(after))
    });
    cut.map(|((before, boot), _)| (before.clone(), boot.seen.last().unwrap_or(0))).collect()
}

/// What is known of the boots of a range besides what arrived of them.
#[derive(Default)]
struct Known {
    /// The last number of each boot that another one names.
    ends: BTreeMap<Key, u64>,
    /// Those of them of which nothing arrived.
    absent: BTreeMap<Key, u64>,
    /// Those whose end nobody tells, with their last number that arrived.
    cut: BTreeMap<Key, u64>,
    /// What was noticed to be lost, at any time.
    gaps: Vec<Gap>,
}

fn answer(boots: Vec<BootSummary>, known: Known, range: &Range<Timestamp>) -> Answer {
    let Known { ends, absent, mut cut, mut gaps } = known;
    let mut views: Vec<BootView> = boots
        .into_iter()
        .map(|boot| {
            let (key, end) = (key_of(&boot), ends.get(&key_of(&boot)).copied());
            let mut view = view(boot, end, &gaps);
            view.holes.extend(cut.remove(&key).map(open_end));
            view
        })
        .collect();
    // A boot that numbered nothing has nothing that could be missing.
    let absent = absent.iter().filter(|(_, last)| **last > 0);
    views.extend(absent.map(|(key, last)| absent_view(key, *last, &gaps)));
    views.extend(cut.into_iter().map(|(key, last)| missing_view(&key, open_end(last))));
    // The ids of boots grow with time.
    views.sort_by(|a, b| (&a.source, &a.boot).cmp(&(&b.source, &b.boot)));
    gaps.retain(|gap| {
        let is_of = |view: &BootView| gap.boot.is_some_and(|boot| boot.to_string() == view.boot);
        range.contains(&gap.at) || views.iter().any(is_of)
    });
    // What a lost range of the log held is not known: it may be any boot's. A lost range of a boot shows as a hole.
    let is_whole = !gaps.iter().any(|gap| gap.partition.is_some());
    Answer {
        complete: is_whole && views.iter().all(|b| b.holes.is_empty()),
        boots: views,
        gaps,
        unfinished: Vec::new(),
    }
}

fn absent_view((source, boot): &Key, last: u64, gaps: &[Gap]) -> BootView {
    let reason = known_reason(source, *boot, 1, last, gaps);
    let reason = reason.unwrap_or("nothing of this boot has arrived, the one after it names it").to_owned();
    missing_view(&(source.clone(), *boot), Hole { first: 1, last, reason })
}

/// What the journal held of a boot when it was lost.
fn open_end(last: u64) -> Hole {
    let reason = "the journal was begun anew after this boot: what it still held is not known";
    Hole { first: last + 1, last: Gap::OPEN, reason: reason.to_owned() }
}

/// A boot of which nothing arrived in the time that was asked for.
fn missing_view((source, boot): &Key, hole: Hole) -> BootView {
    BootView {
        source: source.clone(),
        boot: boot.to_string(),
        previous: None,
        first_seq: None,
        last_seq: None,
        count: 0,
        holes: vec![hole],
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

    fn of(boots: Vec<BootSummary>, gaps: Vec<Gap>) -> Answer {
        let ends = named(boots.iter());
        answer(boots, Known { ends, gaps, ..Known::default() }, &ALL_TIME)
    }

    fn gap(boot: Option<u128>, partition: Option<i32>, at: i64) -> Gap {
        Gap {
            source: boot.map(|_| "a".into()),
            boot: boot.map(|boot| Boot(Uuid::from_u128(boot))),
            first: 3,
            last: 4,
            partition,
            reason: "damaged".into(),
            at: Timestamp::from_micros(at),
        }
    }

    #[test]
    fn a_hole_is_shown_with_its_reason() {
        let answer = of(vec![boot(1, &[1, 2, 5, 7], None)], vec![gap(Some(1), None, 0)]);
        assert!(!answer.complete);
        assert_eq!(answer.boots[0].holes[0], Hole { first: 3, last: 4, reason: "damaged".into() });
        assert_eq!((answer.boots[0].holes[1].first, answer.boots[0].holes[1].last), (6, 6));
    }

    #[test]
    fn a_boot_that_names_none_leaves_the_end_of_the_one_before_it_open() {
        let first = boot(1, &[1, 2, 3], None);
        let [second, third] = [boot(2, &[1, 2], None), boot(3, &[1], Some((2, 2)))];
        let other = BootSummary { source: "b".into(), ..boot(9, &[1], None) };
        let open = |earlier: &[BootSummary], asked: &[BootSummary], later: &[BootSummary]| {
            let ends = named(asked.iter().chain(later));
            let cut = cut_off(earlier, asked, later, &ends);
            answer(asked.to_vec(), Known { ends, cut, ..Known::default() }, &ALL_TIME)
        };
        let all = [first.clone(), second.clone(), third.clone(), other.clone()];
        let answer = open(&[], &all, &[]);
        assert!(!answer.complete);
        assert_eq!(answer.boots[0].holes, [open_end(3)]);
        assert!(answer.boots[1..].iter().all(|boot| boot.holes.is_empty()));
        // Whichever of the two was asked for, the end that is missing shows.
        for (earlier, asked, later) in [
            (&all[..1], &all[1..2], &all[2..]),
            (&[][..], &all[..1], &all[1..]),
            (&all[..1], &all[1..], &[][..]),
        ] {
            let answer = open(earlier, asked, later);
            assert!(!answer.complete, "{answer:?}");
            assert_eq!(answer.boots[0].holes, [open_end(3)]);
        }
        assert!(open(&all[..2], &all[2..], &[]).complete, "the third boot's predecessor is known");
        // As long as its first record has not arrived, a boot tells nothing of the one before it.
        let answer = open(&[], &[first, boot(2, &[2], None)], &[]);
        assert!(answer.boots[0].holes.is_empty());
    }

    #[test]
    fn a_lost_range_of_the_log_is_not_complete_in_the_time_when_it_was_noticed() {
        let range = |start, end| Timestamp::from_micros(start)..Timestamp::from_micros(end);
        for (asked, complete) in [(range(0, 50), true), (range(50, 51), false), (range(51, 99), true)] {
            let known = Known { gaps: vec![gap(None, Some(2), 50)], ..Known::default() };
            let answer = answer(vec![boot(1, &[1, 2], None)], known, &asked);
            assert_eq!((answer.complete, answer.gaps.is_empty()), (complete, complete), "{asked:?}");
        }
    }

    #[test]
    fn a_range_of_a_boot_that_was_lost_after_it_had_arrived_is_not_missing() {
        let known = Known { gaps: vec![gap(Some(1), None, 50)], ..Known::default() };
        let early = Timestamp::from_micros(0)..Timestamp::from_micros(10);
        let answer = answer(vec![boot(1, &[1, 2, 3, 4], None)], known, &early);
        assert!(answer.complete);
        assert_eq!(answer.gaps.len(), 1);
    }

    #[test]
    fn a_lost_end_shows_because_the_next_boot_names_it() {
        let boots = vec![boot(1, &[1, 2], None), boot(2, &[1], Some((1, 4)))];
        let answer = of(boots, Vec::new());
        assert_eq!((answer.boots[0].holes[0].first, answer.boots[0].holes[0].last), (3, 4));
        assert!(answer.boots[1].holes.is_empty());
    }

    #[test]
    fn a_boot_of_which_nothing_arrived_is_a_hole_from_its_first_number() {
        let boots = vec![boot(2, &[1], Some((1, 4))), boot(3, &[1], Some((2, 1)))];
        let ends = named(boots.iter());
        let mut absent = ends.clone();
        absent.remove(&key_of(&boots[0]));
        let answer = answer(boots, Known { ends, absent, ..Known::default() }, &ALL_TIME);
        assert!(!answer.complete);
        assert_eq!(answer.boots.len(), 3);
        assert_eq!((answer.boots[0].count, answer.boots[0].holes[0].first), (0, 1));
        assert_eq!(answer.boots[0].holes[0].last, 4);
        assert!(answer.boots[1..].iter().all(|boot| boot.holes.is_empty()));
    }
}
