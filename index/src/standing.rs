//! How far an index is: the file that is written after all changed days are committed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use ingest::{
    log::{LogId, Positions},
    time::Day,
};
use serde::{Deserialize, Serialize};

use crate::{IndexError, lacking::Lacking};

const FILE: &str = "positions.json";

/// What an index stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The log that the positions are of.
    pub log: Option<LogId>,
    /// Where reading it goes on.
    pub positions: Positions,
    /// No document has an arrival number at or above this one.
    pub ceiling: u64,
    /// What it does not hold although the ledger does: set until it has been made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<Lacking>,
    /// Ranges of the log that the ledger knew as lost when they were compared last.
    #[serde(default)]
    pub(crate) gaps: Option<u64>,
    /// For each day one more than the largest arrival number in it.
    #[serde(default)]
    pub(crate) days: BTreeMap<String, u64>,
}

impl Standing {
    /// The place in `log` that a commit stands for.
    pub fn at(log: LogId, positions: Positions) -> Self {
        Self { log: Some(log), positions, ..Self::default() }
    }

    /// Reads the file of a generation; the beginning when there is none.
    pub(crate) fn read(generation: &Path) -> Result<Self, IndexError> {
        let path = generation.join(FILE);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|fault| IndexError::Corrupt { path, reason: fault.to_string() }),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(fault) => Err(IndexError::File { path, source: fault }),
        }
    }

    /// Writes the file; durable when this returns.
    pub(crate) fn write(&self, generation: &Path) -> Result<(), IndexError> {
        let json = serde_json::to_vec(self).map_err(|fault| IndexError::Corrupt {
            path: generation.join(FILE),
            reason: fault.to_string(),
        })?;
        replace(generation, FILE, &json)
    }

    pub(crate) fn note(&mut self, day: Day, after: u64) {
        let last = self.days.entry(day.to_string()).or_default();
        *last = after.max(*last);
    }

    /// The days that hold documents from arrival number `from` on, ascending.
    pub(crate) fn days_from(&self, from: u64) -> Vec<Day> {
        let days = self.days.iter().filter(|(_, after)| **after > from);
        let mut days: Vec<Day> = days.filter_map(|(day, _)| day.parse().ok()).collect();
        days.sort_unstable();
        days
    }
}

/// Replaces a file of `dir`, so that after a crash it is the old or the new one.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), IndexError> {
    let path = dir.join(name);
    let new = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(IndexError::file(&path))
}
