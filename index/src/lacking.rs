//! Why an index does not hold what the ledger holds. It is kept with the index until the index has been made anew.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::schema::VERSION;

/// What an index lacks; only a rebuild brings it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Lacking {
    /// There was no index: an empty one was made.
    New,
    /// The index was one of another version of this program: an empty one took its place.
    OtherVersion {
        /// That version.
        found: u32,
    },
    /// A range of the log was gone before it was read here. The ledger may have read it in time.
    Range {
        /// Which, and why it is gone.
        reason: String,
    },
    /// The log was removed and made anew. What the ledger read last of the former one may not have been read here,
    /// or the reverse.
    Log {
        /// What is known of it.
        reason: String,
    },
    /// The ledger's reader lost a range of the log that may have been read here in time: what nobody can show any more
    /// must not be found either.
    Gap {
        /// Which, and why it is gone.
        reason: String,
    },
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("there was no index"),
            Self::OtherVersion { found } => {
                write!(f, "the index was of version {found}, this program writes version {VERSION}")
            }
            Self::Range { reason } => write!(f, "the log lost what the index had not read: {reason}"),
            Self::Gap { reason } => write!(f, "the ledger does not have what may be in the index: {reason}"),
            Self::Log { reason } => write!(f, "the log was made anew: {reason}"),
        }
    }
}
