//! The laws of [`Ledger`], as tests that every implementation runs.
//!
//! Each law is a function that is given a way to make an empty ledger; [`tests!`] makes a test of each.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests: a broken law panics")]

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use super::{Applied, Batch, Gap, Ledger, LedgerError};
use crate::{
    identity::{DeploymentKey, KeyCheck},
    log::{LogId, Offset, Partition},
    pipeline::{Announced, Asked, Fact, Fate, Previous, Unfinished},
    ranges::Ranges,
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::{Clock, Day, Timestamp},
};

/// Makes one test of each law. `$fresh` is an async function that makes an empty ledger and what keeps it alive.
#[macro_export]
macro_rules! ledger_law_tests {
    ($fresh:expr) => {
        $crate::ledger_law_tests!(@ $fresh;
            a_batch_is_applied_whole_or_not_at_all
            an_id_that_is_there_already_changes_no_row
            an_id_twice_in_a_batch_is_one_row
            a_retry_over_midnight_changes_no_row
            a_batch_from_another_position_is_fenced
            of_two_readers_one_moves_the_position
            what_was_seen_outlives_the_rows
            a_number_that_arrives_again_counts_once
            numbers_may_arrive_in_any_order
            the_bytes_that_were_applied_come_back
            values_that_a_client_chose_do_no_harm
            a_scan_gives_every_record_in_order
            days_are_counted_and_expire
            four_hundred_days_fit_in_a_batch
            positions_belong_to_a_log
            gaps_are_kept_once
            a_boot_tells_of_itself_once
            a_request_that_died_is_told_once_and_outlives_the_rows
            an_absurd_count_of_rejected_items_stops_nothing
            the_first_key_check_stays
            first_key_checks_at_once_agree
        );
    };
    (@ $fresh:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                $crate::ledger::laws::$law($fresh).await;
            }
        )*
    };
}
pub use crate::ledger_law_tests as tests;

/// The log of the laws.
pub fn log() -> LogId {
    LogId("law".into())
}

/// A record with everything but its number, its time and its id's tail the same. The id comes of `at` and `tail`.
pub fn record(seq: u64, tail: u64, at: &str) -> Record {
    let at: Timestamp = at.parse().unwrap();
    let id =
        RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() | 0x8 << 76 | 0x8 << 60 | u128::from(tail)));
    Record {
        envelope: Envelope {
            v: Envelope::VERSION,
            id,
            cluster: "demo".into(),
            source: "host-a".into(),
            boot: boot(1),
            seq: Seq(seq),
            received_at: Timestamp::from_micros(at.micros() + 1_500),
            kind: Kind::Audit,
            at,
            rules: "5f3c".into(),
            redactions: 2,
        },
        event: Bytes::from(format!(r#"{{"level":"Metadata","auditID":"a-{tail}","verb":"get"}}"#)),
    }
}

fn boot(n: u128) -> Boot {
    Boot(Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0000 | n))
}

const NOON: &str = "2026-11-23T12:00:00.000001Z";

fn records(seqs: impl IntoIterator<Item = u64>) -> Vec<Record> {
    seqs.into_iter().map(|seq| record(seq, seq, NOON)).collect()
}

/// A batch that moves partition 0.
fn batch(from: u64, to: u64, records: Vec<Record>) -> Batch {
    Batch { records, moves: BTreeMap::from([(0, (Offset(from), Offset(to)))]), gaps: Vec::new() }
}

fn ids(records: &[Record]) -> Vec<RecordId> {
    records.iter().map(|record| record.envelope.id).collect()
}

fn always() -> std::ops::Range<Timestamp> {
    Timestamp::from_micros(i64::MIN)..Timestamp::from_micros(i64::MAX)
}

async fn apply(ledger: &impl Ledger, batch: &Batch) -> (u64, u64) {
    let Applied { inserted, duplicates } = ledger.apply(&log(), batch).await.unwrap();
    (inserted, duplicates)
}

async fn position(ledger: &impl Ledger, partition: Partition) -> Option<u64> {
    ledger.positions(&log()).await.unwrap().get(&partition).map(|offset| offset.0)
}

/// Law 1.
pub async fn a_batch_is_applied_whole_or_not_at_all<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    apply(&ledger, &batch(0, 5, records(1..=5))).await;
    let mut bad = batch(5, 8, records(6..=8));
    bad.moves.insert(1, (Offset(40), Offset(41)));
    bad.gaps.push(gap());
    let refused = ledger.apply(&log(), &bad).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Fenced { partition: 1, found: None, .. }), "{refused}");
    assert_eq!(position(&ledger, 0).await, Some(5));
    assert_eq!(position(&ledger, 1).await, None);
    assert!(ledger.get(&ids(&bad.records)).await.unwrap().is_empty());
    assert!(ledger.gaps().await.unwrap().is_empty());
    assert_eq!(ledger.boots(always()).await.unwrap()[0].seen, (1..=5).collect());
    assert_eq!(ledger.days().await.unwrap(), [("2026-11-23".parse().unwrap(), 5)]);
}

/// Law 2, over batches.
pub async fn an_id_that_is_there_already_changes_no_row<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let first = records(1..=100);
    assert_eq!(apply(&ledger, &batch(0, 100, first.clone())).await, (100, 0));
    let mut again = first.clone();
    for (i, record) in again.iter_mut().enumerate() {
        record.envelope.seq = Seq(101 + i as u64);
        record.envelope.source = "host-b".into();
        record.event = Bytes::from_static(b"{}");
    }
    again.extend(records(201..=207));
    assert_eq!(apply(&ledger, &batch(100, 207, again)).await, (7, 100));
    assert_eq!(ledger.get(&ids(&first)).await.unwrap(), first);
    assert_eq!(ledger.days().await.unwrap()[0].1, 107);
    let boots = ledger.boots(always()).await.unwrap();
    let counts: Vec<_> =
        boots.iter().map(|boot| (&*boot.source, boot.seen.count(), boot.duplicates)).collect();
    assert_eq!(counts, [("host-a", 107, 0), ("host-b", 100, 100)]);
}

/// Law 2, within a batch.
pub async fn an_id_twice_in_a_batch_is_one_row<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let (one, mut other) = (record(1, 1, NOON), record(2, 1, NOON));
    other.event = one.event.clone();
    assert_eq!(apply(&ledger, &batch(0, 2, vec![one.clone(), other])).await, (1, 1));
    assert_eq!(ledger.get(&[one.envelope.id]).await.unwrap(), [one]);
    let boots = ledger.boots(always()).await.unwrap();
    assert_eq!((boots[0].seen.clone(), boots[0].duplicates), ((1..=2).collect(), 1));
}

/// Law 2, over midnight: a retry is journaled on the next day and belongs to its event's day.
pub async fn a_retry_over_midnight_changes_no_row<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let mut first = record(1, 1, "2026-11-23T23:59:59.980000Z");
    first.envelope.received_at = "2026-11-23T23:59:59.990000Z".parse().unwrap();
    let mut retry = first.clone();
    retry.envelope.seq = Seq(2);
    retry.envelope.received_at = "2026-11-24T00:00:00.010000Z".parse().unwrap();
    assert_eq!(first.envelope.received_at.day().plus(1), retry.envelope.received_at.day());
    assert_eq!(apply(&ledger, &batch(0, 1, vec![first.clone()])).await, (1, 0));
    assert_eq!(apply(&ledger, &batch(1, 2, vec![retry])).await, (0, 1));
    assert_eq!(ledger.days().await.unwrap(), [("2026-11-23".parse().unwrap(), 1)]);
    assert_eq!(ledger.get(&[first.envelope.id]).await.unwrap(), [first]);
}

/// Law 3.
pub async fn a_batch_from_another_position_is_fenced<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let early = ledger.apply(&log(), &batch(3, 5, records(3..=5))).await.unwrap_err();
    assert!(
        matches!(early, LedgerError::Fenced { partition: 0, expected: Offset(3), found: None }),
        "{early}"
    );
    apply(&ledger, &batch(0, 5, records(1..=5))).await;
    for (from, to) in [(0, 5), (4, 9), (6, 9)] {
        let fenced = ledger.apply(&log(), &batch(from, to, records(6..=9))).await.unwrap_err();
        assert!(matches!(fenced, LedgerError::Fenced { found: Some(Offset(5)), .. }), "{fenced}");
    }
    assert_eq!(position(&ledger, 0).await, Some(5));
    assert_eq!(ledger.days().await.unwrap()[0].1, 5);
}

/// Law 3, at once.
pub async fn of_two_readers_one_moves_the_position<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    for round in 0..10 {
        let (from, to) = (round * 10, round * 10 + 10);
        let batch = batch(from, to, records(from + 1..=to));
        let log = log();
        let outcomes = tokio::join!(ledger.apply(&log, &batch), ledger.apply(&log, &batch));
        let won = [&outcomes.0, &outcomes.1].iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
    }
    assert_eq!(ledger.days().await.unwrap()[0].1, 100);
    assert_eq!(ledger.boots(always()).await.unwrap()[0].duplicates, 0);
}

/// Law 4.
pub async fn what_was_seen_outlives_the_rows<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let mut all = records(1..=10);
    all[4] = record(5, 1, NOON);
    assert_eq!(apply(&ledger, &batch(0, 10, all)).await, (9, 1));
    ledger.expire("2026-11-24".parse().unwrap()).await.unwrap();
    assert!(ledger.days().await.unwrap().is_empty());
    let boots = ledger.boots(always()).await.unwrap();
    assert_eq!(boots.len(), 1);
    assert_eq!((&*boots[0].source, boots[0].boot), ("host-a", boot(1)));
    assert_eq!(boots[0].seen, (1..=10).collect());
    assert_eq!(boots[0].duplicates, 1);
}

/// Law 4, for what the log delivers again.
pub async fn a_number_that_arrives_again_counts_once<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    apply(&ledger, &batch(0, 5, records(1..=5))).await;
    assert_eq!(apply(&ledger, &batch(5, 10, records(1..=5))).await, (0, 5));
    let boots = ledger.boots(always()).await.unwrap();
    assert_eq!((boots[0].seen.count(), boots[0].duplicates), (5, 0));
}

/// Law 4, for partitions that run apart; the numbers lie in several stored rows.
pub async fn numbers_may_arrive_in_any_order<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let numbers = [65_534, 65_536, 65_535, 3, 200_000, 1, 2, 65_537];
    for (i, seq) in numbers.into_iter().enumerate() {
        apply(&ledger, &batch(i as u64, i as u64 + 1, records([seq]))).await;
    }
    let boots = ledger.boots(always()).await.unwrap();
    assert_eq!(boots[0].seen, numbers.into_iter().collect::<Ranges>());
    let received = record(1, 1, NOON).envelope.received_at;
    let after = Timestamp::from_micros(received.micros() + 1);
    assert_eq!(boots[0].received, (received, received));
    assert_eq!(ledger.boots(received..after).await.unwrap(), boots);
    assert!(ledger.boots(after..Timestamp::from_micros(i64::MAX)).await.unwrap().is_empty());
    assert!(ledger.boots(Timestamp::from_micros(0)..received).await.unwrap().is_empty());
}

/// Law 5.
pub async fn the_bytes_that_were_applied_come_back<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let mut all = records(1..=7);
    all[0].event = Bytes::from_static(b"{ \"verb\" : \"get\",\n\t\"unknown\":1.0e400 , \"a\":1,\"a\":2}");
    all[1].event = Bytes::from_static(b"");
    all[2].event = Bytes::from_static(b"\xff\x00 no JSON");
    all[3].event = Bytes::from(format!(r#"{{"requestObject":"{}"}}"#, "0123456789abcdef".repeat(65_536)));
    all[4].envelope.kind = Kind::Access;
    all[5].envelope.kind = Kind::Pipeline;
    all[5].envelope.rules = "".into();
    all[6].envelope.cluster = "müniment".into();
    all[6].envelope.redactions = u32::MAX;
    apply(&ledger, &batch(0, 7, all.clone())).await;
    all.reverse();
    let mut wanted = ids(&all);
    wanted.insert(3, RecordId(Uuid::from_u128(1)));
    assert_eq!(ledger.get(&wanted).await.unwrap(), all);
    assert!(ledger.get(&[]).await.unwrap().is_empty());
}

/// Law 5, for what columns cannot hold.
pub async fn values_that_a_client_chose_do_no_harm<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let long = "ü".repeat(100_000);
    let events = [
        r#"{"auditID":"a\u0000b","verb":"\u0000","user":{"username":"'; DROP TABLE record; --"}}"#.to_owned(),
        format!(
            r#"{{"auditID":"{long}","verb":"{long}","user":{{"username":"{long}"}},"objectRef":{{"name":"{long}"}}}}"#
        ),
        r#"{"auditID":"B0F21D44-2FF0-4C89-98DF-BD20286AB0BB","responseStatus":{"code":99999999999}}"#
            .to_owned(),
        r#"{"auditID":7,"verb":null,"user":null,"objectRef":[],"responseStatus":{"code":"x"}}"#.to_owned(),
        r#"["no object"]"#.to_owned(),
    ];
    let mut all = records(1..=events.len() as u64);
    for (record, event) in all.iter_mut().zip(events) {
        record.event = event.into();
    }
    assert_eq!(apply(&ledger, &batch(0, 9, all.clone())).await.0, all.len() as u64);
    assert_eq!(ledger.get(&ids(&all)).await.unwrap(), all);
}

/// The contract of `scan`.
pub async fn a_scan_gives_every_record_in_order<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let stamps =
        ["2026-11-22T23:59:59.999999Z", "2026-11-23T00:00:00.000000Z", NOON, "2026-11-24T00:00:00.000000Z"];
    let mut all: Vec<Record> = (1..=40).map(|seq| record(seq, 100 - seq, stamps[seq as usize % 4])).collect();
    apply(&ledger, &batch(0, 40, all.clone())).await;
    all.sort_by_key(|record| record.envelope.id);
    let day = |text: &str| text.parse::<Day>().unwrap();
    let (mut got, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.scan(day("2026-11-22")..day("2026-11-25"), after, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.envelope.id);
        got.extend(page);
    }
    assert_eq!(got, all);
    let one = ledger.scan(day("2026-11-23")..day("2026-11-24"), None, 100).await.unwrap();
    assert_eq!(one, all[10..30]);
    assert!(ledger.scan(day("2026-11-24")..day("2026-11-24"), None, 100).await.unwrap().is_empty());
}

/// The contract of `days` and `expire`.
pub async fn days_are_counted_and_expire<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let stamps =
        ["2026-11-21T01:00:00.000000Z", "2026-11-22T02:00:00.000000Z", "2026-11-24T03:00:00.000000Z"];
    let all: Vec<Record> = (0..9).map(|seq| record(seq + 1, seq, stamps[seq as usize / 3])).collect();
    apply(&ledger, &batch(0, 9, all.clone())).await;
    let day = |text: &str| text.parse::<Day>().unwrap();
    let days = [day("2026-11-21"), day("2026-11-22"), day("2026-11-24")];
    assert_eq!(ledger.days().await.unwrap(), days.map(|day| (day, 3)));
    assert_eq!(ledger.expire(day("2026-11-23")).await.unwrap(), &days[..2]);
    assert!(ledger.expire(day("2026-11-23")).await.unwrap().is_empty());
    assert_eq!(ledger.days().await.unwrap(), [(days[2], 3)]);
    assert_eq!(ledger.get(&ids(&all)).await.unwrap(), all[6..]);
    let mut late = records([10]);
    late[0] = record(10, 10, stamps[0]);
    assert_eq!(apply(&ledger, &batch(9, 10, late.clone())).await, (1, 0));
    assert_eq!(ledger.get(&ids(&late)).await.unwrap(), late);
    assert_eq!(ledger.expire(day("2026-11-23")).await.unwrap(), [day("2026-11-21")]);
}

/// An import of old logs touches many days at once.
pub async fn four_hundred_days_fit_in_a_batch<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let first: Day = "2025-10-20".parse().unwrap();
    let all: Vec<Record> =
        (0..800).map(|i| record(i + 1, i, &first.plus(i as i32 * 7 % 400).start().to_string())).collect();
    assert_eq!(apply(&ledger, &batch(0, 800, all.clone())).await, (800, 0));
    assert_eq!(apply(&ledger, &batch(800, 1600, all.clone())).await, (0, 800));
    let days = ledger.days().await.unwrap();
    assert_eq!((days.len(), days.iter().map(|day| day.1).sum()), (400, 800));
    assert_eq!(ledger.get(&ids(&all)).await.unwrap(), all);
    assert_eq!(ledger.scan(first..first.plus(400), None, 1_000).await.unwrap().len(), 800);
    assert_eq!(ledger.expire(first.plus(399)).await.unwrap().len(), 399);
}

/// The contract of `positions` and `current_log`.
pub async fn positions_belong_to_a_log<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    assert_eq!(ledger.current_log().await.unwrap(), None);
    let mut first = batch(0, 5, records(1..=5));
    first.moves.insert(3, (Offset(0), Offset(70)));
    apply(&ledger, &first).await;
    assert_eq!(ledger.positions(&log()).await.unwrap(), [(0, Offset(5)), (3, Offset(70))].into());
    let other = LogId("another".into());
    assert!(ledger.positions(&other).await.unwrap().is_empty());
    assert_eq!(ledger.current_log().await.unwrap(), Some(log()));
    ledger.apply(&other, &batch(0, 2, records(6..=7))).await.unwrap();
    assert_eq!(ledger.current_log().await.unwrap(), Some(other));
    assert_eq!(position(&ledger, 0).await, Some(5));
    apply(&ledger, &batch(5, 6, Vec::new())).await;
    assert_eq!(ledger.current_log().await.unwrap(), Some(log()));
}

fn gap() -> Gap {
    Gap {
        source: Some("host-a".into()),
        boot: Some(boot(1)),
        first: 7,
        last: 9,
        partition: None,
        reason: "the journal was cut".into(),
        at: NOON.parse().unwrap(),
    }
}

/// Law 6, for gaps.
pub async fn gaps_are_kept_once<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let of_partition = Gap { source: None, boot: None, partition: Some(4), last: Gap::OPEN, ..gap() };
    let mut all = batch(0, 1, Vec::new());
    all.gaps = vec![gap(), of_partition];
    apply(&ledger, &all).await;
    all.moves.clear();
    apply(&ledger, &all).await;
    assert_eq!(ledger.gaps().await.unwrap(), all.gaps);
}

/// A count that a client made up must not stop the ledger: it is kept as large as the column can say.
pub async fn an_absurd_count_of_rejected_items_stops_nothing<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let clock = Clock::from_fn(|| NOON.parse().unwrap());
    let mut all = records(1..=3);
    for record in &mut all {
        let fact = Fact::Rejected {
            cluster: "demo".into(),
            count: u64::MAX,
            reasons: BTreeMap::new(),
            places: Vec::new(),
        };
        record.envelope.kind = Kind::Pipeline;
        record.event = fact.draft(&clock).event;
    }
    apply(&ledger, &batch(0, 2, all[..2].to_vec())).await;
    apply(&ledger, &batch(2, 3, all[2..].to_vec())).await;
    assert_eq!(ledger.boots(always()).await.unwrap()[0].rejected, i64::MAX as u64);
}

/// Law 6, for what an instance says of itself.
pub async fn a_boot_tells_of_itself_once<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let previous = Previous { boot: boot(0), last_seq: Seq(70) };
    let rejected =
        Fact::Rejected { cluster: "demo".into(), count: 3, reasons: BTreeMap::new(), places: Vec::new() };
    let facts = [
        Fact::Boot { previous: Some(previous), torn_bytes: 0 },
        rejected.clone(),
        Fact::Gap { gap: gap() },
        rejected,
        Fact::Stop,
        // No instance writes these, and the tables refuse them.
        Fact::Gap { gap: Gap { first: 9, last: 3, ..gap() } },
        Fact::Gap { gap: Gap { source: Some("a\0".into()), ..gap() } },
    ];
    let clock = Clock::from_fn(|| NOON.parse().unwrap());
    let mut all = records(1..=facts.len() as u64);
    for (record, fact) in all.iter_mut().zip(facts) {
        record.envelope.kind = Kind::Pipeline;
        record.event = fact.draft(&clock).event;
    }
    apply(&ledger, &batch(0, 3, all[..3].to_vec())).await;
    apply(&ledger, &batch(3, 10, all.clone())).await;
    apply(&ledger, &batch(10, 17, all)).await;
    let boots = ledger.boots(always()).await.unwrap();
    assert_eq!((boots[0].previous, boots[0].rejected), (Some((boot(0), 70)), 6));
    assert_eq!(ledger.gaps().await.unwrap(), [gap()]);
}

/// Law 6, for requests that died.
pub async fn a_request_that_died_is_told_once_and_outlives_the_rows<L: Ledger, G>(
    fresh: impl AsyncFn() -> (L, G),
) {
    let (ledger, _keep) = fresh().await;
    let at = |minute: i64| {
        Timestamp::from_micros(NOON.parse::<Timestamp>().unwrap().micros() + minute * 60_000_000)
    };
    let died = |minute: i64, audit_id: &str| Unfinished {
        request: Asked {
            audit_id: audit_id.into(),
            received: at(minute),
            // Whatever a client is called, a ledger keeps it.
            user: "a\0b".into(),
            verb: "create".into(),
            path: "/api/v1/namespaces/shop/configmaps".into(),
        },
        source: "host-a".into(),
        boot: boot(1),
        changes: vec![Announced {
            key: "configmaps/shop/a".into(),
            from: 3,
            fate: Fate::Stored,
            revision: Some(4),
        }],
        more: 0,
    };
    let both = [died(0, "x"), died(1, "y")];
    let clock = Clock::from_fn(|| NOON.parse().unwrap());
    let mut all = records(1..=2);
    for (record, unfinished) in all.iter_mut().zip(both.iter().rev().cloned()) {
        record.envelope.kind = Kind::Pipeline;
        record.event = Fact::Unfinished { unfinished }.draft(&clock).event;
    }
    apply(&ledger, &batch(0, 1, all[..1].to_vec())).await;
    apply(&ledger, &batch(1, 3, all.clone())).await;
    apply(&ledger, &batch(3, 5, all)).await;
    assert_eq!(ledger.unfinished(always()).await.unwrap(), both);
    assert_eq!(ledger.unfinished(at(0)..at(1)).await.unwrap(), both[..1]);
    assert_eq!(ledger.unfinished(at(1)..at(2)).await.unwrap(), both[1..]);
    assert_eq!(ledger.unfinished(at(2)..at(3)).await.unwrap(), []);
    assert!(!ledger.expire(at(0).day().plus(2)).await.unwrap().is_empty());
    assert_eq!(ledger.unfinished(always()).await.unwrap(), both);
}

fn key_check(byte: u8) -> KeyCheck {
    DeploymentKey::from_bytes([byte; 32]).check()
}

/// Law 7.
pub async fn the_first_key_check_stays<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    for own in [1, 2, 1] {
        assert_eq!(ledger.key_check(key_check(own)).await.unwrap(), key_check(1));
    }
}

/// Law 7, for first starts that race.
pub async fn first_key_checks_at_once_agree<L: Ledger, G>(fresh: impl AsyncFn() -> (L, G)) {
    let (ledger, _keep) = fresh().await;
    let checks = futures::future::join_all((0..8).map(|n| ledger.key_check(key_check(n)))).await;
    let first = *checks[0].as_ref().unwrap();
    assert!((0..8).any(|n| key_check(n) == first));
    assert!(checks.into_iter().all(|kept| kept.unwrap() == first));
}
