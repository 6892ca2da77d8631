//! Since when keys have been in the first place, so that their age is known after any restart, and with it about when
//! what lies under them was written.

use std::time::Duration;

use bytes::Bytes;
use crypto::KeyTag;
use ingest::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{EncryptedStore, place, times};
use crate::gateway::store::{StoreError, WriteError};

/// What stands before the entries, one for each key by its fingerprint.
const FOLDER: &str = "muniment/first-uses/";

/// How often keys are looked at that a KMS may have changed by itself.
const EVERY: Duration = Duration::from_secs(60);

/// Between two tries while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
}

/// Keeps the entries of the keys that write here.
#[derive(Debug)]
pub struct FirstUse {
    /// Where they write.
    pub store: EncryptedStore,
    /// What time it is.
    pub clock: Clock,
}

impl FirstUse {
    /// Notes each key that comes into the first place, until `stop`.
    pub async fn run(self, stop: &CancellationToken) {
        let mut transformer = self.store.subscribe();
        while !stop.is_cancelled() {
            transformer.mark_unchanged();
            let pause = match self.note().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(
                        error = crate::errors::chain(&error),
                        "the age of keys and values is not noted yet"
                    );
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                Ok(()) = transformer.changed() => {}
            }
        }
    }

    /// Notes the keys that write now, each once for ever, and where the store is, once a day.
    pub(super) async fn note(&self) -> Result<(), WriteError> {
        let transformer = self.store.transformer();
        let mut first: Vec<_> = place::all()
            .into_iter()
            .filter_map(|place| transformer.keys(&place.name).into_iter().next())
            .filter(|key| !key.fingerprint.is_empty())
            .collect();
        first.sort();
        first.dedup();
        if !first.is_empty() {
            times::note(&self.store, &self.clock).await?;
        }
        for key in first {
            if self.store.first_use(&key).await?.is_some() {
                continue;
            }
            // Writing a text into memory has no way to fail.
            let value = serde_json::to_vec(&Entry { at: self.clock.now() }).unwrap_or_default();
            match self.store.below().create(&entry(&key), Bytes::from(value), None).await {
                // Another instance was faster.
                Ok(_) | Err(WriteError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl EncryptedStore {
    /// When a key first came into the first place of any resource on any instance, as far as that was noted.
    pub(super) async fn first_use(&self, key: &KeyTag) -> Result<Option<Timestamp>, StoreError> {
        if key.fingerprint.is_empty() {
            return Ok(None);
        }
        let read = self.below().get(&entry(key)).await?;
        let noted = read.value.and_then(|there| serde_json::from_slice(&there.value).ok());
        Ok(noted.map(|Entry { at }| at))
    }
}

fn entry(key: &KeyTag) -> String {
    format!("{FOLDER}{}", key.fingerprint)
}
