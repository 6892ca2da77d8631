//! How a journal is opened, and what an open finds.

use std::{io, ops::Range, sync::Arc};

use tracing::{info, warn};

use super::segment;
use crate::{
    log::Offset,
    pipeline::Previous,
    record::{Boot, Seq},
    sealed::Seal,
    time::Clock,
};

/// How many bytes a journal holds when nothing else is asked for: a million events and more.
pub const DEFAULT_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Most bytes of records that it holds; then appends fail with [`AppendError::Full`](super::AppendError::Full).
    /// The space reserved for the newest segment (a sixteenth of it, at most 64 MiB) may come on top.
    pub max_bytes: u64,
    /// The name of this instance, which stands in every record.
    pub source: Arc<str>,
    /// Where the current time comes from.
    pub clock: Clock,
    /// What seals bodies before they are journaled; without it they are journaled as they come.
    pub seal: Option<Arc<dyn Seal>>,
    /// Goes on when durable records turn out damaged, and records what is lost.
    pub accept_gap: bool,
}

impl JournalOptions {
    /// The defaults, for an instance of this name.
    pub fn new(source: impl Into<Arc<str>>, clock: Clock) -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, source: source.into(), clock, seal: None, accept_gap: false }
    }
}

/// A write that a crash cut short. Nobody was told that it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Name of the segment file.
    pub file: String,
    /// Where in it.
    pub at: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// Records that were durable and are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Name of the segment file.
    pub file: String,
    /// Where in it the damage begins.
    pub at: u64,
    /// The offsets that hold nothing any more.
    pub offsets: Range<Offset>,
    /// The boot whose records they were.
    pub boot: Boot,
    /// Its first number that is lost.
    pub first: Seq,
    /// Its last number that is lost.
    pub last: Seq,
}

/// What [`Journal::open`](super::Journal::open) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The boot before this one, as far as the journal knows.
    pub previous: Option<Previous>,
    /// A torn tail, which was cut.
    pub torn: Option<Torn>,
    /// Damage that was accepted now. Each is also recorded as a gap in the journal itself.
    pub lost: Vec<Lost>,
    /// The offset after the last record that was found.
    pub next: Offset,
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the journal {0} is in use by another process")]
    InUse(String),
    /// A file could not be read or written.
    #[error("the journal's file {file} cannot be read or written")]
    Io {
        /// Name of the file in the journal's folder.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Written by a newer Muniment.
    #[error("the journal's file {file} has format version {version}; this program reads up to {max}", max = segment::VERSION)]
    Newer {
        /// Name of the file in the journal's folder.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Records that were durable are damaged.
    #[error(
        "the journal's file {file} is damaged at byte {at} ({lost} records are lost); --accept-gap goes on and records the gap"
    )]
    Corrupt {
        /// Name of the file in the journal's folder.
        file: String,
        /// Where the damage begins.
        at: u64,
        /// How many records it takes.
        lost: u64,
    },
    /// The writer's thread could not be started.
    #[error("the journal's writer cannot be started")]
    Thread(#[source] io::Error),
}

impl Opened {
    /// Tells the operator of what was not as it should be.
    pub(super) fn report(&self) {
        if let Some(torn) = &self.torn {
            info!(
                file = torn.file,
                at = torn.at,
                bytes = torn.bytes,
                "cut a write that the last stop left unfinished"
            );
        }
        for lost in &self.lost {
            warn!(file = lost.file, at = lost.at, boot = %lost.boot, first = lost.first.0, last = lost.last.0, "journaled records are lost");
        }
    }
}
