//! The client that reads: it tells which partitions come and go, gives notice of arrivals, and jumps to an offset.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    topic_partition_list::Offset,
    types::RDKafkaRespErr,
};
use tokio::sync::Notify;

use super::{
    client::{Reports, blocking},
    producer::refused,
    topic::{Cluster, REQUEST_TIMEOUT},
};
use crate::log::{LogError, Partition, Reader};

/// How long a partition that was just assigned may take until it takes a seek, and how often that is tried.
pub(super) const SETTLING: Duration = Duration::from_secs(2);
const SEEK_STEP: Duration = Duration::from_millis(20);

/// A partition that came or went.
pub(super) enum Change {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>),
}

/// Hears of rebalances.
pub(super) struct Follower {
    reports: Reports,
    changes: Mutex<Vec<Change>>,
}

impl ClientContext for Follower {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.reports.log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.note(&error, reason);
    }
}

impl ConsumerContext for Follower {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().map(|e| e.partition()).collect();
        let eager = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Eager);
        let (done, change) = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Reading begins where the caller says; until then the end is as good as any place.
            let placed = list.set_all_offsets(Offset::End);
            let done = if eager { consumer.assign(list) } else { consumer.incremental_assign(list) };
            (placed.and(done), Change::Assigned(partitions))
        } else {
            let done = if eager { consumer.unassign() } else { consumer.incremental_unassign(list) };
            (done, Change::Revoked(partitions))
        };
        if let Err(error) = done {
            tracing::error!(%error, "kafka's client did not follow a rebalance");
        }
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The store's position counts; this one only lets others see how far the reader is.
            tracing::debug!(%error, "a position was not published");
        }
    }
}

/// A consumer, and how it calls when something arrives. It is closed off the caller's thread when it falls.
pub(super) struct Native {
    consumer: Option<Arc<BaseConsumer<Follower>>>,
    arrived: Arc<Notify>,
}

/// Makes the consumer of a reader. It connects by itself, later.
///
/// # Errors
/// When librdkafka refuses the configuration.
pub(super) fn connect(cluster: &Cluster, reader: &Reader) -> Result<Native, LogError> {
    let config = match reader {
        Reader::Member { group, member } => cluster.options.member(group, member),
        Reader::Whole { group } => cluster.options.whole(group),
    };
    let follower = Follower { reports: cluster.reports.clone(), changes: Mutex::new(Vec::new()) };
    let mut consumer = BaseConsumer::from_config_and_context(&config, follower).map_err(refused)?;
    let arrived = Arc::new(Notify::new());
    let bell = arrived.clone();
    consumer.set_nonempty_callback(move || bell.notify_one());
    if let Reader::Member { .. } = reader {
        consumer.subscribe(&[&cluster.options.topic]).map_err(refused)?;
    }
    Ok(Native { consumer: Some(Arc::new(consumer)), arrived })
}

impl Native {
    pub(super) fn native(&self) -> &Arc<BaseConsumer<Follower>> {
        self.consumer.as_ref().expect("the consumer is taken only when this value falls")
    }

    /// Partitions that came and went since the last call, in order.
    pub(super) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.native().context().changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when something may have arrived since the last poll that found nothing.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes partitions without a group.
    pub(super) fn assign(&self, topic: &str, partitions: &[Partition]) -> Result<(), LogError> {
        let list = list(topic, partitions.iter().map(|&p| (p, Offset::End)));
        self.native().incremental_assign(&list).map_err(refused)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            // Closing waits for brokers.
            std::thread::spawn(move || drop(consumer));
        }
    }
}

fn list(topic: &str, entries: impl Iterator<Item = (Partition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in entries {
        // Only an offset below zero is refused.
        let added = list.add_partition_offset(topic, partition, offset);
        debug_assert!(added.is_ok());
    }
    list
}

/// Where each of the partitions begins and ends.
///
/// # Errors
/// When its leader does not answer.
pub(super) async fn bounds(
    native: &Native,
    cluster: &Cluster,
    partitions: Vec<Partition>,
) -> Result<BTreeMap<Partition, (u64, u64)>, LogError> {
    let (consumer, reports, topic) =
        (native.native().clone(), cluster.reports.clone(), cluster.options.topic.clone());
    blocking(move || {
        // The client asks only about partitions that it knows, and it learns of new ones rarely by itself.
        consumer
            .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
            .map_err(|error| reports.unavailable(format!("{topic}: {error}")))?;
        let mut bounds = BTreeMap::new();
        for partition in partitions {
            let (low, high) = consumer
                .fetch_watermarks(&topic, partition, REQUEST_TIMEOUT)
                .map_err(|error| reports.unavailable(format!("partition {partition} of {topic}: {error}")))?;
            bounds.insert(partition, (low.unsigned_abs(), high.unsigned_abs()));
        }
        Ok(bounds)
    })
    .await
}

/// Goes on reading at these offsets. A partition whose fetching has stopped, because what it wanted is gone, does not
/// take a seek and is assigned anew instead; one that was assigned a moment ago takes it soon, and is given `settling`.
///
/// # Errors
/// When the client does not follow in time.
pub(super) async fn place(
    native: &Native,
    cluster: &Cluster,
    offsets: BTreeMap<Partition, u64>,
    settling: Duration,
) -> Result<(), LogError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let (consumer, reports, topic) =
        (native.native().clone(), cluster.reports.clone(), cluster.options.topic.clone());
    blocking(move || {
        let deadline = Instant::now() + settling;
        let at = |left: &BTreeMap<Partition, u64>| {
            list(&topic, left.iter().map(|(&p, &offset)| (p, Offset::Offset(offset as i64))))
        };
        let mut left = offsets;
        loop {
            let sought =
                consumer.seek_partitions(at(&left), REQUEST_TIMEOUT).map_err(|e| reports.unavailable(e))?;
            let elements = sought.elements();
            left.retain(|&p, _| elements.iter().any(|e| e.partition() == p && e.error().is_err()));
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(SEEK_STEP);
        }
        let moved =
            consumer.incremental_unassign(&at(&left)).and_then(|()| consumer.incremental_assign(&at(&left)));
        moved.map_err(|error| {
            reports.unavailable(format!("{topic} cannot be read from the wanted offsets: {error}"))
        })
    })
    .await
}

/// The offsets that the consumer's group has committed, for the partitions that have one.
///
/// # Errors
/// When the group's coordinator does not answer.
pub(super) async fn committed(
    native: &Native,
    cluster: &Cluster,
    partitions: i32,
) -> Result<BTreeMap<Partition, u64>, LogError> {
    let (consumer, reports, topic) =
        (native.native().clone(), cluster.reports.clone(), cluster.options.topic.clone());
    blocking(move || {
        let asked = list(&topic, (0..partitions).map(|p| (p, Offset::Invalid)));
        let answer =
            consumer.committed_offsets(asked, REQUEST_TIMEOUT).map_err(|error| reports.unavailable(error))?;
        // Nobody else reads what this client reports of its brokers.
        while consumer.poll(Duration::ZERO).is_some() {}
        let found = answer.elements().into_iter().filter_map(|e| match e.offset() {
            Offset::Offset(offset) => Some((e.partition(), offset.unsigned_abs())),
            _ => None,
        });
        Ok(found.collect())
    })
    .await
}
