//! What groups published of the local log, in a small file that is replaced whole.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    log::{LogId, Offset, Poison},
    replace::replace,
};

/// The published positions and where they are kept.
pub(super) struct Published {
    file: PathBuf,
    groups: Vec<String>,
    stored: Stored,
    renewed: bool,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: LogId,
    groups: BTreeMap<String, Offset>,
}

impl Stored {
    fn new() -> Self {
        Self { id: LogId(format!("local-{}", Uuid::new_v4()).into()), groups: BTreeMap::new() }
    }
}

impl Published {
    /// Reads the file, or makes it when it is missing or speaks of more than the journal, which ends at `end`, holds.
    pub(super) fn open(file: PathBuf, groups: &[&str], end: Offset) -> io::Result<Self> {
        let found: Option<Stored> = match fs::read(&file) {
            Ok(json) => Some(serde_json::from_slice(&json)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let renewed = found.as_ref().is_some_and(|s| s.groups.values().any(|next| *next > end));
        let kept = found.filter(|_| !renewed);
        let write = kept.is_none();
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        let published = Self { file, groups, stored: kept.unwrap_or_else(Stored::new), renewed };
        if write {
            published.write()?;
        }
        Ok(published)
    }

    /// Whether positions were found that the journal does not reach.
    pub(super) const fn renewed(&self) -> bool {
        self.renewed
    }

    pub(super) const fn id(&self) -> &LogId {
        &self.stored.id
    }

    pub(super) fn of(&self, group: &str) -> Option<Offset> {
        self.stored.groups.get(group).copied()
    }

    pub(super) fn set(&mut self, group: &str, next: Offset) -> io::Result<()> {
        self.stored.groups.insert(group.to_owned(), next);
        self.write()
    }

    /// What every group that counts has behind it.
    pub(super) fn released(&self) -> Option<Offset> {
        self.groups.iter().map(|g| self.of(g)).min().flatten()
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.file, &serde_json::to_vec(&self.stored)?)
    }

    /// Keeps what stands at `offset` and is no record; returns the file.
    pub(super) fn set_aside(&self, offset: Offset, poison: &Poison) -> io::Result<PathBuf> {
        let file = self.file.with_file_name(format!("set-aside-{}", offset.0));
        let mut kept = format!("{}\n", poison.reason).into_bytes();
        kept.extend(poison.envelope.iter().flatten());
        kept.extend(&poison.event);
        replace(&file, &kept)?;
        Ok(file)
    }
}
