//! The log: where records wait, in order and durable, for the ledger and the index.

pub mod kafka;
#[cfg(any(test, feature = "laws"))]
pub mod laws;
pub mod local;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Which log a position belongs to. A topic that was deleted and created again has another id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(pub Arc<str>);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An ordered part of a log. The local log has one, number 0.
pub type Partition = i32;

/// A place in a partition: the offset of the next record to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// Where to go on reading, for each partition; a partition that is missing is read from offset 0.
pub type Positions = BTreeMap<Partition, Offset>;

/// Who reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A member of a group that shares the partitions: each is given to one member at a time.
    Member {
        /// Name of the group.
        group: String,
        /// Name of this member, the same at every start (static membership).
        member: String,
    },
    /// Reads every partition by itself.
    Whole {
        /// Name under which its positions are published.
        group: String,
    },
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The partition it was read from.
    pub partition: Partition,
    /// Its place there. Offsets ascend within a partition; they may skip numbers.
    pub offset: Offset,
    /// The record, or why the entry is not one.
    pub record: Result<Record, Poison>,
}

/// An entry that is no record: kept aside with its reason, never skipped silently.
#[derive(Clone, Debug)]
pub struct Poison {
    /// Why it could not be read.
    pub reason: String,
    /// What stands where the envelope should, if anything does.
    pub envelope: Option<Bytes>,
    /// What stands where the event should.
    pub event: Bytes,
}

/// What a subscription has to say.
#[derive(Clone, Debug)]
pub enum Polled {
    /// Entries, in order within each partition; at least one.
    Batch(Vec<Delivery>),
    /// Nothing arrived within the time given.
    Idle,
    /// These partitions are now this reader's. It answers with [`Subscription::start`] before it is given entries of them.
    Assigned(Vec<Partition>),
    /// These partitions are no longer this reader's: what it holds of them and has not applied is dropped.
    Revoked(Vec<Partition>),
    /// The range `from..to` of the partition is gone (retention): it is recorded as a gap, and reading goes on at `to`.
    /// When `to` lies before `from`, the log was cut back (a broker lost its end), and what it gives from `to` on is new.
    Lost {
        /// The partition.
        partition: Partition,
        /// The first offset that is missing.
        from: Offset,
        /// The first offset that is there.
        to: Offset,
        /// Why, in words for an operator.
        reason: String,
    },
    /// The log was removed and made anew: positions of the former one say nothing about it. What the reader holds and
    /// has not applied is dropped, the partitions are no longer its own, and [`Polled::Assigned`] follows for the new log.
    Renewed {
        /// The new log.
        id: LogId,
        /// How far this reader had read the former log; what lay behind is lost.
        read: Positions,
        /// Why, in words for an operator.
        reason: String,
    },
}

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be reached, or did not answer in time. Trying again later is right.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// It refuses for good, as configured.
    #[error("the log refuses: {0}")]
    Refused(String),
    /// Another reader has joined the group under the name of this member. It may have been this one, before an outage
    /// that it did not see the end of: whoever reads may join again, a few times.
    #[error("another process reads under the name of this member")]
    Fenced,
    /// The journal under the local log failed.
    #[error("the local log failed")]
    Local(#[source] std::io::Error),
}

/// How safe an appended record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// On at least two replicas, or on the only disk there is: the journal may forget it.
    Safe,
    /// On one replica: the journal keeps it until the ledger has it.
    OneReplica,
}

/// An ordered, durable log of records in partitions.
///
/// # Laws
/// 1. When `append` returns `Ok`, every record is durable and will be delivered to every group.
/// 2. Records of one `cluster` and `source` are delivered in the order in which they were appended.
/// 3. Reading from a position gives every entry at and after it, or [`Polled::Lost`] for the range that is gone.
/// 4. Appending twice delivers twice: removing duplicates is the ledger's part.
/// 5. A published position is what the log may forget up to, as far as that group goes.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Which log this is, now.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn id(&self) -> Result<LogId, LogError>;

    /// Appends the records and returns when they are durable.
    ///
    /// # Errors
    /// After an error any part of the records may have been appended: append them again.
    async fn append(&self, records: &[Record]) -> Result<Safety, LogError>;

    /// Starts to read.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn subscribe(&self, reader: Reader) -> Result<Box<dyn Subscription>, LogError>;

    /// Where each partition begins and ends: the first offset there is, and the next to be given.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError>;

    /// The positions that `group` published.
    ///
    /// # Errors
    /// When it cannot be reached.
    async fn published(&self, group: &str) -> Result<Positions, LogError>;

    /// Keeps an entry that is no record where an operator finds it, with its reason and place, and returns when that is
    /// durable. Afterwards the reader goes on behind it.
    ///
    /// # Errors
    /// When it cannot be kept: the reader must not go on.
    async fn set_aside(&self, partition: Partition, offset: Offset, poison: &Poison) -> Result<(), LogError>;
}

/// One reader's view of the log.
#[async_trait]
pub trait Subscription: Send {
    /// The next thing that happens, waiting for at most `wait`. A batch holds at most `max` entries.
    ///
    /// Cancelling the future loses nothing.
    ///
    /// # Errors
    /// When the log cannot be reached; polling again goes on where it was.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError>;

    /// Begins (or begins again) to deliver these partitions at these offsets.
    ///
    /// # Errors
    /// When the log cannot be reached.
    async fn start(&mut self, positions: &Positions) -> Result<(), LogError>;

    /// Publishes that everything before these offsets is applied in the reader's store. It does not wait until others
    /// see it, which is moments later.
    ///
    /// # Errors
    /// When the log cannot be reached. The position in the reader's store is what counts.
    async fn publish(&mut self, positions: &Positions) -> Result<(), LogError>;
}
