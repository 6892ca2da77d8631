//! The topic: created when it is missing, refused when it would lose or reject events, and looked at again later.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::RDKafkaLogLevel,
    error::RDKafkaErrorCode,
    producer::Producer as _,
};
use tokio::time::Instant;

use super::{
    client::{Reports, blocking},
    options::{KafkaOptions, MAX_MESSAGE_BYTES},
    producer::{Producer, refused},
    topic_id::topic_id,
};
use crate::log::{LogError, LogId, Safety};

/// How long one request to the cluster may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new topic may take until every partition has a leader, and how often that is asked.
const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
const CREATION_STEP: Duration = Duration::from_millis(100);

/// The topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub id: LogId,
    pub partitions: i32,
    pub replication: usize,
    pub min_insync: u64,
}

impl Topic {
    /// An acknowledged record is on two replicas when two exist and two must acknowledge.
    pub(super) fn safety(&self) -> Safety {
        if self.replication >= 2 && self.min_insync >= 2 { Safety::Safe } else { Safety::OneReplica }
    }
}

/// How many partitions and replicas a topic has, and whether each partition has a leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub partitions: i32,
    pub replication: usize,
    led: bool,
}

/// The cluster, for questions about topics.
pub(super) struct Cluster {
    pub options: Arc<KafkaOptions>,
    pub reports: Reports,
    pub producer: Producer,
}

impl Cluster {
    /// Finds or creates the topic and checks that it can hold every event and keeps them. A dead-letter topic that is
    /// there must hold every event too.
    ///
    /// # Errors
    /// `Unavailable` when no broker answers, `Refused` when the topic is not fit, with what to do about it.
    pub(super) async fn ensure(&self) -> Result<Topic, LogError> {
        if self.id(&self.options.topic).await?.is_none() {
            self.create(&self.options.topic, self.options.partitions).await?;
        }
        self.dead_letter_is_fit().await?;
        self.look().await
    }

    /// Creates the topic for entries that are no records, if it is missing.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub(super) async fn ensure_dead_letter(&self) -> Result<(), LogError> {
        if self.dead_letter_is_fit().await? {
            return Ok(());
        }
        self.create(&self.options.dead_letter(), 1).await
    }

    /// Whether the topic for entries that are no records exists; one that cannot hold the largest is refused.
    async fn dead_letter_is_fit(&self) -> Result<bool, LogError> {
        let name = self.options.dead_letter();
        if self.id(&name).await?.is_none() {
            return Ok(false);
        }
        holds_largest(&self.options, &name, &self.settings(&name).await?)?;
        Ok(true)
    }

    /// Describes the topic and checks it, without creating it.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub(super) async fn look(&self) -> Result<Topic, LogError> {
        let topic = &self.options.topic;
        let found = self.shape(topic).await?.ok_or_else(|| missing(topic))?;
        let id = self.id(topic).await?.ok_or_else(|| missing(topic))?;
        let settings = self.settings(topic).await?;
        check(&self.options, found.partitions, &settings)?;
        let min_insync = number(&settings, "min.insync.replicas").unwrap_or(1);
        Ok(Topic { id, partitions: found.partitions, replication: found.replication, min_insync })
    }

    /// The id of the log that a topic is now; nothing when there is no such topic.
    ///
    /// # Errors
    /// When no broker answers.
    pub(super) async fn id(&self, topic: &str) -> Result<Option<LogId>, LogError> {
        let (native, reports, topic) = (self.producer.native(), self.reports.clone(), topic.to_owned());
        blocking(move || {
            let client = native.client();
            let id = topic_id(client, &topic, REQUEST_TIMEOUT).map_err(|code| reports.unavailable(code))?;
            let cluster = client
                .fetch_cluster_id(REQUEST_TIMEOUT)
                .ok_or_else(|| reports.unavailable("the cluster did not tell its id"))?;
            Ok(id.map(|id| LogId(format!("{cluster}/{id}").into())))
        })
        .await
    }

    /// The shape of a topic; nothing when there is no such topic.
    ///
    /// # Errors
    /// When no broker answers.
    pub(super) async fn shape(&self, topic: &str) -> Result<Option<Shape>, LogError> {
        let (native, reports, topic) = (self.producer.native(), self.reports.clone(), topic.to_owned());
        blocking(move || {
            let metadata = native
                .client()
                .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
                .map_err(|error| reports.unavailable(error))?;
            let found = metadata.topics().iter().find(|t| t.name() == topic);
            Ok(found.filter(|t| t.error().is_none() && !t.partitions().is_empty()).map(|t| Shape {
                partitions: t.partitions().len() as i32,
                replication: t.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0),
                led: t.partitions().iter().all(|p| p.error().is_none() && p.leader() >= 0),
            }))
        })
        .await
    }

    async fn create(&self, name: &str, partitions: i32) -> Result<(), LogError> {
        let options = &self.options;
        let (largest, retention) = (MAX_MESSAGE_BYTES.to_string(), options.retention.as_millis().to_string());
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(options.replication))
            .set("cleanup.policy", "delete")
            .set("max.message.bytes", &largest)
            .set("retention.ms", &retention)
            .set("min.insync.replicas", if options.replication >= 2 { "2" } else { "1" });
        let admin = self.admin()?;
        let request = request().operation_timeout(Some(REQUEST_TIMEOUT));
        let created = admin.0.create_topics([&topic], &request).await;
        for result in created.map_err(|error| self.reports.unavailable(error))? {
            match result {
                Ok(_) => tracing::info!(
                    topic = name,
                    partitions,
                    replication = options.replication,
                    "topic created"
                ),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(not_created(options, name, code)),
            }
        }
        self.wait_for_leaders(name).await
    }

    async fn wait_for_leaders(&self, name: &str) -> Result<(), LogError> {
        let deadline = Instant::now() + CREATION_TIMEOUT;
        while !self.shape(name).await?.is_some_and(|shape| shape.led) {
            if Instant::now() >= deadline {
                return Err(LogError::Unavailable(format!(
                    "the topic {name} was created, but not every partition has a leader after {} s",
                    CREATION_TIMEOUT.as_secs()
                )));
            }
            tokio::time::sleep(CREATION_STEP).await;
        }
        Ok(())
    }

    async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>, LogError> {
        let admin = self.admin()?;
        let described = admin.0.describe_configs([&ResourceSpecifier::Topic(topic)], &request()).await;
        match described.map_err(|error| self.reports.unavailable(error))?.into_iter().next() {
            Some(Ok(resource)) => Ok(resource
                .entries
                .into_iter()
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect()),
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => Err(missing(topic)),
            Some(Err(code)) => {
                Err(self.reports.unavailable(format!("the topic {topic} is not described: {code}")))
            }
            None => Err(self.reports.unavailable("the cluster described nothing")),
        }
    }

    fn admin(&self) -> Result<Admin, LogError> {
        let mut config = self.options.admin();
        // Nobody reads this client's log queue; the producer reports the same brokers' troubles.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = config.create_with_context(self.reports.clone()).map_err(refused)?;
        Ok(Admin(Arc::new(admin)))
    }
}

/// A client for one request. Its end waits for a thread, which is done where it holds up nobody.
struct Admin(Arc<AdminClient<Reports>>);

impl Drop for Admin {
    fn drop(&mut self) {
        let client = self.0.clone();
        tokio::task::spawn_blocking(move || drop(client));
    }
}

fn request() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT))
}

/// A topic that was there and is not any more. It is not made anew by itself: the operator who removed it may be about
/// to create it as he wants it.
pub(super) fn missing(topic: &str) -> LogError {
    LogError::Unavailable(format!(
        "the topic {topic} does not exist any more: create it again, or restart, which creates it"
    ))
}

fn not_created(options: &KafkaOptions, name: &str, code: RDKafkaErrorCode) -> LogError {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => LogError::Refused(format!(
            "the topic {name} cannot have {} replicas, the cluster has fewer brokers: configure a smaller replication, \
             or add brokers",
            options.replication
        )),
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::PolicyViolation
        | RDKafkaErrorCode::InvalidTopic => LogError::Refused(format!(
            "the topic {name} cannot be created ({code}): let an administrator of the cluster create it, or allow it"
        )),
        other => LogError::Unavailable(format!("the topic {name} could not be created: {other}")),
    }
}

fn number(settings: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    settings.get(name)?.parse().ok()
}

fn check(
    options: &KafkaOptions,
    partitions: i32,
    settings: &BTreeMap<String, String>,
) -> Result<(), LogError> {
    let topic = &options.topic;
    if partitions < options.partitions {
        return Err(LogError::Refused(format!(
            "the topic {topic} has {partitions} partitions, {} are configured: configure {partitions}, or add some with \
             `kafka-topics.sh --bootstrap-server {} --alter --topic {topic} --partitions {}`",
            options.partitions, options.brokers, options.partitions
        )));
    }
    holds_largest(options, topic, settings)?;
    if settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return Err(LogError::Refused(format!(
            "the topic {topic} is compacted, which removes all but the last event of each source: set it with {}",
            alter(options, topic, "cleanup.policy=delete")
        )));
    }
    Ok(())
}

fn holds_largest(
    options: &KafkaOptions,
    topic: &str,
    settings: &BTreeMap<String, String>,
) -> Result<(), LogError> {
    match number(settings, "max.message.bytes").filter(|&n| n < MAX_MESSAGE_BYTES as u64) {
        Some(largest) => Err(LogError::Refused(format!(
            "the topic {topic} takes messages of at most {largest} bytes (max.message.bytes), the largest event needs \
             {MAX_MESSAGE_BYTES}: set it with {}",
            alter(options, topic, &format!("max.message.bytes={MAX_MESSAGE_BYTES}"))
        ))),
        None => Ok(()),
    }
}

/// The command that changes a topic's setting.
fn alter(options: &KafkaOptions, topic: &str, setting: &str) -> String {
    format!(
        "`kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {setting}`",
        options.brokers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(partitions: i32, settings: &[(&str, &str)]) -> Result<(), String> {
        let options = KafkaOptions { partitions: 4, ..KafkaOptions::new("b:9092", "audit") };
        let settings = settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        check(&options, partitions, &settings).map_err(|e| e.to_string())
    }

    #[test]
    fn a_topic_that_cannot_hold_every_event_is_refused_with_the_command_that_mends_it() {
        let largest = MAX_MESSAGE_BYTES.to_string();
        checked(4, &[("max.message.bytes", &largest), ("cleanup.policy", "delete")]).unwrap();
        checked(5, &[]).unwrap();
        let small = checked(4, &[("max.message.bytes", "1048588")]).unwrap_err();
        assert!(small.contains("--entity-name audit --add-config max.message.bytes=17825792"), "{small}");
        let few = checked(3, &[]).unwrap_err();
        assert!(
            few.contains("has 3 partitions, 4 are configured") && few.contains("--partitions 4"),
            "{few}"
        );
        let compacted = checked(4, &[("cleanup.policy", "compact,delete")]).unwrap_err();
        assert!(compacted.contains("cleanup.policy=delete"), "{compacted}");
    }

    #[test]
    fn a_record_is_safe_when_two_replicas_exist_and_two_must_acknowledge() {
        let topic =
            |replication, min_insync| Topic { id: LogId("x".into()), partitions: 1, replication, min_insync };
        assert_eq!(topic(2, 2).safety(), Safety::Safe);
        assert_eq!(topic(3, 1).safety(), Safety::OneReplica);
        assert_eq!(topic(1, 2).safety(), Safety::OneReplica);
    }
}
