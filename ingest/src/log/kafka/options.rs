//! What an operator says about Kafka, and the librdkafka properties that follow from it.

use std::{collections::BTreeMap, fs::File, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use crate::{log::LogError, record::MAX_EVENT_BYTES};

/// The largest message: the largest event with its envelope, key and the frame of a batch around them.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_EVENT_BYTES + 1024 * 1024;

/// A consumer that holds so much asks for no more: two polls' worth, and half a second at 10,000 events/s. Recorder and
/// indexer each have one, and a reader that waits, as the recorder does for its ledger, stays at it.
const FETCHED_AHEAD_KBYTES: usize = 8 * 1024;

/// What one answer brings of each partition, packed. The client unpacks all of an answer at once, to ten times as much
/// and more, on top of what it holds: with 4 MiB a consumer of four partitions came to 184 MB. Larger messages come all
/// the same, one at a time.
const FETCHED_AT_ONCE_BYTES: usize = 256 * 1024;

/// What the producer holds until brokers have it: two of the largest messages, or some ten thousand common ones.
const PRODUCER_KBYTES: usize = 40 * 1024;

/// How long the producer tries before it gives a message back; the relay then appends it again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the group waits for a member that is silent before its partitions go to others. A restart is quicker, so
/// that it moves nothing.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a member may be busy with one batch before its partitions go to others.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(120);

/// How often the partitions of the topic are looked up again, so that new ones are read.
pub(super) const METADATA_INTERVAL: Duration = Duration::from_secs(30);

/// Which cluster and topic, and what the topic is to be like when it has to be created.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// The topic. Entries that are no records go to `<topic>-dead-letter`.
    pub topic: String,
    /// Partitions that the topic has at least.
    pub partitions: i32,
    /// Replicas of a topic that is created here.
    pub replication: i32,
    /// How long a topic that is created here keeps records.
    pub retention: Duration,
    /// Further librdkafka properties: TLS, SASL and the like.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// Name of the topic where nothing else is said.
    pub const TOPIC: &'static str = "muniment";

    /// Options for a cluster and topic, the rest as it is by default.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            partitions: 4,
            replication: 1,
            retention: Duration::from_secs(7 * 24 * 3600),
            properties: BTreeMap::new(),
        }
    }

    /// Name of the topic for entries that are no records.
    pub fn dead_letter(&self) -> String {
        format!("{}-dead-letter", self.topic)
    }

    /// # Errors
    /// When a value makes no sense or a property is one that this program sets itself.
    pub(super) fn validate(&self) -> Result<(), LogError> {
        if self.brokers.trim().is_empty() || self.topic.is_empty() {
            return Err(LogError::Refused("kafka needs the brokers (host:port) and a topic".to_owned()));
        }
        if self.partitions < 1 || self.replication < 1 {
            return Err(LogError::Refused(format!(
                "a topic has at least one partition and one replica, not {} and {}",
                self.partitions, self.replication
            )));
        }
        if let Some((name, why)) = self.properties.keys().find_map(|name| owned(name).map(|why| (name, why)))
        {
            return Err(LogError::Refused(format!("the kafka property {name} cannot be set: {why}")));
        }
        self.properties.iter().try_for_each(|(name, value)| readable(name, value))
    }

    /// What every client of the cluster needs, with the operator's properties on top.
    fn client(&self, defaults: &[(&str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "muniment")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", METADATA_INTERVAL.as_millis().to_string())
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            .set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in defaults {
            config.set(*name, value.as_str());
        }
        for (name, value) in &self.properties {
            config.set(name.as_str(), value.as_str());
        }
        config.set("bootstrap.servers", self.brokers.as_str());
        config.set("allow.auto.create.topics", "false");
        config
    }

    pub(super) fn admin(&self) -> ClientConfig {
        self.client(&[])
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client(&[
            ("compression.type", "zstd".to_owned()),
            ("linger.ms", "5".to_owned()),
            ("batch.size", (1024 * 1024).to_string()),
            ("queue.buffering.max.kbytes", PRODUCER_KBYTES.to_string()),
            ("delivery.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string()),
        ]);
        config.set("enable.idempotence", "true").set("acks", "all");
        // The key decides on the partition in the same way as in the clients of other languages.
        config.set("partitioner", "murmur2_random");
        config
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client(&[
            ("queued.max.messages.kbytes", FETCHED_AHEAD_KBYTES.to_string()),
            ("fetch.message.max.bytes", FETCHED_AT_ONCE_BYTES.to_string()),
            ("fetch.max.bytes", (2 * MAX_MESSAGE_BYTES).to_string()),
            ("receive.message.max.bytes", (3 * MAX_MESSAGE_BYTES).to_string()),
            // A full queue is looked at again before a fast reader has emptied it.
            ("fetch.queue.backoff.ms", "20".to_owned()),
            ("fetch.error.backoff.ms", "200".to_owned()),
            ("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string()),
            ("max.poll.interval.ms", MAX_POLL_INTERVAL.as_millis().to_string()),
        ]);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // What a transaction took back stays to be read: of offsets that are passed over, only markers may be.
            .set("isolation.level", "read_uncommitted");
        config
    }

    /// A consumer whose partitions are given to it by the group.
    pub(super) fn member(&self, group: &str, member: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config.set("group.instance.id", member).set("partition.assignment.strategy", "cooperative-sticky");
        config
    }

    /// A consumer that takes partitions by itself and publishes its positions under the name of the group.
    pub(super) fn whole(&self, group: &str) -> ClientConfig {
        self.consumer(group)
    }
}

/// The client says of a file only that it failed.
fn readable(property: &str, value: &str) -> Result<(), LogError> {
    // "probe" lets the client look for the system's authorities itself.
    if !property.ends_with(".location") || value == "probe" {
        return Ok(());
    }
    File::open(value).map(drop).map_err(|error| {
        LogError::Refused(format!(
            "the kafka property {property} names {value}, which cannot be read: {error}"
        ))
    })
}

/// Why a property is not the operator's to set; nothing when it is.
fn owned(property: &str) -> Option<&'static str> {
    Some(match property {
        "bootstrap.servers" | "metadata.broker.list" => "the brokers have a setting of their own",
        "acks" | "request.required.acks" | "enable.idempotence" | "partitioner" => {
            "an event counts as appended, once and in order, only in this way"
        }
        "group.id" | "group.instance.id" | "partition.assignment.strategy" | "group.protocol" => {
            "who reads what is decided by the roles"
        }
        "enable.auto.commit"
        | "enable.auto.offset.store"
        | "auto.offset.reset"
        | "topic.auto.offset.reset" => "positions are kept in the ledger and the index",
        "isolation.level" => "every entry of the topic is read",
        "allow.auto.create.topics" => "the topic is created with the configured partitions and replicas",
        "message.max.bytes" | "fetch.max.bytes" | "receive.message.max.bytes" => {
            "the largest event has to fit"
        }
        "transactional.id" => "records are not written in transactions",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_the_program_owns_is_refused_by_name() {
        let mut options = KafkaOptions::new("localhost:9092", "t");
        options.properties.insert("security.protocol".into(), "SASL_SSL".into());
        options.validate().unwrap();
        options.properties.insert("acks".into(), "1".into());
        let refused = options.validate().unwrap_err().to_string();
        assert!(refused.contains("the kafka property acks cannot be set"), "{refused}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let mut options = KafkaOptions::new("localhost:9092", "t");
        options.properties.insert("ssl.ca.location".into(), "probe".into());
        options.validate().unwrap();
        options.properties.insert("ssl.ca.location".into(), "/absent.pem".into());
        let refused = options.validate().unwrap_err().to_string();
        assert!(refused.contains("ssl.ca.location names /absent.pem, which cannot be read"), "{refused}");
    }

    #[test]
    fn settings_of_tls_and_sasl_reach_every_client() {
        let mut options = KafkaOptions::new("localhost:9092", "t");
        options.properties.insert("sasl.username".into(), "muniment".into());
        for config in [options.admin(), options.producer(), options.member("g", "m"), options.whole("g")] {
            assert_eq!(config.get("sasl.username"), Some("muniment"));
            assert_eq!(config.get("bootstrap.servers"), Some("localhost:9092"));
        }
    }

    #[test]
    fn librdkafka_knows_every_property() {
        let options = KafkaOptions::new("localhost:9092", "t");
        for config in [options.admin(), options.producer(), options.member("g", "m"), options.whole("g")] {
            config.create_native_config().unwrap();
        }
    }

    #[test]
    fn a_member_keeps_its_name_and_gives_up_only_what_goes_to_another() {
        let options = KafkaOptions::new("localhost:9092", "t");
        let member = options.member("g", "m");
        assert_eq!(member.get("group.instance.id"), Some("m"), "a restart within the session moves nothing");
        assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        let whole = options.whole("g");
        assert_eq!(whole.get("group.instance.id"), None, "who reads everything is no member");
        for config in [member, whole] {
            assert_eq!(config.get("group.id"), Some("g"));
            assert_eq!(config.get("auto.offset.reset"), Some("error"), "a lost range is never skipped");
            assert_eq!(config.get("enable.auto.commit"), Some("false"));
        }
    }
}
