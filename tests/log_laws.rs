//! The laws of the log, on a real Kafka. The local log runs the same suite beside its code.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod support {
    pub(crate) mod engines;
}

use ingest::log::kafka::{KafkaLog, KafkaOptions};
use support::engines::{kafka, unique};

/// An empty topic of its own. Nothing has to be kept alive: the broker is everybody's.
async fn fresh() -> (KafkaLog, ()) {
    let mut options = KafkaOptions { partitions: 3, ..KafkaOptions::new(kafka(), unique("laws")) };
    // The shortest that brokers allow by default: a member that is gone is waited for this long.
    options.properties.insert("session.timeout.ms".into(), "6000".into());
    (KafkaLog::open(options).await.unwrap(), ())
}

ingest::log_law_tests!(fresh);
