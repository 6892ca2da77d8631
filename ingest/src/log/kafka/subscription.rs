//! One reader of the topic. Nothing is fetched from Kafka's own idea of a position: the caller's store tells it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    consumer::{Change, Native, SETTLING, bounds, connect, place},
    jump::Jump,
    message::read,
    topic::{Cluster, missing},
};
use crate::log::{Delivery, LogError, LogId, Offset, Partition, Polled, Positions, Reader, Subscription};

/// A batch ends after so many bytes of events, however few it holds.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How often the topic's id and partitions are looked up while nothing seems wrong, and at least while something does.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);
const ALARMED_INTERVAL: Duration = Duration::from_millis(500);

/// How long to trust that librdkafka gives notice of a new entry before looking again.
const RECHECK: Duration = Duration::from_millis(100);

/// What a look at the topic found: its id and its number of partitions, or that it is gone.
type Sight = Option<(LogId, i32)>;

/// See the module.
pub(super) struct KafkaSubscription {
    cluster: Arc<Cluster>,
    reader: Reader,
    id: LogId,
    consumer: Native,
    /// Partitions that are this reader's.
    owned: BTreeSet<Partition>,
    /// The next offset of those that are read.
    next: BTreeMap<Partition, u64>,
    /// The latest time of an entry that was read of a partition, in milliseconds.
    latest: BTreeMap<Partition, i64>,
    /// Offsets that were passed over, and the entry behind them, until it is known what they were.
    jump: Option<(Jump, Delivery)>,
    /// An entry that is given before anything is read.
    held: Option<Delivery>,
    /// What is to be told before anything else.
    events: VecDeque<Result<Polled, LogError>>,
    /// A fetch was refused for its offset: some partition no longer holds what comes next.
    doubt: bool,
    watch: Option<JoinHandle<Result<Sight, LogError>>>,
    watch_at: Instant,
}

impl KafkaSubscription {
    /// # Errors
    /// When the cluster does not answer or the client's configuration is refused.
    pub(super) async fn open(cluster: Arc<Cluster>, reader: Reader) -> Result<Self, LogError> {
        let topic = cluster.options.topic.clone();
        let id = cluster.id(&topic).await?.ok_or_else(|| missing(&topic))?;
        let consumer = connect(&cluster, &reader)?;
        let mut subscription = Self {
            cluster,
            reader,
            id,
            consumer,
            owned: BTreeSet::new(),
            next: BTreeMap::new(),
            latest: BTreeMap::new(),
            jump: None,
            held: None,
            events: VecDeque::new(),
            doubt: false,
            watch: None,
            watch_at: Instant::now() + WATCH_INTERVAL,
        };
        if let Reader::Whole { .. } = subscription.reader {
            let shape = subscription.cluster.shape(&topic).await?.ok_or_else(|| missing(&topic))?;
            subscription.take(shape.partitions)?;
        }
        Ok(subscription)
    }

    /// Takes every partition up to `count` that a whole reader does not have yet.
    fn take(&mut self, count: i32) -> Result<(), LogError> {
        let new: Vec<Partition> = (0..count).filter(|p| !self.owned.contains(p)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.consumer.assign(&self.cluster.options.topic, &new)?;
        self.owned.extend(&new);
        self.events.push_back(Ok(Polled::Assigned(new)));
        Ok(())
    }

    /// What is there now, without waiting.
    fn gather(&mut self, max: usize) -> Vec<Delivery> {
        let mut batch: Vec<Delivery> = self.held.take().into_iter().collect();
        let mut bytes = batch.iter().map(size).sum::<usize>();
        while batch.len() < max && bytes < BATCH_BYTES {
            match self.consumer.native().poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let delivery = read(&message);
                    let (partition, offset) = (delivery.partition, delivery.offset.0);
                    let next = self.next.get_mut(&partition).filter(|next| offset >= **next);
                    // Nobody started this partition, or what was fetched before a seek still arrives.
                    let Some(next) = next else { continue };
                    let from = std::mem::replace(next, offset + 1);
                    let before = message.timestamp().to_millis().unwrap_or_default();
                    let after = self.latest.get(&partition).copied();
                    self.latest.insert(partition, after.unwrap_or(before).max(before));
                    if from < offset {
                        self.jump = Some((Jump { partition, from, to: offset, after, before }, delivery));
                        break;
                    }
                    bytes += size(&delivery);
                    batch.push(delivery);
                }
                Some(Err(error)) => {
                    self.note(&error);
                    // A fatal one is given again and again. Of the others many may have piled up while nobody polled.
                    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                        break;
                    }
                }
                None => break,
            }
        }
        if !batch.is_empty() {
            self.events.retain(|event| !is_unavailable(event));
        }
        for change in self.consumer.changes() {
            self.apply(change);
        }
        batch
    }

    fn apply(&mut self, change: Change) {
        let event = match change {
            Change::Assigned(partitions) => {
                self.owned.extend(&partitions);
                Polled::Assigned(partitions)
            }
            Change::Revoked(partitions) => {
                for partition in &partitions {
                    self.owned.remove(partition);
                    self.next.remove(partition);
                }
                Polled::Revoked(partitions)
            }
        };
        self.events.push_back(Ok(event));
    }

    fn note(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let Some(code) = error.rdkafka_error_code() else { return };
        let reports = &self.cluster.reports;
        if let KafkaError::MessageConsumptionFatal(_) = error {
            self.events.push_back(Err(match code {
                Code::FencedInstanceId => LogError::Fenced,
                other => LogError::Refused(other.to_string()),
            }));
            return;
        }
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                self.doubt = true;
                self.alarm();
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => self.alarm(),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                self.events.push_back(Err(LogError::Refused(format!("this user may not read: {code}"))));
            }
            // Told at every failed connection: it is a state, of which one telling is enough.
            Code::AllBrokersDown | Code::Authentication => {
                if !self.events.iter().any(is_unavailable) {
                    self.events.push_back(Err(reports.unavailable(code)));
                }
            }
            // librdkafka goes on by itself; it tells so that somebody may look.
            other => tracing::debug!(error = %other, "kafka consumer"),
        }
    }

    /// Has the topic looked at soon.
    fn alarm(&mut self) {
        self.watch_at = self.watch_at.min(Instant::now() + ALARMED_INTERVAL);
    }

    /// Looks at the topic from time to time: another id is another log.
    async fn watch(&mut self) -> Result<(), LogError> {
        if self.watch.is_none() && Instant::now() >= self.watch_at {
            self.watch_at = Instant::now() + WATCH_INTERVAL;
            let cluster = self.cluster.clone();
            self.watch = Some(tokio::spawn(async move {
                let topic = &cluster.options.topic;
                let id = cluster.id(topic).await?;
                let shape = cluster.shape(topic).await?;
                Ok(id.zip(shape.map(|shape| shape.partitions)))
            }));
        }
        let Some(watch) = self.watch.take_if(|watch| watch.is_finished()) else { return Ok(()) };
        let sight = watch.await.map_err(|error| LogError::Unavailable(error.to_string()))?;
        match sight? {
            None => {
                self.alarm();
                Err(missing(&self.cluster.options.topic))
            }
            Some((id, _)) if id != self.id => self.renew(id),
            Some((_, partitions)) => match self.reader {
                Reader::Whole { .. } => self.take(partitions),
                Reader::Member { .. } => Ok(()),
            },
        }
    }

    /// Begins again on the new topic, with a new client: what the former one knows of offsets and epochs is of another log.
    fn renew(&mut self, id: LogId) -> Result<(), LogError> {
        self.consumer = connect(&self.cluster, &self.reader)?;
        let read = std::mem::take(&mut self.next).into_iter().map(|(p, next)| (p, Offset(next))).collect();
        let reason = format!(
            "the topic {} was deleted and created again: what was not read of the former one is lost",
            self.cluster.options.topic
        );
        tracing::warn!(former = %self.id, new = %id, "{reason}");
        self.id = id.clone();
        self.owned.clear();
        self.latest.clear();
        (self.jump, self.held) = (None, None);
        self.doubt = false;
        self.events.clear();
        self.events.push_back(Ok(Polled::Renewed { id, read, reason }));
        // A member is given its partitions by the group; a whole reader takes them at the next look.
        self.watch_at = Instant::now();
        Ok(())
    }

    /// Finds the partitions that no longer hold what comes next, and goes on where they begin (or end) now.
    async fn settle_doubt(&mut self) -> Result<(), LogError> {
        let wanted = self.next.clone();
        let bounds = bounds(&self.consumer, &self.cluster, wanted.keys().copied().collect()).await?;
        // A topic made anew has other bounds too: then the watch tells, and no range of the new one is taken for lost.
        let topic = &self.cluster.options.topic;
        if self.cluster.id(topic).await?.as_ref() != Some(&self.id) {
            self.watch_at = Instant::now();
            self.doubt = false;
            return Ok(());
        }
        let moved = wanted
            .into_iter()
            .filter(|(p, next)| bounds.get(p).is_some_and(|(low, high)| next < low || next > high));
        let moved: BTreeMap<_, _> = moved.collect();
        self.begin(&moved, &bounds, Duration::ZERO).await?;
        self.doubt = false;
        Ok(())
    }

    /// Tells of offsets that were passed over, unless they held nothing for readers; then the entry behind them is given.
    async fn settle_jump(&mut self) -> Result<(), LogError> {
        let Some((jump, _)) = &self.jump else { return Ok(()) };
        let is_markers = jump.is_markers(&self.consumer, &self.cluster).await?;
        let Some((jump, delivery)) = self.jump.take() else { return Ok(()) };
        self.held = Some(delivery);
        if !is_markers {
            let Jump { partition, from, to, .. } = jump;
            let reason = jump.reason(&self.cluster.options.topic);
            tracing::warn!(partition, from, to, "{reason}");
            self.events.push_back(Ok(Polled::Lost { partition, from: Offset(from), to: Offset(to), reason }));
        }
        Ok(())
    }

    /// Drops what is held and was to be told of partitions that are started anew: it is found again from there.
    fn forget(&mut self, partitions: &BTreeMap<Partition, u64>) {
        self.jump.take_if(|(jump, _)| partitions.contains_key(&jump.partition));
        self.held.take_if(|delivery| partitions.contains_key(&delivery.partition));
        self.latest.retain(|partition, _| !partitions.contains_key(partition));
        self.events.retain(
            |event| !matches!(event, Ok(Polled::Lost { partition, .. }) if partitions.contains_key(partition)),
        );
    }

    /// Delivers `wanted` from these offsets on, or from the nearest that there is, telling of the range that is not.
    async fn begin(
        &mut self,
        wanted: &BTreeMap<Partition, u64>,
        bounds: &BTreeMap<Partition, (u64, u64)>,
        settling: Duration,
    ) -> Result<(), LogError> {
        let nearest: BTreeMap<Partition, u64> = wanted
            .iter()
            .filter_map(|(&p, &from)| bounds.get(&p).map(|&(low, high)| (p, from.clamp(low, high.max(low)))))
            .collect();
        place(&self.consumer, &self.cluster, nearest.clone(), settling).await?;
        for (&partition, &to) in &nearest {
            let from = wanted[&partition];
            self.next.insert(partition, to);
            if from != to {
                let reason = lost_reason(&self.cluster.options.topic, partition, from, to);
                tracing::warn!(partition, from, to, "{reason}");
                self.events.push_back(Ok(Polled::Lost {
                    partition,
                    from: Offset(from),
                    to: Offset(to),
                    reason,
                }));
            }
        }
        Ok(())
    }
}

fn size(delivery: &Delivery) -> usize {
    delivery.record.as_ref().map_or(0, |record| record.event.len())
}

fn is_unavailable(event: &Result<Polled, LogError>) -> bool {
    matches!(event, Err(LogError::Unavailable(_)))
}

fn lost_reason(topic: &str, partition: Partition, from: u64, to: u64) -> String {
    if from < to {
        format!(
            "retention removed offsets {from} to {} of partition {partition} of {topic} before they were read",
            to - 1
        )
    } else {
        format!(
            "partition {partition} of {topic} was cut back from offset {from} to {to}: a broker lost its end"
        )
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.watch().await?;
            if self.doubt {
                self.settle_doubt().await?;
            }
            self.settle_jump().await?;
            if self.events.is_empty() {
                let batch = self.gather(max);
                if !batch.is_empty() {
                    return Ok(Polled::Batch(batch));
                }
            }
            if !self.events.is_empty() {
                continue;
            }
            if Instant::now() >= deadline {
                return Ok(Polled::Idle);
            }
            let recheck = deadline.min(Instant::now() + RECHECK);
            tokio::select! {
                () = self.consumer.arrival() => {}
                () = sleep_until(recheck) => {}
            }
        }
    }

    async fn start(&mut self, positions: &Positions) -> Result<(), LogError> {
        let asked = positions.iter().map(|(&p, offset)| (p, offset.0));
        let fresh = self.owned.iter().filter(|p| !self.next.contains_key(p)).map(|&p| (p, 0));
        // What is asked for stands over the beginning; what was taken away meanwhile is left out.
        let wanted: BTreeMap<Partition, u64> =
            fresh.chain(asked).filter(|(p, _)| self.owned.contains(p)).collect();
        let bounds = bounds(&self.consumer, &self.cluster, wanted.keys().copied().collect()).await?;
        self.forget(&wanted);
        self.begin(&wanted, &bounds, SETTLING).await
    }

    async fn publish(&mut self, positions: &Positions) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions.iter().filter(|(p, _)| self.owned.contains(p)) {
            list.add_partition_offset(
                &self.cluster.options.topic,
                *partition,
                rdkafka::Offset::Offset(offset.0 as i64),
            )
            .map_err(|error| self.cluster.reports.unavailable(error))?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        let committed = self.consumer.native().commit(&list, CommitMode::Async);
        committed.map_err(|error| self.cluster.reports.unavailable(error))
    }
}
