//! Whether requests wait for their records.

use ingest::journal::{AppendError, Journal, Written};

/// What a request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is changed before the opening record is on the disk, and no answer goes before the closing one is.
    #[default]
    Strict,
    /// Records are handed to the journal, and nobody waits for the disk: what a crash of the process or of the machine
    /// finds in memory is lost.
    Batch,
}

impl Mode {
    /// Looks, where nobody will wait for the disk, whether it takes anything.
    pub(super) fn look(self, journal: &Journal) -> Result<(), AppendError> {
        if self == Self::Batch && journal.has_no_space() { Err(AppendError::NoSpace) } else { Ok(()) }
    }

    /// Waits for the disk, where that is asked for.
    pub(super) async fn wait(self, written: Written) -> Result<(), AppendError> {
        match self {
            Self::Strict => written.durable().await.map(drop),
            Self::Batch => Ok(()),
        }
    }
}
