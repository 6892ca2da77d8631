//! What reading gives.

use std::io;

use bytes::Bytes;

use crate::{
    log::{Offset, Poison},
    record::{DecodeError, Record},
};

/// One entry of the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub offset: Offset,
    /// The record, or why its bytes are not one that this program knows.
    pub record: Result<Record, Poison>,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was released and is gone.
    #[error("the journal begins at {first:?}")]
    Released {
        /// The first offset that is there.
        first: Offset,
    },
    /// A durable block no longer reads as it was written.
    #[error("the journal's file {file} is damaged at byte {at}")]
    Corrupt {
        /// Name of the file in the journal's folder.
        file: String,
        /// Where in it.
        at: u64,
    },
    /// The file could not be read.
    #[error("the journal cannot be read")]
    Io(#[source] io::Error),
}

impl Entry {
    /// The entry at `offset`, whose stored form is `stored`.
    pub(super) fn of(offset: Offset, stored: Bytes) -> Self {
        let poison = |e: DecodeError| Poison { reason: e.to_string(), envelope: None, event: stored.clone() };
        Self { offset, record: Record::decode(&stored).map_err(poison) }
    }
}
