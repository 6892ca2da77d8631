//! How values of the domain stand in a database's columns.

use std::collections::HashMap;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    LedgerError,
    codec::{UnpackError, Unpacker},
    origin::Origin,
};
use crate::{
    log::{Offset, Positions},
    pipeline::Unfinished,
    ranges::Ranges,
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::{Day, Timestamp},
};

/// Databases have signed numbers only. Offsets and sequence numbers do not get near the limit.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(crate) fn kind_number(kind: Kind) -> i16 {
    kind as i16
}

fn kind(number: i16) -> Result<Kind, LedgerError> {
    let kind = usize::try_from(number).ok().and_then(|n| Kind::ALL.get(n));
    kind.copied().ok_or_else(|| LedgerError::Corrupt(format!("kind {number}")))
}

pub(crate) fn ranges_to_json(ranges: &Ranges) -> Result<String, LedgerError> {
    serde_json::to_string(ranges).map_err(|error| LedgerError::Refused(error.into()))
}

pub(crate) fn ranges_from_json(json: &str) -> Result<Ranges, LedgerError> {
    serde_json::from_str(json).map_err(|error| LedgerError::Corrupt(format!("ranges: {error}")))
}

/// What was seen of a boot, which is kept in chunks.
pub(crate) fn ranges_from_chunks(chunks: &[String]) -> Result<Ranges, LedgerError> {
    let mut seen = Ranges::default();
    for chunk in chunks {
        seen.extend(&ranges_from_json(chunk)?);
    }
    Ok(seen)
}

/// The boot before another, and its last number.
pub(crate) fn previous(boot: Option<Uuid>, last: Option<i64>) -> Option<(Boot, u64)> {
    boot.zip(last).map(|(boot, last)| (Boot(boot), uint(last)))
}

pub(crate) fn positions(rows: Vec<(i32, i64)>) -> Positions {
    rows.into_iter().map(|(partition, next)| (partition, Offset(uint(next)))).collect()
}

pub(crate) fn days(rows: Vec<(i32, i64)>) -> Vec<(Day, u64)> {
    rows.into_iter().map(|(day, records)| (Day::from_number(day), uint(records))).collect()
}

/// Records in the order in which they were asked for; one that is asked for twice is given twice.
pub(crate) fn in_order(ids: &[RecordId], records: impl IntoIterator<Item = Record>) -> Vec<Record> {
    let found: HashMap<RecordId, Record> = records.into_iter().map(|r| (r.envelope.id, r)).collect();
    ids.iter().filter_map(|id| found.get(id).cloned()).collect()
}

/// An event that does not pack: zstd is out of memory.
pub(crate) fn packing(error: std::io::Error) -> LedgerError {
    LedgerError::Unavailable(error.into())
}

/// The columns from which a record is made again.
pub(crate) struct StoredRecord<'a> {
    pub(crate) id: Uuid,
    pub(crate) seq: i64,
    pub(crate) at: Timestamp,
    pub(crate) received_at: Timestamp,
    pub(crate) kind: i16,
    pub(crate) redactions: i64,
    pub(crate) event: &'a [u8],
}

impl StoredRecord<'_> {
    pub(crate) fn record(self, origin: Origin, unpacker: &mut Unpacker) -> Result<Record, LedgerError> {
        let envelope = Envelope {
            v: Envelope::VERSION,
            id: RecordId(self.id),
            cluster: origin.cluster,
            source: origin.source,
            boot: origin.boot,
            seq: Seq(uint(self.seq)),
            received_at: self.received_at,
            kind: kind(self.kind)?,
            at: self.at,
            rules: origin.rules,
            redactions: u32::try_from(self.redactions).unwrap_or(u32::MAX),
        };
        Ok(Record { event: self.unpack(unpacker)?, envelope })
    }

    fn unpack(&self, unpacker: &mut Unpacker) -> Result<Bytes, LedgerError> {
        let corrupt = |error: UnpackError| LedgerError::Corrupt(format!("event of {}: {error}", self.id));
        unpacker.unpack(self.event).map_err(corrupt)
    }
}

/// The stored form of a request that died: JSON.
pub(crate) fn told(unfinished: &Unfinished) -> Result<String, LedgerError> {
    serde_json::to_string(unfinished).map_err(|error| LedgerError::Corrupt(error.to_string()))
}

/// Reads it.
pub(crate) fn unfinished(told: &str) -> Result<Unfinished, LedgerError> {
    serde_json::from_str(told).map_err(|error| LedgerError::Corrupt(error.to_string()))
}
