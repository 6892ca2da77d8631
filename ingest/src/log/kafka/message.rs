//! How a record stands in Kafka: its event as the value, so that any tool can read it, its envelope in one header.

use std::ffi::CStr;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use serde_json::value::RawValue;

use super::header::header;
use crate::{
    log::{Delivery, Offset, Poison},
    record::{Envelope, Record},
};

/// The header that holds the envelope's JSON.
pub const ENVELOPE_HEADER: &str = "muniment-envelope";
const ENVELOPE_HEADER_C: &CStr = c"muniment-envelope";

/// Between cluster and source in a key: neither name can hold it.
const UNIT_SEPARATOR: u8 = 0x1F;

/// Writes the key of a record: records of one cluster and source share a partition, and so keep their order.
pub(super) fn write_key(envelope: &Envelope, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(envelope.cluster.as_bytes());
    key.push(UNIT_SEPARATOR);
    key.extend_from_slice(envelope.source.as_bytes());
}

/// The headers of a message whose envelope's JSON is `envelope`.
pub(super) fn headers(envelope: &[u8]) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(1).insert(Header { key: ENVELOPE_HEADER, value: Some(envelope) })
}

/// Reads one message. What is no record becomes poison with the reason.
pub(super) fn read(message: &BorrowedMessage<'_>) -> Delivery {
    let envelope = header(message, ENVELOPE_HEADER_C);
    let event = message.payload().map(Bytes::copy_from_slice);
    let record = match (envelope.map(Envelope::from_json), event) {
        (Some(Ok(read)), Some(event)) => match flaw(&read, &event) {
            Some(reason) => Err(poison(reason, envelope, Some(event))),
            None => Ok(Record { envelope: read, event }),
        },
        (Some(Ok(_)), None) => Err(poison("there is no value".to_owned(), envelope, None)),
        (Some(Err(error)), event) => Err(poison(describe(&error), envelope, event)),
        (None, event) => Err(poison(format!("there is no header {ENVELOPE_HEADER}"), None, event)),
    };
    Delivery { partition: message.partition(), offset: Offset(message.offset().unsigned_abs()), record }
}

/// Why a message cannot be kept and shown as a record although its envelope reads: anybody who may write to the topic
/// can have written it, and one that the stores refuse would stop every reader behind it.
fn flaw(envelope: &Envelope, event: &[u8]) -> Option<String> {
    let names = [("cluster", &envelope.cluster), ("source", &envelope.source), ("rules", &envelope.rules)];
    if let Some((member, _)) = names.iter().find(|(_, name)| name.contains('\0')) {
        return Some(format!("the envelope's {member} has a NUL"));
    }
    let (named, told) = (envelope.id.day(), envelope.day());
    if named != told {
        return Some(format!("the envelope's at is of {told}, its id of {named}"));
    }
    match serde_json::from_slice::<&RawValue>(event) {
        Ok(value) if value.get().starts_with('{') => None,
        Ok(_) => Some("the value is no JSON object".to_owned()),
        Err(error) => Some(format!("the value is no JSON object: {error}")),
    }
}

fn poison(reason: String, envelope: Option<&[u8]>, event: Option<Bytes>) -> Poison {
    Poison { reason, envelope: envelope.map(Bytes::copy_from_slice), event: event.unwrap_or_default() }
}

/// The error with its cause: an operator reads it in a header, where no chain of causes is printed.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
