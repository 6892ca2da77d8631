//! What one query may use, and what it did not get to see.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

/// Why a result may lack something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partial {
    /// The time was up before everything was looked at.
    Time,
    /// A value longer than the index keeps may have matched beyond the part that is kept.
    LongValue,
    /// Records are indexed that the ledger does not give yet.
    Pending,
    /// Records are indexed that the ledger does not have and will not get.
    Gone,
}

impl Partial {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "the time for one query was up before every record was looked at",
            Self::LongValue => "values longer than 8 KiB were compared by their first 8 KiB",
            Self::Pending => "records that were found are not in the ledger yet",
            Self::Gone => "records that were found are not in the ledger and will not come",
        }
    }
}

/// The time of one query, and marks of what it left out. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ends: Instant,
    late: AtomicBool,
    saw_cut: AtomicBool,
}

impl Budget {
    pub(crate) fn new(time: Duration) -> Self {
        let shared = Shared {
            ends: Instant::now() + time,
            late: AtomicBool::new(false),
            saw_cut: AtomicBool::new(false),
        };
        Self(Arc::new(shared))
    }

    /// Whether the time is up. It costs a look at the clock: ask once for some hundred documents.
    pub(crate) fn is_over(&self) -> bool {
        if self.0.late.load(Ordering::Relaxed) {
            return true;
        }
        let late = Instant::now() >= self.0.ends;
        self.0.late.fetch_or(late, Ordering::Relaxed);
        late
    }

    /// Notes that a value of which only the beginning is kept did not match.
    pub(crate) fn saw_cut(&self) {
        self.0.saw_cut.store(true, Ordering::Relaxed);
    }

    /// What is to be said about the result.
    pub(crate) fn partial(&self) -> Option<Partial> {
        if self.0.late.load(Ordering::Relaxed) {
            Some(Partial::Time)
        } else {
            self.0.saw_cut.load(Ordering::Relaxed).then_some(Partial::LongValue)
        }
    }
}
