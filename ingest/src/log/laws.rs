//! The laws of [`Log`], as tests that every implementation runs.
//!
//! Each law is a function that is given a way to make an empty log; [`log_law_tests!`](crate::log_law_tests) makes a test of each.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests: a broken law panics")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Delivery, Log, LogError, Offset, Partition, Polled, Positions, Reader, Subscription};
use crate::{
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};

/// How long anything may take until a law counts as broken: brokers start groups slowly.
const BOUND: Duration = Duration::from_secs(60);

/// How long one poll waits.
const WAIT: Duration = Duration::from_millis(500);

/// Makes one test of each law. `$fresh` is an async function that makes an empty log and what keeps it alive.
#[macro_export]
macro_rules! log_law_tests {
    ($fresh:expr) => {
        $crate::log_law_tests!(@ $fresh;
            what_is_appended_is_delivered_to_every_group
            records_of_one_source_keep_their_order
            reading_from_a_position_gives_everything_at_and_after_it
            appending_twice_delivers_twice
            published_positions_are_kept_for_each_group
            a_batch_holds_at_most_what_was_asked_for
            starting_again_goes_back
            a_cancelled_poll_loses_nothing
            a_waiting_reader_gets_what_is_appended
            bounds_grow_by_what_is_appended
            a_member_takes_over_from_one_that_leaves
            a_record_of_ten_mebibytes_crosses
        );
    };
    (@ $fresh:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (log, _alive) = $fresh().await;
                $crate::log::laws::$law(::std::sync::Arc::new(log)).await;
            }
        )*
    };
}

fn record(cluster: &str, seq: u64) -> Record {
    let at = Timestamp::from_micros(1_700_000_000_000_000);
    Record {
        envelope: Envelope {
            v: Envelope::VERSION,
            id: RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() + u128::from(seq) + 1)),
            cluster: cluster.into(),
            source: "host-a".into(),
            boot: Boot(Uuid::from_u128(7)),
            seq: Seq(seq),
            received_at: Timestamp::from_micros(1_700_000_000_000_001),
            kind: Kind::Audit,
            at,
            rules: "abc".into(),
            redactions: 2,
        },
        event: Bytes::from(format!(r#"{{"auditID":"{cluster}-{seq}"}}"#)),
    }
}

/// `count` records of three clusters.
fn records(count: u64) -> Vec<Record> {
    (0..count).map(|i| record(["red", "green", "blue"][i as usize % 3], i)).collect()
}

fn whole(group: &str) -> Reader {
    Reader::Whole { group: group.into() }
}

/// A member of a group that no other test's members join, wherever logs share what keeps their groups.
fn member(group: Uuid, name: &str) -> Reader {
    Reader::Member { group: format!("shared-{group}"), member: name.into() }
}

/// A reader that follows what it is told, and starts at `positions`.
struct Follower {
    reading: Box<dyn Subscription>,
    positions: Positions,
}

impl Follower {
    async fn new(log: &Arc<dyn Log>, reader: Reader, positions: Positions) -> Self {
        Self { reading: log.subscribe(reader).await.unwrap(), positions }
    }

    /// The next entries, or none when nothing arrived.
    async fn next(&mut self, max: usize) -> Vec<Delivery> {
        match self.reading.poll(max, WAIT).await.unwrap() {
            Polled::Batch(entries) => {
                assert!(!entries.is_empty() && entries.len() <= max, "{} of {max}", entries.len());
                for e in &entries {
                    self.positions.insert(e.partition, Offset(e.offset.0 + 1));
                }
                // A local log begins with what its journal says of itself.
                let told = |e: &Delivery| e.record.as_ref().is_ok_and(|r| r.envelope.kind == Kind::Pipeline);
                return entries.into_iter().filter(|e| !told(e)).collect();
            }
            Polled::Assigned(partitions) => {
                let known = partitions.iter().filter_map(|p| Some((*p, *self.positions.get(p)?)));
                let start: Positions = known.collect();
                let all = partitions.iter().map(|p| (*p, start.get(p).copied().unwrap_or_default()));
                let all: Positions = all.collect();
                // The leader of a partition that was just made may not be known for an instant: callers try again.
                let begun = std::time::Instant::now();
                while let Err(error) = self.reading.start(&all).await {
                    let passes = matches!(error, LogError::Unavailable(_));
                    assert!(passes && begun.elapsed() < BOUND, "{error}");
                }
            }
            Polled::Idle | Polled::Revoked(_) => {}
            other => panic!("{other:?}"),
        }
        Vec::new()
    }

    /// The next `count` entries.
    async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let all = async {
            while taken.len() < count {
                taken.extend(self.next(count - taken.len()).await);
            }
        };
        timeout(BOUND, all).await.unwrap_or_else(|_| panic!("fewer than {count} entries came"));
        taken
    }
}

/// The records, by cluster and in the order delivered.
fn by_cluster(entries: Vec<Delivery>) -> BTreeMap<Arc<str>, Vec<Record>> {
    let mut clusters: BTreeMap<Arc<str>, Vec<Record>> = BTreeMap::new();
    for record in entries.into_iter().map(|e| e.record.unwrap()) {
        clusters.entry(record.envelope.cluster.clone()).or_default().push(record);
    }
    clusters
}

fn expected(records: &[Record]) -> BTreeMap<Arc<str>, Vec<Record>> {
    let entry = |r: &Record| Delivery { partition: 0, offset: Offset(0), record: Ok(r.clone()) };
    by_cluster(records.iter().map(entry).collect())
}

/// Law 1.
pub async fn what_is_appended_is_delivered_to_every_group(log: Arc<dyn Log>) {
    let records = records(30);
    log.append(&records).await.unwrap();
    for reader in [whole("one"), whole("two"), member(Uuid::new_v4(), "a")] {
        let mut follower = Follower::new(&log, reader, Positions::new()).await;
        assert_eq!(by_cluster(follower.take(30).await), expected(&records));
    }
}

/// Law 2.
pub async fn records_of_one_source_keep_their_order(log: Arc<dyn Log>) {
    let records = records(300);
    for some in records.chunks(7) {
        log.append(some).await.unwrap();
    }
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    let entries = follower.take(300).await;
    let mut last: BTreeMap<Partition, Offset> = BTreeMap::new();
    for e in &entries {
        assert!(last.insert(e.partition, e.offset).is_none_or(|before| before < e.offset));
    }
    assert_eq!(by_cluster(entries), expected(&records));
}

/// Law 3.
pub async fn reading_from_a_position_gives_everything_at_and_after_it(log: Arc<dyn Log>) {
    log.append(&records(60)).await.unwrap();
    let mut first = Follower::new(&log, whole("one"), Positions::new()).await;
    let mut read = first.take(25).await;
    let mut second = Follower::new(&log, whole("one"), first.positions.clone()).await;
    read.extend(second.take(35).await);
    assert_eq!(by_cluster(read), expected(&records(60)));
}

/// Law 4.
pub async fn appending_twice_delivers_twice(log: Arc<dyn Log>) {
    let once = records(5);
    log.append(&once).await.unwrap();
    log.append(&once).await.unwrap();
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    assert_eq!(by_cluster(follower.take(10).await), expected(&[once.clone(), once].concat()));
}

/// Law 5.
pub async fn published_positions_are_kept_for_each_group(log: Arc<dyn Log>) {
    log.append(&records(9)).await.unwrap();
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    follower.take(9).await;
    let positions = follower.positions.clone();
    follower.reading.publish(&positions).await.unwrap();
    let mut published = log.published("one").await.unwrap();
    // Nobody waits for them to arrive.
    let arrive = async {
        while published != positions {
            tokio::time::sleep(WAIT).await;
            published = log.published("one").await.unwrap();
        }
    };
    timeout(BOUND, arrive).await.expect("what is published arrives");
    assert_eq!(log.published("two").await.unwrap(), Positions::new());
}

/// What [`Subscription::poll`] says of `max`.
pub async fn a_batch_holds_at_most_what_was_asked_for(log: Arc<dyn Log>) {
    log.append(&records(20)).await.unwrap();
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    let mut count = 0;
    let all = async {
        while count < 20 {
            // The follower checks that no batch is longer.
            count += follower.next(3).await.len();
        }
    };
    timeout(BOUND, all).await.unwrap();
}

/// What [`Subscription::start`] says of beginning again.
pub async fn starting_again_goes_back(log: Arc<dyn Log>) {
    log.append(&records(12)).await.unwrap();
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    let first = follower.take(12).await;
    let begin = first.iter().map(|e| (e.partition, Offset(0))).collect();
    follower.reading.start(&begin).await.unwrap();
    assert_eq!(by_cluster(follower.take(12).await), by_cluster(first));
}

/// What [`Subscription::poll`] says of cancelling.
pub async fn a_cancelled_poll_loses_nothing(log: Arc<dyn Log>) {
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    // It is told its partitions first and starts them: only polling may be cancelled.
    follower.next(7).await;
    let records = records(200);
    let append = async {
        for some in records.chunks(10) {
            log.append(some).await.unwrap();
        }
    };
    let read = async {
        let mut read = Vec::new();
        while read.len() < 200 {
            for micros in [0, 50, 500] {
                let polled = timeout(Duration::from_micros(micros), follower.next(7)).await;
                read.extend(polled.unwrap_or_default());
            }
            read.extend(follower.next(7).await);
        }
        read
    };
    let ((), read) = timeout(BOUND, async { tokio::join!(append, read) }).await.unwrap();
    assert_eq!(by_cluster(read), expected(&records));
}

/// What [`Subscription::poll`] says of waiting.
pub async fn a_waiting_reader_gets_what_is_appended(log: Arc<dyn Log>) {
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    log.append(&records(1)).await.unwrap();
    follower.take(1).await;
    assert!(follower.next(10).await.is_empty(), "nothing more was appended");
    let later = record("red", 77);
    let (taken, appended) = tokio::join!(follower.take(1), log.append(std::slice::from_ref(&later)));
    appended.unwrap();
    assert_eq!(by_cluster(taken), expected(&[later]));
}

/// What [`Log::bounds`] says.
pub async fn bounds_grow_by_what_is_appended(log: Arc<dyn Log>) {
    let held = |bounds: &BTreeMap<Partition, (Offset, Offset)>| -> u64 {
        bounds.values().map(|(start, end)| end.0 - start.0).sum()
    };
    let before = held(&log.bounds().await.unwrap());
    log.append(&records(8)).await.unwrap();
    assert_eq!(held(&log.bounds().await.unwrap()), before + 8);
    assert_eq!(log.id().await.unwrap(), log.id().await.unwrap());
}

/// What [`Reader::Member`] says: every partition has one reader, and finds another when that one leaves.
pub async fn a_member_takes_over_from_one_that_leaves(log: Arc<dyn Log>) {
    let group = Uuid::new_v4();
    log.append(&records(30)).await.unwrap();
    let mut first = Follower::new(&log, member(group, "a"), Positions::new()).await;
    let mut read = first.take(30).await;
    let positions = first.positions.clone();
    first.reading.publish(&positions).await.unwrap();
    drop(first);
    let mut second = Follower::new(&log, member(group, "b"), positions).await;
    let more: Vec<Record> = (30..60).map(|i| record(["red", "green", "blue"][i as usize % 3], i)).collect();
    log.append(&more).await.unwrap();
    read.extend(second.take(30).await);
    assert_eq!(by_cluster(read), expected(&records(60)));
}

/// What [`crate::record::MAX_EVENT_BYTES`] asks for.
pub async fn a_record_of_ten_mebibytes_crosses(log: Arc<dyn Log>) {
    let mut large = record("red", 1);
    large.event = format!(r#"{{"auditID":"{}"}}"#, "x".repeat(10 * 1024 * 1024)).into();
    let records = [large, record("red", 2)];
    log.append(&records).await.unwrap();
    let mut follower = Follower::new(&log, whole("one"), Positions::new()).await;
    assert_eq!(by_cluster(follower.take(2).await), expected(&records));
}
