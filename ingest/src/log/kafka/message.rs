//! How a record stands in Kafka: its event as the value, so that any tool can read it, its envelope in one header.

use std::ffi::CStr;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};

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
        (Some(Ok(envelope)), Some(event)) => Ok(Record { envelope, event }),
        (Some(Ok(_)), None) => Err(poison("there is no value".to_owned(), envelope, None)),
        (Some(Err(error)), event) => Err(poison(describe(&error), envelope, event)),
        (None, event) => Err(poison(format!("there is no header {ENVELOPE_HEADER}"), None, event)),
    };
    Delivery { partition: message.partition(), offset: Offset(message.offset().unsigned_abs()), record }
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
