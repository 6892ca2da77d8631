//! Records, topics and readers for the tests of the log on Kafka.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary has this file as a module and uses a part of it"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use ingest::{
    log::{Log, LogError, LogId, Offset, Partition, Poison, Polled, Positions, Reader, Subscription},
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};
use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode,
    message::{Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::engines::PATIENCE;

pub fn record(seq: u64) -> Record {
    record_of(seq, Bytes::from(format!(r#"{{"level":"Metadata","auditID":"{seq}"}}"#)))
}

pub fn record_of(seq: u64, event: Bytes) -> Record {
    let at = Timestamp::from_micros(1_763_900_000_000_000 + seq as i64 * 1_000);
    Record {
        envelope: Envelope {
            v: Envelope::VERSION,
            id: RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() | u128::from(seq))),
            cluster: "demo".into(),
            source: "host-a".into(),
            boot: Boot(Uuid::from_u128(7)),
            seq: Seq(seq),
            received_at: at,
            kind: Kind::Audit,
            at,
            rules: "rules".into(),
            redactions: 0,
        },
        event,
    }
}

/// Sixteen sources, so that every one of a few partitions has some.
pub fn record_of_some_source(seq: u64) -> Record {
    let mut record = record(seq);
    record.envelope.source = format!("host-{}", seq % 16).into();
    record
}

/// A reader that starts what it is given, at `positions`, and keeps what it is told.
pub struct Follower {
    pub subscription: Box<dyn Subscription>,
    pub positions: Positions,
    pub owned: BTreeSet<Partition>,
    pub records: Vec<(Partition, Record)>,
    pub poison: Vec<(Partition, Offset, Poison)>,
    pub lost: Vec<(Partition, Offset, Offset)>,
    pub renewed: Option<(LogId, Positions)>,
    pub revoked: usize,
    pub unavailable: Option<String>,
    before_renewal: usize,
}

impl Follower {
    pub async fn of(log: &dyn Log, reader: Reader) -> Self {
        Self {
            subscription: log.subscribe(reader).await.unwrap(),
            positions: Positions::new(),
            owned: BTreeSet::new(),
            records: Vec::new(),
            poison: Vec::new(),
            lost: Vec::new(),
            renewed: None,
            revoked: 0,
            unavailable: None,
            before_renewal: 0,
        }
    }

    /// One poll. An unreachable log is no end: the next poll goes on.
    pub async fn step(&mut self) {
        match self.subscription.poll(500, Duration::from_millis(200)).await {
            Ok(polled) => self.take(polled).await,
            Err(LogError::Unavailable(text)) => {
                self.unavailable = Some(text);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn take(&mut self, polled: Polled) {
        match polled {
            Polled::Idle => {}
            Polled::Assigned(partitions) => {
                self.owned.extend(&partitions);
                let from =
                    self.positions.clone().into_iter().filter(|(p, _)| partitions.contains(p)).collect();
                self.subscription.start(&from).await.unwrap();
            }
            Polled::Revoked(partitions) => {
                self.revoked += partitions.len();
                self.owned.retain(|p| !partitions.contains(p));
            }
            Polled::Lost { partition, from, to, .. } => self.lost.push((partition, from, to)),
            Polled::Renewed { id, read, .. } => {
                self.owned.clear();
                self.before_renewal = self.records.len();
                self.renewed = Some((id, read));
            }
            Polled::Batch(batch) => {
                assert!(!batch.is_empty());
                for delivery in batch {
                    match delivery.record {
                        Ok(record) => self.records.push((delivery.partition, record)),
                        Err(poison) => self.poison.push((delivery.partition, delivery.offset, poison)),
                    }
                }
            }
        }
    }

    /// Reads until `done`.
    pub async fn until(&mut self, done: impl Fn(&Self) -> bool) -> &Self {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain: {} records, owned {:?}, lost {:?}, renewed {:?}, unavailable {:?}",
                self.records.len(),
                self.owned,
                self.lost,
                self.renewed,
                self.unavailable
            );
            self.step().await;
        }
        self
    }

    pub fn seqs(&self) -> Vec<u64> {
        self.records.iter().map(|(_, r)| r.envelope.seq.0).collect()
    }

    pub fn seqs_sorted(&self) -> Vec<u64> {
        let mut seqs = self.seqs();
        seqs.sort_unstable();
        seqs
    }

    pub fn seqs_since_renewal(&self) -> Vec<u64> {
        self.seqs().split_off(self.before_renewal)
    }
}

pub fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

pub async fn create_topic(
    admin: &AdminClient<DefaultClientContext>,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for &(key, value) in settings {
        topic = topic.set(key, value);
    }
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    until_exists(admin, name, true).await;
}

pub async fn delete_topic(admin: &AdminClient<DefaultClientContext>, name: &str) {
    admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    until_exists(admin, name, false).await;
}

async fn until_exists(admin: &AdminClient<DefaultClientContext>, name: &str, wanted: bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(10)).unwrap();
        let topic = metadata.topics().iter().find(|t| t.name() == name);
        if topic.is_some_and(|t| t.error().is_none() && !t.partitions().is_empty()) == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "the topic {name} does not change");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn add_partitions(admin: &AdminClient<DefaultClientContext>, name: &str, count: usize) {
    let more = NewPartitions::new(name, count);
    admin.create_partitions([&more], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
}

/// Removes everything before `offset`, as retention does.
pub async fn delete_records(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    partition: i32,
    offset: i64,
) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    let done = admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    assert!(done.elements().iter().all(|e| e.error().is_ok()));
}

/// Sends a message as some other program might.
pub async fn produce_raw(brokers: &str, topic: &str, header: Option<(&str, &[u8])>, value: &[u8]) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut message = FutureRecord::<(), [u8]>::to(topic).payload(value);
    if let Some((key, value)) = header {
        message = message.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
    }
    producer.send(message, PATIENCE).await.map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// Sets these of a topic, and the others as they are by default.
pub async fn set(admin: &AdminClient<DefaultClientContext>, topic: &str, settings: &[(&str, &str)]) {
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in settings {
        altered = altered.set(key, value);
    }
    admin.alter_configs([&altered], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
}

/// Sends each value in a transaction of its own, which counts or is taken back.
pub async fn transact(brokers: &str, topic: &str, values: &[(&[u8], bool)]) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", format!("{topic}-mirror"))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (value, counts) in values {
        producer.begin_transaction().unwrap();
        let message = FutureRecord::<(), [u8]>::to(topic).payload(value);
        producer.send(message, PATIENCE).await.map_err(|(error, _)| error).unwrap();
        match counts {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
}

/// A message of the dead-letter topic.
pub struct Letter {
    pub value: Vec<u8>,
    pub headers: HashMap<String, String>,
}

/// The first `count` of them.
pub async fn dead_letters(brokers: &str, topic: &str, count: usize) -> Vec<Letter> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "letters")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let (mut letters, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while letters.len() < count {
        assert!(Instant::now() < deadline, "{} letters of {count}", letters.len());
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(error))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
            Some(message) => {
                let message = message.unwrap();
                let headers = message.headers().map(|headers| {
                    let text = |v: Option<&[u8]>| String::from_utf8_lossy(v.unwrap_or_default()).into_owned();
                    headers.iter().map(|h| (h.key.to_owned(), text(h.value))).collect()
                });
                letters.push(Letter {
                    value: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.unwrap_or_default(),
                });
            }
        }
    }
    letters
}

/// Nothing but the number of entries of each partition.
pub async fn sizes(log: &dyn Log) -> BTreeMap<Partition, u64> {
    log.bounds().await.unwrap().into_iter().map(|(p, (low, high))| (p, high.0 - low.0)).collect()
}
