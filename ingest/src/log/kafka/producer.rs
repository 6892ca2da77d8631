//! Appending: every message of a call is sent at once, and the call ends when brokers have told of each.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedHeaders,
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::sync::Notify;

use super::{
    client::Reports,
    message::{headers, write_key},
    options::KafkaOptions,
    topic::missing,
};
use crate::{log::LogError, record::Record};

/// How long to wait for room in the producer's queue before looking again; deliveries give notice much sooner.
const ROOM_RECHECK: Duration = Duration::from_secs(1);

/// The client that sends.
pub(super) type Native = ThreadedProducer<Deliveries>;

/// Hands delivery reports to the call that waits for them.
pub(super) struct Deliveries {
    reports: Reports,
    room: Notify,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.reports.log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.note(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        pending.settle(result.as_ref().err().map(|(error, _)| error));
        self.room.notify_waiters();
    }
}

/// The messages of one call that brokers have not told of yet.
pub(super) struct Pending {
    left: AtomicUsize,
    failed: Mutex<Option<RDKafkaErrorCode>>,
    done: Notify,
}

impl Pending {
    /// Counts the caller itself, so that nothing is done before everything was sent.
    fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(1), failed: Mutex::new(None), done: Notify::new() })
    }

    fn settle(&self, error: Option<&KafkaError>) {
        if let Some(error) = error {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(code);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    async fn all(&self) -> Result<(), RDKafkaErrorCode> {
        while self.left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// What one message consists of.
pub(super) struct Outgoing<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub headers: OwnedHeaders,
    pub value: &'a [u8],
}

/// Sends records, and makes a new client when the present one has broken for good.
pub(super) struct Producer {
    options: Arc<KafkaOptions>,
    reports: Reports,
    current: Mutex<Arc<Native>>,
}

impl Producer {
    /// # Errors
    /// When librdkafka refuses the configuration, with the property that it names.
    pub(super) fn new(options: Arc<KafkaOptions>, reports: Reports) -> Result<Self, LogError> {
        let current = Mutex::new(connect(&options, &reports)?);
        Ok(Self { options, reports, current })
    }

    /// The present client, also good for questions to the cluster.
    pub(super) fn native(&self) -> Arc<Native> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends the records to the topic.
    ///
    /// # Errors
    /// After an error any part of them may stand in the topic. No message of the call is under way any more.
    pub(super) async fn append(&self, records: &[Record]) -> Result<(), LogError> {
        let (native, pending) = (self.native(), Pending::new());
        let (mut key, mut json) = (Vec::new(), Vec::new());
        for record in records {
            write_key(&record.envelope, &mut key);
            json.clear();
            record.envelope.write_json(&mut json);
            let message = Outgoing {
                topic: &self.options.topic,
                key: Some(&key),
                headers: headers(&json),
                value: &record.event,
            };
            if !enqueue(&native, &pending, message).await {
                break;
            }
        }
        self.finish(&native, &pending, &self.options.topic).await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub(super) async fn send(&self, message: Outgoing<'_>) -> Result<(), LogError> {
        let (native, pending, topic) = (self.native(), Pending::new(), message.topic);
        enqueue(&native, &pending, message).await;
        self.finish(&native, &pending, topic).await
    }

    async fn finish(&self, native: &Arc<Native>, pending: &Pending, topic: &str) -> Result<(), LogError> {
        pending.settle(None);
        let Err(code) = pending.all().await else { return Ok(()) };
        if let Some((_, reason)) = native.client().fatal_error() {
            self.replace(native, &reason)?;
        }
        Err(match code {
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition => missing(topic),
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => {
                LogError::Refused(format!(
                    "the topic {topic} takes no message of this size: its max.message.bytes is too small"
                ))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                LogError::Refused(format!("this user may not write to the topic {topic}"))
            }
            other => self.reports.unavailable(format!("the topic {topic} did not take a message: {other}")),
        })
    }

    /// A client whose producer id the cluster has fenced or lost takes no message any more.
    fn replace(&self, broken: &Arc<Native>, reason: &str) -> Result<(), LogError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, broken) {
            tracing::warn!(reason, "kafka's producer broke and is made anew");
            *current = connect(&self.options, &self.reports)?;
        }
        Ok(())
    }
}

fn connect(options: &KafkaOptions, reports: &Reports) -> Result<Arc<Native>, LogError> {
    let context = Deliveries { reports: reports.clone(), room: Notify::new() };
    options.producer().create_with_context(context).map(Arc::new).map_err(refused)
}

/// librdkafka refuses a configuration before it connects to anything.
pub(super) fn refused(error: KafkaError) -> LogError {
    let reason = match error {
        // The value is left out: under a mistyped name it can be a password.
        KafkaError::ClientConfig(_, reason, _, _) => reason,
        other => other.to_string(),
    };
    LogError::Refused(format!("kafka's client does not accept its configuration: {reason}"))
}

/// Puts one message into the producer's queue, waiting for room; false when that failed, which `pending` then tells.
async fn enqueue(native: &Native, pending: &Arc<Pending>, message: Outgoing<'_>) -> bool {
    pending.left.fetch_add(1, Ordering::AcqRel);
    let mut record: BaseRecord<'_, [u8], [u8], Arc<Pending>> =
        BaseRecord::with_opaque_to(message.topic, pending.clone())
            .payload(message.value)
            .headers(message.headers);
    record.key = message.key;
    loop {
        let room = native.client().context().room.notified();
        match native.send(record) {
            Ok(()) => return true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => {
                pending.settle(Some(&error));
                return false;
            }
        }
        // Room comes with a delivery, and every message is delivered or given back in bounded time.
        let _ = tokio::time::timeout(ROOM_RECHECK, room).await;
    }
}
