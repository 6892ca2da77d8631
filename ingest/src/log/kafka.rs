//! The log on Apache Kafka.
//!
//! An event is appended once (idempotent producer) and acknowledged by all replicas in sync. Positions are kept by the
//! readers' stores, together with the id that the topic has in its cluster, so a topic that was made anew is noticed.

mod client;
mod consumer;
mod header;
mod jump;
mod message;
mod options;
mod producer;
mod seen;
mod subscription;
mod topic;
mod topic_id;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use rdkafka::{message::Header, message::OwnedHeaders};
use tokio::{sync::Mutex, time::Instant};

use self::{
    client::Reports,
    consumer::{Native, bounds, committed, connect},
    producer::{Outgoing, Producer},
    seen::Seen,
    subscription::KafkaSubscription,
    topic::{Cluster, Topic},
};
pub use self::{message::ENVELOPE_HEADER, options::KafkaOptions};
use crate::{
    log::{Log, LogError, LogId, Offset, Partition, Poison, Positions, Reader, Safety, Subscription},
    record::{MAX_EVENT_BYTES, Record},
};

/// What of a broken envelope goes to the dead-letter topic at most, so that it fits beside the largest event.
const MAX_ENVELOPE_BYTES: usize = 64 * 1024;

/// See the module. A clone of the `Arc` around it is the way to share it.
pub struct KafkaLog {
    cluster: Arc<Cluster>,
    seen: Mutex<Seen>,
    dead_letter: AtomicBool,
    /// Asks for bounds; a client for each group asks for published positions.
    observer: Native,
    observers: Mutex<BTreeMap<String, Arc<Native>>>,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.cluster.options;
        f.debug_struct("KafkaLog").field("brokers", &options.brokers).field("topic", &options.topic).finish()
    }
}

impl KafkaLog {
    /// Connects, creates the topic if it is missing, and checks that it can hold every event and keeps them.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when no broker answers: trying again is right. [`LogError::Refused`] when the
    /// configuration or the topic is not fit, with what to do about it.
    pub async fn open(options: KafkaOptions) -> Result<Self, LogError> {
        options.validate()?;
        let (options, reports) = (Arc::new(options), Reports::default());
        let producer = Producer::new(options.clone(), reports.clone())?;
        let cluster = Arc::new(Cluster { options, reports, producer });
        let topic = cluster.ensure().await?;
        let observer = observe(&cluster, "muniment-observer")?;
        Ok(Self {
            cluster,
            seen: Mutex::new(Seen::new(topic, Instant::now())),
            dead_letter: AtomicBool::new(false),
            observer,
            observers: Mutex::new(BTreeMap::new()),
        })
    }

    /// How safe an appended record is, as the topic is now.
    ///
    /// # Errors
    /// When the cluster does not answer, or the topic is no longer fit.
    pub async fn safety(&self) -> Result<Safety, LogError> {
        Ok(self.topic().await?.safety())
    }

    async fn topic(&self) -> Result<Topic, LogError> {
        let mut seen = self.seen.lock().await;
        if let Some(topic) = seen.believed(Instant::now()) {
            return Ok(topic.clone());
        }
        let topic = self.cluster.look().await?;
        *seen = Seen::new(topic.clone(), Instant::now());
        Ok(topic)
    }

    async fn observer_of(&self, group: &str) -> Result<Arc<Native>, LogError> {
        let mut observers = self.observers.lock().await;
        if let Some(observer) = observers.get(group) {
            return Ok(observer.clone());
        }
        let observer = Arc::new(observe(&self.cluster, group)?);
        observers.insert(group.to_owned(), observer.clone());
        Ok(observer)
    }
}

/// A consumer that reads nothing.
fn observe(cluster: &Cluster, group: &str) -> Result<Native, LogError> {
    connect(cluster, &Reader::Whole { group: group.to_owned() })
}

#[async_trait]
impl Log for KafkaLog {
    async fn id(&self) -> Result<LogId, LogError> {
        let topic = &self.cluster.options.topic;
        let id = self.cluster.id(topic).await?.ok_or_else(|| topic::missing(topic))?;
        self.seen.lock().await.is_called(&id);
        Ok(id)
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        if let Some(large) = records.iter().find(|record| record.event.len() > MAX_EVENT_BYTES) {
            return Err(LogError::Refused(format!(
                "an event of {} bytes is larger than the largest ({MAX_EVENT_BYTES})",
                large.event.len()
            )));
        }
        // Asked before, so that a topic that became unfit takes nothing.
        let safety = self.safety().await?;
        self.cluster.producer.append(records).await?;
        Ok(safety)
    }

    async fn subscribe(&self, reader: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(KafkaSubscription::open(self.cluster.clone(), reader).await?))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        let topic = &self.cluster.options.topic;
        let shape = self.cluster.shape(topic).await?.ok_or_else(|| topic::missing(topic))?;
        let bounds = bounds(&self.observer, &self.cluster, (0..shape.partitions).collect()).await?;
        Ok(bounds.into_iter().map(|(p, (low, high))| (p, (Offset(low), Offset(high)))).collect())
    }

    async fn published(&self, group: &str) -> Result<Positions, LogError> {
        let topic = &self.cluster.options.topic;
        let shape = self.cluster.shape(topic).await?.ok_or_else(|| topic::missing(topic))?;
        let observer = self.observer_of(group).await?;
        let committed = committed(&observer, &self.cluster, shape.partitions).await?;
        Ok(committed.into_iter().map(|(p, offset)| (p, Offset(offset))).collect())
    }

    async fn set_aside(&self, partition: Partition, offset: Offset, poison: &Poison) -> Result<(), LogError> {
        if !self.dead_letter.load(Ordering::Acquire) {
            self.cluster.ensure_dead_letter().await?;
            self.dead_letter.store(true, Ordering::Release);
        }
        let (partition, offset) = (partition.to_string(), offset.0.to_string());
        let bytes = poison.event.len().to_string();
        let mut headers = OwnedHeaders::new_with_capacity(6);
        for (key, value) in [
            ("muniment-reason", poison.reason.as_str()),
            ("muniment-topic", &self.cluster.options.topic),
            ("muniment-partition", &partition),
            ("muniment-offset", &offset),
            ("muniment-bytes", &bytes),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        if let Some(envelope) = &poison.envelope {
            let value = &envelope[..envelope.len().min(MAX_ENVELOPE_BYTES)];
            headers = headers.insert(Header { key: ENVELOPE_HEADER, value: Some(value) });
        }
        let (topic, value) =
            (self.cluster.options.dead_letter(), &poison.event[..poison.event.len().min(MAX_EVENT_BYTES)]);
        self.cluster.producer.send(Outgoing { topic: &topic, key: None, headers, value }).await
    }
}
