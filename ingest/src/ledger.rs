//! The ledger: where records are kept for good, each once.

mod codec;
mod deployment;
mod failure;
mod fields;
#[cfg(any(test, feature = "laws"))]
pub mod laws;
mod open;
mod origin;
mod postgres;
mod receipts;
mod sqlite;
mod stored;

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    identity::KeyCheck,
    log::{LogId, Offset, Partition, Positions},
    pipeline::Unfinished,
    ranges::Ranges,
    record::{Boot, Record, RecordId},
    time::{Day, Timestamp},
};

pub use self::{open::OpenError, postgres::PostgresLedger, sqlite::SqliteLedger};

/// One answer of [`Ledger::scan`] ends once it holds this many bytes of stored events, packed to about a sixth: what a
/// reader holds at a time stays bounded even when every event is as large as they come.
pub const MAX_SCAN_BYTES: usize = 16 * 1024 * 1024;

/// So many unfinished requests are told at most in one answer of [`Ledger::unfinished`].
pub const MAX_UNFINISHED: usize = 1_000;

/// What one transaction brings: records, and how far they take each partition.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Records in the order in which the log delivered them.
    pub records: Vec<Record>,
    /// For each partition the offset at which the reader expects the ledger to be, and the one after this batch.
    /// A ledger that never saw the partition is at offset 0.
    pub moves: BTreeMap<Partition, (Offset, Offset)>,
    /// Ranges that are known to be lost, with the reason.
    pub gaps: Vec<Gap>,
}

/// What [`Ledger::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that were new.
    pub inserted: u64,
    /// Records that the ledger had already.
    pub duplicates: u64,
}

/// A range that will not come, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The instance whose numbers are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// Its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// First missing number (of the boot, or offset of the partition).
    pub first: u64,
    /// Last missing number; [`Gap::OPEN`] when it is not known.
    pub last: u64,
    /// The partition, when the range is one of the log's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// In words for an operator.
    pub reason: String,
    /// When it was noticed.
    pub at: Timestamp,
}

impl Gap {
    /// The end of a range whose end is not known: the largest number that a database and JSON's readers agree on.
    pub const OPEN: u64 = (1 << 53) - 1;

    /// How the reason of an entry begins that was kept aside because it is no record.
    pub(crate) const SET_ASIDE: &str = "set aside, it is no record";

    /// Whether this is such an entry, and not a range whose records are lost.
    pub fn is_set_aside(&self) -> bool {
        self.reason.starts_with(Self::SET_ASIDE)
    }
}

/// What is known of one boot of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSummary {
    /// The instance.
    pub source: Arc<str>,
    /// Its start.
    pub boot: Boot,
    /// The boot before it and the last number that one gave, from its first record.
    pub previous: Option<(Boot, u64)>,
    /// Which numbers arrived.
    pub seen: Ranges,
    /// When its first and its latest record were journaled.
    pub received: (Timestamp, Timestamp),
    /// Records that were removed because the ledger had them already.
    pub duplicates: u64,
    /// Items that intake refused, as the boot's own records tell.
    pub rejected: u64,
}

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another reader moved the partition: this one no longer owns it and must read its position anew.
    #[error("partition {partition} is at {found:?}, not at {expected:?}: another recorder owns it")]
    Fenced {
        /// The partition.
        partition: Partition,
        /// What the batch expected.
        expected: Offset,
        /// What the ledger holds.
        found: Option<Offset>,
    },
    /// The database cannot be reached or is full: trying again later is right.
    #[error("the ledger's database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with an error that trying again does not mend.
    #[error("the ledger's database refuses")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored does not read.
    #[error("the ledger holds a value that does not read: {0}")]
    Corrupt(String),
}

/// Every record once, for as long as retention says, with the position in the log that it stands for.
///
/// # Laws
/// 1. `apply` is one transaction: all of the batch and its positions, or nothing.
/// 2. A record whose id is there already changes no row and counts as a duplicate.
/// 3. A batch whose expected offset is not the stored one fails with [`LedgerError::Fenced`] and changes nothing.
/// 4. What was seen of a boot outlives the rows: neither a removed duplicate nor an expired day is a hole.
/// 5. `get` gives the bytes that were applied.
/// 6. A gap that is known already is not recorded again; what a record of the pipeline tells of its boot counts once.
///    A request that died is such a fact, and outlives the rows as well.
/// 7. The key check that came first stays, however many come at once: every caller is given that one.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Keeps `own` as the check value of the deployment's key when the ledger has none yet, and gives the one that is
    /// kept. Records of a caller whose own is another would have other ids than the same events have here.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn key_check(&self, own: KeyCheck) -> Result<KeyCheck, LedgerError>;

    /// Says that this process records from `log` from now on, for as long as it runs. All that record into one ledger
    /// read one log: the positions of two would take turns, each of them the other's lost end.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] while another process records from another log. A ledger that one process has to
    /// itself never says so.
    async fn follow(&self, _log: &LogId) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Applies one batch.
    ///
    /// # Errors
    /// See the laws; nothing was applied.
    async fn apply(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError>;

    /// Where reading `log` goes on. Empty for a log that the ledger never saw.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn positions(&self, log: &LogId) -> Result<Positions, LedgerError>;

    /// The log whose positions were written last, or nothing in an empty ledger.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn current_log(&self) -> Result<Option<LogId>, LedgerError>;

    /// The records with these ids, in the order asked for; those that are not there are left out.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Record>, LedgerError>;

    /// Records of the days `days`, by day and id, after `after`, at most `limit`. Every record that was there when the scan of its day began is given.
    ///
    /// An answer may hold fewer than `limit` (see [`MAX_SCAN_BYTES`]); only an empty one says that there are no more.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn scan(
        &self,
        days: Range<Day>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, LedgerError>;

    /// The days that hold records, ascending, with the number of records.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn days(&self) -> Result<Vec<(Day, u64)>, LedgerError>;

    /// Removes every day before `first`; returns the days removed.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn expire(&self, first: Day) -> Result<Vec<Day>, LedgerError>;

    /// What is known of every boot that journaled something in `received`.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn boots(&self, received: Range<Timestamp>) -> Result<Vec<BootSummary>, LedgerError>;

    /// The gaps that were recorded.
    ///
    /// # Errors
    /// When the database does not answer.
    async fn gaps(&self) -> Result<Vec<Gap>, LedgerError>;

    /// The requests that arrived in `received` and died between their stages, the earliest first, at most
    /// [`MAX_UNFINISHED`].
    ///
    /// # Errors
    /// When the database does not answer.
    async fn unfinished(&self, received: Range<Timestamp>) -> Result<Vec<Unfinished>, LedgerError>;
}
