//! When revisions came to be, as far as that is known: once a day somebody looks which revision the store has.
//!
//! A value says at which revision it was written, and nothing of the time. What is above a revision that was looked at was
//! written after the look, and what is not was written before its end.

use bytes::Bytes;
use ingest::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use super::EncryptedStore;
use crate::gateway::store::{List, Revision, StoreError, WriteError};

/// What stands before the entries, one for each day.
const FOLDER: &str = "muniment/revision-times/";

/// Days that are kept: three years, each some hundred bytes.
const KEPT: usize = 1_100;

/// How long a look may take, in microseconds. One that takes longer tells too little.
const LOOK: i64 = 1_000_000;

/// A look at the store.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    revision: Revision,
    /// From before it.
    at: Timestamp,
}

/// Between which times a value was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// It was not there yet at this time; nothing when nobody had looked before.
    pub after: Option<Timestamp>,
    /// It was there at this time; nothing when nobody has looked since.
    pub by: Option<Timestamp>,
}

/// What is known, ascending.
pub(super) struct Times(Vec<Entry>);

/// Notes the revision of today, once for all instances, and forgets what is too old.
pub(super) async fn note(store: &EncryptedStore, clock: &Clock) -> Result<(), WriteError> {
    let at = clock.now();
    let key = format!("{FOLDER}{}", at.day());
    let read = store.below().get(&key).await?;
    if read.value.is_some() || clock.now().micros() - at.micros() > LOOK {
        return Ok(());
    }
    // Writing numbers into memory has no way to fail.
    let value = serde_json::to_vec(&Entry { revision: read.revision, at }).unwrap_or_default();
    match store.below().create(&key, Bytes::from(value), None).await {
        // Another instance was faster.
        Ok(_) | Err(WriteError::Conflict(_)) => {}
        Err(error) => return Err(error),
    }
    // The keys are days, so the first ones are the oldest.
    let items = store.below().list(&List { prefix: FOLDER, ..List::default() }).await?.items;
    for old in &items[..items.len().saturating_sub(KEPT)] {
        match store.below().delete(&old.key, old.object.modified).await {
            Ok(_) | Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Times {
    pub(super) async fn read(store: &EncryptedStore) -> Result<Self, StoreError> {
        let listing = store.below().list(&List { prefix: FOLDER, ..List::default() }).await?;
        let entries = listing.items.iter().filter_map(|item| serde_json::from_slice(&item.object.value).ok());
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_by_key(|entry| entry.revision);
        Ok(Self(entries))
    }

    /// When what has this revision was written.
    pub(super) fn of(&self, revision: Revision) -> Written {
        let next = self.0.partition_point(|entry| entry.revision < revision);
        let after = next.checked_sub(1).and_then(|last| self.0.get(last)).map(|entry| entry.at);
        let by = self.0.get(next).map(|entry| Timestamp::from_micros(entry.at.micros() + LOOK));
        Written { after, by }
    }
}
