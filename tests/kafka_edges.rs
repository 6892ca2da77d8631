//! Kafka's edges on a real cluster: large events, lost ranges, topics made anew, unfit topics, rebalances, outages.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod support {
    pub(crate) mod engines;
    pub(crate) mod kafka;
}

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ingest::{
    log::{
        Log, LogError, Offset, Reader, Safety,
        kafka::{KafkaLog, KafkaOptions},
    },
    record::{Envelope, MAX_EVENT_BYTES, Record},
};
use support::{
    engines::{self, Own, unique},
    kafka::{
        Follower, admin, create_topic, dead_letters, delete_records, delete_topic, produce_raw, record,
        record_of,
    },
};
use tokio::time::{Instant, timeout};

/// Long enough for a group to give up on a member, short enough for a test. Brokers allow no less than 6 s by default.
const SESSION: &str = "6000";

fn options(brokers: &str, partitions: i32) -> KafkaOptions {
    KafkaOptions { partitions, ..KafkaOptions::new(brokers, unique("edges")) }
}

async fn open(options: &KafkaOptions) -> KafkaLog {
    KafkaLog::open(options.clone()).await.unwrap()
}

/// Appends as often as it takes, as the relay does.
async fn append_at_last(log: &KafkaLog, record: Record) {
    let deadline = Instant::now() + engines::PATIENCE;
    while let Err(error) = log.append(std::slice::from_ref(&record)).await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// An event of `len` bytes that does not compress well.
fn noise(len: usize) -> Bytes {
    let (before, after) = (r#"{"noise":""#, r#""}"#);
    let mut event = before.as_bytes().to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    event.resize_with(len - after.len(), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'0' + (state >> 32) as u8 % 43
    });
    event.extend_from_slice(after.as_bytes());
    event.into()
}

fn whole() -> Reader {
    Reader::Whole { group: unique("whole") }
}

#[tokio::test]
async fn the_largest_event_crosses_with_small_ones_around_it() {
    let mut options = options(&engines::kafka(), 1);
    // Compression must not be what makes it fit.
    options.properties.insert("compression.type".into(), "none".into());
    let log = open(&options).await;
    let records =
        [record(1), record_of(2, noise(10 * 1024 * 1024)), record_of(3, noise(MAX_EVENT_BYTES)), record(4)];
    log.append(&records).await.unwrap();
    let mut reader = Follower::of(&log, whole()).await;
    let read = reader.until(|f| f.records.len() == 4).await;
    assert!(read.records.iter().map(|(_, r)| r).eq(&records), "the same bytes in the same order");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_before_it_is_sent() {
    let log = open(&options(&engines::kafka(), 1)).await;
    let refused = log.append(&[record_of(1, vec![b'x'; MAX_EVENT_BYTES + 1].into())]).await.unwrap_err();
    assert!(matches!(&refused, LogError::Refused(text) if text.contains("16777217")), "{refused}");
    assert_eq!(log.bounds().await.unwrap(), BTreeMap::from([(0, (Offset(0), Offset(0)))]));
}

#[tokio::test]
async fn a_topic_that_was_deleted_and_created_again_is_noticed_and_read_from_its_start() {
    let brokers = engines::kafka();
    let options = options(&brokers, 2);
    let log = open(&options).await;
    let former = log.id().await.unwrap();
    log.append(&(1..=10).map(record).collect::<Vec<_>>()).await.unwrap();
    let mut reader = Follower::of(&log, whole()).await;
    reader.until(|f| f.records.len() == 10).await;

    let admin = admin(&brokers);
    delete_topic(&admin, &options.topic).await;
    // Longer than the former one, so that its offsets alone would show nothing.
    open(&options).await.append(&(101..=130).map(record).collect::<Vec<_>>()).await.unwrap();
    let now = log.id().await.unwrap();
    assert_ne!(now, former);

    reader.positions.clear();
    let read = reader.until(|f| f.renewed.is_some() && f.seqs_since_renewal().len() == 30).await;
    let (id, read_before) = read.renewed.clone().unwrap();
    assert_eq!(id, now);
    // The reader may have been given entries of the new topic, at offsets of the former, before it saw the other id.
    assert!(read_before.values().map(|offset| offset.0).sum::<u64>() >= 10, "{read_before:?}");
    assert_eq!(read.seqs_since_renewal(), (101..=130).collect::<Vec<_>>());
    // The producer that knew the former topic goes on too.
    log.append(&[record(131)]).await.unwrap();
    reader.until(|f| f.records.last().is_some_and(|(_, r)| r.envelope.seq.0 == 131)).await;
}

#[tokio::test]
async fn a_topic_that_is_gone_is_an_error_that_says_so() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    delete_topic(&admin(&brokers), &options.topic).await;
    for error in [log.id().await.unwrap_err(), log.bounds().await.unwrap_err()] {
        assert!(
            matches!(&error, LogError::Unavailable(text) if text.contains("does not exist any more")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_range_that_retention_removed_before_the_start_is_told() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    log.append(&(1..=10).map(record).collect::<Vec<_>>()).await.unwrap();
    delete_records(&admin(&brokers), &options.topic, 0, 6).await;
    assert_eq!(log.bounds().await.unwrap(), BTreeMap::from([(0, (Offset(6), Offset(10)))]));

    let mut reader = Follower::of(&log, whole()).await;
    reader.positions = BTreeMap::from([(0, Offset(2))]);
    let read = reader.until(|f| f.records.len() == 4).await;
    assert_eq!(read.lost, [(0, Offset(2), Offset(6))]);
    assert_eq!(read.seqs(), [7, 8, 9, 10]);

    // A reader without a position begins at offset 0: what is gone of it is as lost.
    let mut fresh = Follower::of(&log, whole()).await;
    let read = fresh.until(|f| f.records.len() == 4).await;
    assert_eq!(read.lost, [(0, Offset(0), Offset(6))]);
}

#[tokio::test]
async fn a_range_that_retention_removes_ahead_of_a_slow_reader_is_told() {
    let brokers = engines::kafka();
    let mut options = options(&brokers, 1);
    // A reader that fetches next to nothing ahead.
    options.properties.insert("queued.max.messages.kbytes".into(), "1".into());
    options.properties.insert("fetch.message.max.bytes".into(), "1000".into());
    let log = open(&options).await;
    let noise = noise(100_000);
    // One message in each batch: a broker gives out whole batches.
    for seq in 1..=60 {
        log.append(&[record_of(seq, noise.clone())]).await.unwrap();
    }
    let mut reader = Follower::of(&log, whole()).await;
    reader.until(|f| !f.records.is_empty()).await;
    delete_records(&admin(&brokers), &options.topic, 0, 55).await;
    let read = reader.until(|f| f.records.last().is_some_and(|(_, r)| r.envelope.seq.0 == 60)).await;
    let [(0, from, Offset(55))] = read.lost[..] else { panic!("{:?}", read.lost) };
    let seqs: Vec<u64> = (1..=from.0).chain(56..=60).collect();
    assert_eq!(read.seqs(), seqs, "what was read and what was told as lost are everything");
}

#[tokio::test]
async fn a_topic_with_a_small_message_size_is_refused_with_what_to_set() {
    let brokers = engines::kafka();
    let (topic, dead_letter) = (options(&brokers, 1), options(&brokers, 1));
    for (small, options) in [(topic.topic.clone(), topic), (dead_letter.dead_letter(), dead_letter)] {
        create_topic(&admin(&brokers), &small, 1, &[("max.message.bytes", "1048588")]).await;
        let refused = KafkaLog::open(options).await.unwrap_err();
        let LogError::Refused(sentence) = refused else { panic!("{refused}") };
        for part in [&*small, "1048588", "max.message.bytes=17825792"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}

#[tokio::test]
async fn a_topic_with_fewer_partitions_is_refused_and_one_with_more_is_not() {
    let brokers = engines::kafka();
    let mut options = options(&brokers, 2);
    open(&options).await;
    options.partitions = 3;
    let refused = KafkaLog::open(options.clone()).await.unwrap_err();
    assert!(
        matches!(&refused, LogError::Refused(text) if text.contains("has 2 partitions, 3 are configured")),
        "{refused}"
    );
    options.partitions = 1;
    open(&options).await;
}

#[tokio::test]
async fn more_replicas_than_brokers_are_refused() {
    let options = KafkaOptions { replication: 9, ..options(&engines::kafka(), 1) };
    let refused = KafkaLog::open(options).await.unwrap_err();
    assert!(matches!(&refused, LogError::Refused(text) if text.contains("9 replicas")), "{refused}");
}

#[tokio::test]
async fn an_unreachable_broker_is_unavailable_with_the_reason() {
    let started = Instant::now();
    let error = KafkaLog::open(options("127.0.0.1:1", 1)).await.unwrap_err();
    assert!(matches!(&error, LogError::Unavailable(text) if text.contains("Connection refused")), "{error}");
    assert!(started.elapsed() < engines::PATIENCE);
}

#[tokio::test]
async fn one_replica_is_not_called_safe() {
    let log = open(&options(&engines::kafka(), 1)).await;
    assert_eq!(log.append(&[record(1)]).await.unwrap(), Safety::OneReplica);
}

#[tokio::test]
async fn published_positions_are_the_groups_committed_offsets() {
    let log = open(&options(&engines::kafka(), 1)).await;
    log.append(&(1..=5).map(record).collect::<Vec<_>>()).await.unwrap();
    for reader in [
        Reader::Whole { group: unique("group") },
        Reader::Member { group: unique("group"), member: "a".into() },
    ] {
        let (Reader::Whole { group } | Reader::Member { group, .. }) = reader.clone();
        assert_eq!(log.published(&group).await.unwrap(), BTreeMap::new());
        let mut follower = Follower::of(&log, reader).await;
        follower.until(|f| f.records.len() == 5).await;
        let wanted = BTreeMap::from([(0, Offset(4))]);
        follower.subscription.publish(&wanted).await.unwrap();
        let deadline = Instant::now() + engines::PATIENCE;
        while log.published(&group).await.unwrap() != wanted {
            assert!(Instant::now() < deadline, "the position of {group} does not arrive");
            follower.subscription.poll(1, Duration::from_millis(50)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_no_record_goes_to_the_dead_letter_topic_with_its_reason() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    produce_raw(&brokers, &options.topic, None, b"not ours").await;
    produce_raw(&brokers, &options.topic, Some(("muniment-envelope", b"{\"v\":")), b"half an envelope").await;
    produce_raw(&brokers, &options.topic, Some(("other", b"x")), b"other header").await;
    log.append(&[record(1)]).await.unwrap();

    let mut reader = Follower::of(&log, whole()).await;
    let read = reader.until(|f| f.records.len() == 1).await;
    let reasons: Vec<&str> = read.poison.iter().map(|(_, _, poison)| poison.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("no header muniment-envelope"), "{reasons:?}");
    assert!(reasons[1].contains("envelope does not parse") && reasons[1].contains("EOF"), "{reasons:?}");
    assert_eq!(read.poison[1].2.envelope.as_deref(), Some(&b"{\"v\":"[..]));

    for (partition, offset, poison) in &read.poison.clone() {
        log.set_aside(*partition, *offset, poison).await.unwrap();
    }
    let letters = dead_letters(&brokers, &options.dead_letter(), 3).await;
    for (offset, (letter, body)) in
        letters.iter().zip([&b"not ours"[..], b"half an envelope", b"other header"]).enumerate()
    {
        assert_eq!(letter.value, body);
        assert_eq!(letter.headers["muniment-offset"], offset.to_string());
        assert_eq!(letter.headers["muniment-topic"], options.topic);
        assert_eq!(letter.headers["muniment-reason"], reasons[offset]);
    }
}

#[tokio::test]
async fn what_no_store_could_keep_or_show_is_no_record() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    let fit = record(1);
    let with = |change: fn(&mut Envelope)| {
        let mut envelope = fit.envelope.clone();
        change(&mut envelope);
        envelope
    };
    let event: &[u8] = &fit.event;
    let unfit: [(Envelope, &[u8], &str); 8] = [
        (with(|e| e.cluster = "de\0mo".into()), event, "cluster has a NUL"),
        (with(|e| e.source = "host\0".into()), event, "source has a NUL"),
        (with(|e| e.rules = "\0".into()), event, "rules has a NUL"),
        (with(|e| e.at = e.at.day().plus(1).start()), event, "its id of"),
        (fit.envelope.clone(), b"no JSON", "no JSON object"),
        (fit.envelope.clone(), b"[1]", "no JSON object"),
        (fit.envelope.clone(), b"{\"a\":1} {}", "no JSON object"),
        (fit.envelope.clone(), b"{\"a\":\"\xff\"}", "no JSON object"),
    ];
    for (envelope, event, _) in &unfit {
        let mut json = Vec::new();
        envelope.write_json(&mut json);
        produce_raw(&brokers, &options.topic, Some(("muniment-envelope", &json)), event).await;
    }
    log.append(std::slice::from_ref(&fit)).await.unwrap();

    let mut reader = Follower::of(&log, whole()).await;
    let read = reader.until(|f| !f.records.is_empty()).await;
    assert_eq!(read.seqs(), [1]);
    assert_eq!(read.records[0].1, fit);
    let reasons: Vec<&str> = read.poison.iter().map(|(_, _, poison)| poison.reason.as_str()).collect();
    assert_eq!(reasons.len(), unfit.len(), "{reasons:?}");
    for (reason, (_, event, wanted)) in reasons.iter().zip(&unfit) {
        assert!(reason.contains(wanted), "{wanted}: {reasons:?}");
        assert!(read.poison.iter().any(|(_, _, poison)| poison.event == event && poison.envelope.is_some()));
    }
}

#[tokio::test]
async fn members_share_the_partitions_and_take_over_those_of_one_that_is_gone() {
    let mut options = options(&engines::kafka(), 4);
    // Who comes back has nearly all of the session for it, because it was heard of just before.
    options.properties.insert("session.timeout.ms".into(), "10000".into());
    options.properties.insert("heartbeat.interval.ms".into(), "500".into());
    let log = open(&options).await;
    let group = unique("members");
    let member = |name: &str| Reader::Member { group: group.clone(), member: name.to_owned() };
    let mut a = Follower::of(&log, member("a")).await;
    a.until(|f| f.owned.len() == 4).await;
    let mut b = Follower::of(&log, member("b")).await;
    let shared = async {
        while a.owned.len() != 2 || b.owned.len() != 2 {
            a.step().await;
            b.step().await;
        }
    };
    timeout(engines::PATIENCE, shared).await.expect("two partitions each");
    assert!(a.owned.is_disjoint(&b.owned));
    assert_eq!(a.revoked, 2, "of four only the two that went to the other");

    // Back under its name before the group has given it up: what was its own is, and the other one keeps its own.
    let (of_a, of_b) = (a.owned.clone(), b.owned.clone());
    drop(b);
    let mut b = Follower::of(&log, member("b")).await;
    let back = async {
        while b.owned != of_b {
            a.step().await;
            b.step().await;
        }
    };
    timeout(engines::PATIENCE, back).await.expect("its partitions again");
    assert_eq!((&a.owned, a.revoked), (&of_a, 2), "nothing moved");

    drop(b);
    // Four sources' worth of records: some in each partition that was the other's.
    log.append(&(1..=200).map(support::kafka::record_of_some_source).collect::<Vec<_>>()).await.unwrap();
    let read = a.until(|f| f.owned.len() == 4 && f.records.len() == 200).await;
    assert_eq!(read.seqs_sorted(), (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_member_that_stops_polling_loses_its_partitions_and_learns_of_it() {
    let mut options = options(&engines::kafka(), 2);
    options.properties.insert("session.timeout.ms".into(), SESSION.into());
    options.properties.insert("max.poll.interval.ms".into(), SESSION.into());
    let log = open(&options).await;
    let group = unique("members");
    let member = |name: &str| Reader::Member { group: group.clone(), member: name.to_owned() };
    let mut stuck = Follower::of(&log, member("stuck")).await;
    stuck.until(|f| f.owned.len() == 2).await;
    let mut other = Follower::of(&log, member("other")).await;
    // `stuck` says nothing from here on.
    other.until(|f| f.owned.len() == 2).await;
    stuck.until(|f| f.revoked > 0).await;
    let shared = async {
        while stuck.owned.len() != 1 || other.owned.len() != 1 {
            stuck.step().await;
            other.step().await;
        }
    };
    timeout(engines::PATIENCE, shared).await.expect("one partition each");
}

#[tokio::test]
async fn a_broker_that_stops_for_a_while_loses_nothing() {
    let mut own = Own::start(&["kafka"]);
    let mut options = options(own.kafka(), 2);
    options.properties.insert("delivery.timeout.ms".into(), "3000".into());
    let log = open(&options).await;
    let mut reader = Follower::of(&log, whole()).await;
    log.append(&[record(1)]).await.unwrap();
    reader.until(|f| f.records.len() == 1).await;

    own.kill("kafka");
    let error = log.append(&[record(2)]).await.unwrap_err();
    assert!(matches!(&error, LogError::Unavailable(_)), "{error}");
    own.begin_again(&["kafka"]);
    append_at_last(&log, record(2)).await;
    let read = reader.until(|f| f.seqs().contains(&2)).await;
    assert_eq!(read.lost, []);

    // Frozen: connections stay open and nobody answers.
    own.pause("kafka");
    let error = log.append(&[record(3)]).await.unwrap_err();
    assert!(matches!(&error, LogError::Unavailable(_)), "{error}");
    own.unpause("kafka");
    append_at_last(&log, record(3)).await;
    reader.until(|f| f.seqs().contains(&3)).await;
}

#[tokio::test]
async fn records_are_safe_on_two_replicas_and_refused_on_one() {
    let mut own = Own::start(&["kafka3"]);
    let mut options = KafkaOptions { replication: 3, ..options(own.kafka3(), 1) };
    options.properties.insert("delivery.timeout.ms".into(), "5000".into());
    let log = open(&options).await;
    assert_eq!(log.append(&[record(1)]).await.unwrap(), Safety::Safe);
    own.kill("kafka3-3");
    append_at_last(&log, record(2)).await;
    own.kill("kafka3-2");
    let error = log.append(&[record(3)]).await.unwrap_err();
    assert!(matches!(&error, LogError::Unavailable(_)), "{error}");
    own.begin_again(&["kafka3-2"]);
    append_at_last(&log, record(4)).await;
    let mut reader = Follower::of(&log, whole()).await;
    let read = reader.until(|f| f.records.iter().any(|(_, r)| r.envelope.seq.0 == 4)).await;
    assert!([1, 2, 4].iter().all(|seq| read.seqs().contains(seq)), "{:?}", read.seqs());
}

#[tokio::test]
async fn partitions_that_are_added_are_read_too() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    let mut reader = Follower::of(&log, whole()).await;
    reader.until(|f| f.owned.len() == 1).await;
    support::kafka::add_partitions(&admin(&brokers), &options.topic, 3).await;
    reader.until(|f| f.owned.len() == 3).await;
    log.append(&(1..=100).map(support::kafka::record_of_some_source).collect::<Vec<_>>()).await.unwrap();
    let read = reader.until(|f| f.records.len() == 100).await;
    assert_eq!(read.lost, []);
}

#[tokio::test]
async fn what_compaction_took_out_of_the_middle_is_told() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    // Each in a segment of its own, all under one key: the last of the closed ones stays.
    support::kafka::set(&admin(&brokers), &options.topic, &[("segment.ms", "50")]).await;
    for seq in 1..=6 {
        log.append(&[record(seq)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let compact = [("cleanup.policy", "compact"), ("segment.ms", "50"), ("min.cleanable.dirty.ratio", "0")];
    support::kafka::set(&admin(&brokers), &options.topic, &compact).await;
    let deadline = Instant::now() + engines::PATIENCE;
    let read = loop {
        let mut reader = Follower::of(&log, whole()).await;
        reader.until(|f| f.seqs().last() == Some(&6)).await;
        if !reader.lost.is_empty() {
            break reader;
        }
        assert!(Instant::now() < deadline, "nothing is compacted");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let told: u64 = read.lost.iter().map(|(_, from, to)| to.0 - from.0).sum();
    assert_eq!(told + read.records.len() as u64, 6, "{:?} and {:?}", read.lost, read.seqs());
}

#[tokio::test]
async fn markers_of_transactions_are_no_loss_and_what_was_taken_back_is_given() {
    let brokers = engines::kafka();
    let options = options(&brokers, 1);
    let log = open(&options).await;
    // Entries of another program: two that count and one that does not, each with a marker behind it.
    log.append(&[record(1)]).await.unwrap();
    support::kafka::transact(&brokers, &options.topic, &[(b"a", true), (b"b", false), (b"c", true)]).await;
    log.append(&[record(2)]).await.unwrap();
    let mut reader = Follower::of(&log, whole()).await;
    let read = reader.until(|f| f.records.len() == 2).await;
    assert_eq!((read.poison.len(), &read.lost), (3, &vec![]));
    assert_eq!(log.bounds().await.unwrap()[&0].1, Offset(8), "three markers have numbers too");

    // Who comes back just before a marker does not know what stood before.
    for position in [2, 4, 6] {
        let mut again = Follower::of(&log, whole()).await;
        again.positions = BTreeMap::from([(0, Offset(position))]);
        let read = again.until(|f| f.records.len() == 1).await;
        assert_eq!(read.lost, [], "from {position}");
    }
}
