//! A record on its way to the writer: its stored form but for what only the writer knows.
//!
//! Envelopes are made into JSON by the tasks that append, so that the one thread that writes only copies bytes.

use std::io::Write as _;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    record::{Boot, Draft, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};

/// About what an envelope takes.
const ENVELOPE_BYTES: usize = 384;

/// What stands before the number in an envelope's JSON, in [`Envelope`]'s order.
#[derive(Serialize)]
struct Head<'a> {
    v: u8,
    id: RecordId,
    cluster: &'a str,
    source: &'a str,
    boot: Boot,
}

/// What stands behind the time.
#[derive(Serialize)]
struct Tail<'a> {
    kind: Kind,
    at: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    rules: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    redactions: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A record that waits to be written.
pub(super) struct Frame {
    envelope: Vec<u8>,
    /// Where number and time go; nothing when they were given elsewhere.
    open: Option<usize>,
    event: Bytes,
}

impl Frame {
    /// A record that the writer will number.
    pub(super) fn of_draft(draft: Draft, source: &str, boot: Boot) -> Self {
        let Draft { id, cluster, kind, at, rules, redactions, event } = draft;
        let mut envelope = Vec::with_capacity(ENVELOPE_BYTES);
        json(&Head { v: Envelope::VERSION, id, cluster: &cluster, source, boot }, &mut envelope);
        // The two objects become one: what closes the first and opens the second gives way to number and time.
        envelope.pop();
        let open = envelope.len();
        json(&Tail { kind, at, rules: &rules, redactions }, &mut envelope);
        envelope[open] = b',';
        Self { envelope, open: Some(open), event }
    }

    /// A record that was numbered elsewhere and stays as it is.
    pub(super) fn of_record(record: Record) -> Self {
        let mut envelope = Vec::with_capacity(ENVELOPE_BYTES);
        record.envelope.write_json(&mut envelope);
        Self { envelope, open: None, event: record.event }
    }

    /// About how many bytes it takes in a segment.
    pub(super) const fn bytes(&self) -> u64 {
        (self.envelope.len() + self.event.len()) as u64 + MOST_ADDED
    }

    /// Whether the writer is to number it.
    pub(super) const fn is_numbered_here(&self) -> bool {
        self.open.is_some()
    }

    /// Appends the stored form of [`Record::encode_into`]; `seq` and `received` count where they were left open.
    pub(super) fn write(&self, seq: Seq, received: &Received, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let (head, tail) = self.envelope.split_at(self.open.unwrap_or(self.envelope.len()));
        out.extend_from_slice(head);
        if self.open.is_some() {
            // Writing into memory has no way to fail.
            let _ = write!(out, r#","seq":{},"received_at":"{}""#, seq.0, received.0);
        }
        out.extend_from_slice(tail);
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.event);
    }
}

/// Most bytes that lengths, number and time add to a record.
const MOST_ADDED: u64 = 96;

/// The instant of a block, as text: it is the same for all its records.
pub(super) struct Received(String);

impl From<Timestamp> for Received {
    fn from(at: Timestamp) -> Self {
        Self(at.to_string())
    }
}

fn json(part: &impl Serialize, out: &mut Vec<u8>) {
    // Writing plain strings and numbers into memory has no way to fail.
    let written = serde_json::to_writer(out, part);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_is_written_as_its_record_would_be(
            cluster in ".{0,12}", source in ".{0,12}", rules in "[a-f0-9]{0,3}", redactions in 0u32..3,
            seq in 0u64.., micros in 0i64..4_000_000_000_000_000, event in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let draft = Draft {
                id: RecordId(Uuid::from_u128(u128::from(seq) << 70)),
                cluster: cluster.into(),
                kind: Kind::ALL[redactions as usize],
                at: Timestamp::from_micros(micros / 2),
                rules: rules.into(),
                redactions,
                event: event.into(),
            };
            let boot = Boot(Uuid::from_u128(9));
            let Draft { id, cluster, kind, at, rules, redactions, event } = draft.clone();
            let (v, received_at) = (Envelope::VERSION, Timestamp::from_micros(micros));
            let envelope = Envelope {
                v, id, cluster, source: source.clone().into(), boot, seq: Seq(seq), received_at, kind, at, rules, redactions,
            };
            let record = Record { envelope, event };
            let mut expected = Vec::new();
            record.encode_into(&mut expected);
            let own = Frame::of_draft(draft, &source, boot);
            let foreign = Frame::of_record(record);
            prop_assert!(own.is_numbered_here() && !foreign.is_numbered_here());
            for frame in [own, foreign] {
                let mut written = Vec::new();
                frame.write(Seq(seq), &received_at.into(), &mut written);
                prop_assert!(written.len() as u64 <= frame.bytes());
                prop_assert_eq!(&written, &expected);
            }
        }
    }
}
