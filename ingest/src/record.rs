//! The envelope: what journal, log and ledger hold of an event. It wraps the event and never changes it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::{Day, Timestamp};

/// The largest event that is taken, in bytes after redaction.
///
/// kube-apiserver's largest request body is 3 MiB and a list response can be several times that;
/// what is larger is refused at the edge, before the journal, so that every later stage can hold it.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// The key of a record everywhere. The same event has the same id at every receipt.
///
/// Its first 48 bits are the milliseconds of [`Draft::at`], so ids sort by time and tell the day that the
/// record is filed under: a store can go by ranges of ids alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(pub Uuid);

impl RecordId {
    /// The smallest id of an instant: ids of one day lie between its start's and the next day's start's.
    pub const fn floor(at: Timestamp) -> Self {
        Self(Uuid::from_u128((at.millis() as u128 & 0xffff_ffff_ffff) << 80))
    }

    /// The UTC day that the record is filed under.
    pub const fn day(self) -> Day {
        Timestamp::from_micros((self.0.as_u128() >> 80) as i64 * 1_000).day()
    }

    /// Whether the record was written by Muniment itself, and not received: [`own_id`](crate::identity::own_id) made it.
    pub const fn is_own(self) -> bool {
        self.0.get_version_num() == 7
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of one instance: a UUIDv7, so boots of a source sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(pub Uuid);

impl Boot {
    /// When it began, in whole milliseconds; where the clock went back, just after the boot before it.
    pub fn started(self) -> Timestamp {
        let millis = (self.0.as_u128() >> 80) as i64;
        Timestamp::from_micros(millis * 1_000)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record's number within its boot: 1, 2, 3 … without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// What a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Kubernetes audit event.
    Audit,
    /// A use of Muniment's own API.
    Access,
    /// A fact about the pipeline itself: start, stop, gap, rejected items, policy change, retention.
    Pipeline,
}

impl Kind {
    /// Every kind, in the order of the numbers that a store may keep instead of the name.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Access, Self::Pipeline];

    /// The name in queries and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Access => "access",
            Self::Pipeline => "pipeline",
        }
    }
}

/// A record before the journal has numbered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// See [`RecordId`].
    pub id: RecordId,
    /// Which cluster or API the event speaks of.
    pub cluster: Arc<str>,
    /// What the event is.
    pub kind: Kind,
    /// The event's stageTimestamp: partitions and index folders go by its day.
    pub at: Timestamp,
    /// Hash of the redaction rules in force (SHA-256, lower-case hex); empty for records that we wrote ourselves.
    pub rules: Arc<str>,
    /// How many values redaction removed.
    pub redactions: u32,
    /// The exact bytes of the event after redaction.
    pub event: Bytes,
}

/// Everything of a record but its event. Stored as JSON; see [`Envelope::VERSION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Version of the stored form.
    pub v: u8,
    /// See [`RecordId`].
    pub id: RecordId,
    /// Which cluster or API the event speaks of.
    pub cluster: Arc<str>,
    /// The instance that journaled it.
    pub source: Arc<str>,
    /// That instance's start.
    pub boot: Boot,
    /// Number within the boot.
    pub seq: Seq,
    /// When it was journaled.
    pub received_at: Timestamp,
    /// What the event is.
    pub kind: Kind,
    /// The event's stageTimestamp.
    pub at: Timestamp,
    /// Hash of the redaction rules in force.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub rules: Arc<str>,
    /// How many values redaction removed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redactions: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Envelope {
    /// The version that is written. Every version ever written is read.
    pub const VERSION: u8 = 1;

    /// The UTC day that the record is filed under.
    pub fn day(&self) -> Day {
        self.at.day()
    }
}

/// What the journal, the log and the ledger hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Everything but the event.
    pub envelope: Envelope,
    /// The exact bytes of the event after redaction.
    pub event: Bytes,
}

/// Bytes that are not a stored record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its own header says.
    #[error("a stored record ends after {0} bytes")]
    Truncated(usize),
    /// The envelope is not the JSON object it should be.
    #[error("a stored record's envelope does not parse")]
    Envelope(#[from] serde_json::Error),
    /// Written by a newer Muniment.
    #[error("a stored record has version {0}; this program reads up to {max}", max = Envelope::VERSION)]
    Version(u8),
}

impl Record {
    /// Appends the stored form: the envelope's length (u32, little endian), the envelope, the event.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.envelope.write_json(out);
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.event);
    }

    /// Reads the stored form; the event shares `stored`'s memory.
    ///
    /// # Errors
    /// When `stored` was not written by [`Record::encode_into`] of this or an earlier version.
    pub fn decode(stored: &Bytes) -> Result<Self, DecodeError> {
        let truncated = || DecodeError::Truncated(stored.len());
        let (head, rest) = stored.split_first_chunk::<4>().ok_or_else(truncated)?;
        let len = u32::from_le_bytes(*head) as usize;
        let envelope = rest.get(..len).ok_or_else(truncated)?;
        Ok(Self { envelope: Envelope::from_json(envelope)?, event: stored.slice(4 + len..) })
    }
}

impl Envelope {
    /// Appends the envelope's JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        // Writing plain strings and numbers into memory has no way to fail.
        let written = serde_json::to_writer(&mut *out, self);
        debug_assert!(written.is_ok());
    }

    /// Reads an envelope's JSON.
    ///
    /// # Errors
    /// When the bytes are not an envelope, or one of a newer version.
    pub fn from_json(json: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Self = serde_json::from_slice(json)?;
        if envelope.v > Self::VERSION {
            return Err(DecodeError::Version(envelope.v));
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stored form of version 1, as it was first written. It must read for ever.
    const STORED_V1: &[u8] = include_bytes!("record/v1.bin");

    fn record() -> Record {
        let id = RecordId(Uuid::from_u128(0x018f_0000_0000_8000_8000_0000_0000_0001));
        Record {
            envelope: Envelope {
                v: 1,
                id,
                cluster: "demo".into(),
                source: "host-a".into(),
                boot: Boot(Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0002)),
                seq: Seq(7),
                received_at: Timestamp::from_micros(1_700_000_000_000_001),
                kind: Kind::Audit,
                at: Timestamp::from_micros(1_700_000_000_000_000),
                rules: "abc".into(),
                redactions: 2,
            },
            event: Bytes::from_static(br#"{"level":"Metadata"}"#),
        }
    }

    #[test]
    fn an_id_tells_its_day() {
        let day: Day = "2026-11-23".parse().unwrap();
        assert_eq!(RecordId::floor(day.start()).day(), day);
        assert_eq!(
            RecordId(Uuid::from_u128(RecordId::floor(day.plus(1).start()).0.as_u128() - 1)).day(),
            day
        );
    }

    #[test]
    fn version_one_still_reads() {
        assert_eq!(Record::decode(&Bytes::from_static(STORED_V1)).unwrap(), record());
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        record().encode_into(&mut out);
        assert_eq!(Record::decode(&out.into()).unwrap(), record());
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let mut newer = record();
        newer.envelope.v = 9;
        let mut out = Vec::new();
        newer.encode_into(&mut out);
        assert!(matches!(Record::decode(&out.into()), Err(DecodeError::Version(9))));
    }

    #[test]
    fn a_cut_record_is_an_error() {
        for len in 0..STORED_V1.len() - 20 {
            assert!(Record::decode(&Bytes::from_static(&STORED_V1[..len])).is_err(), "{len} bytes");
        }
    }
}
