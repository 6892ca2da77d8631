//! What each instance says of its keys: a rotation begins once all write under the same one.
//!
//! Every process that shares a store keeps an entry there with the keys that it writes and reads under. It renews the
//! entry; one that is silent for long enough is gone. An entry is changed only when no write is under way any more that
//! was sealed under the keys before, so that what it says is true of everything that is written after it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use crypto::KeyTag;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{EncryptedStore, place};
use crate::gateway::store::{List, Read, Revision, StoreError, WriteError};

/// What stands before the entries, beside those that count uses.
const FOLDER: &str = "muniment/instances/";

/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How long an instance may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Between two tries while the store does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// An instance's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announced {
    /// Each list of keys, the one that writes first, with the resources that it is for.
    lists: Vec<KeyList>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyList {
    resources: Vec<String>,
    keys: Vec<KeyTag>,
}

impl Announced {
    /// What is in force here.
    fn of(store: &EncryptedStore) -> Self {
        let transformer = store.transformer();
        let mut lists: BTreeMap<Vec<KeyTag>, Vec<String>> = BTreeMap::new();
        for place in place::all().into_iter().filter(|place| !transformer.passes(&place.name, b"")) {
            lists.entry(transformer.keys(&place.name)).or_default().push(place.name.clone());
        }
        Self { lists: lists.into_iter().map(|(keys, resources)| KeyList { resources, keys }).collect() }
    }

    /// The keys of a resource; none where nothing encrypts it.
    pub(super) fn keys(&self, resource: &str) -> &[KeyTag] {
        let is_of = |list: &&KeyList| list.resources.iter().any(|name| name == resource);
        self.lists.iter().find(is_of).map_or(&[], |list| &list.keys)
    }
}

/// Keeps this instance's entry.
#[derive(Debug)]
pub struct Announcer {
    store: EncryptedStore,
    last: Announced,
}

impl Announcer {
    /// Of what is in force in a store.
    pub fn new(store: EncryptedStore) -> Self {
        Self { store, last: Announced::default() }
    }

    /// Renews the entry until `stop`, and takes it away then.
    pub async fn run(mut self, stop: &CancellationToken) {
        let mut transformer = self.store.subscribe();
        while !stop.is_cancelled() {
            transformer.mark_unchanged();
            let pause = match self.announce().await {
                Ok(()) => RENEW_EVERY,
                Err(error) => {
                    tracing::warn!(
                        error = crate::errors::chain(&error),
                        "other instances do not hear of the keys"
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
        // Where this fails, silence says the same.
        drop(self.withdraw().await);
    }

    /// Writes the entry. When it returns well, everybody who looks sees it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn announce(&mut self) -> Result<(), WriteError> {
        let mut now = Announced::of(&self.store);
        while now != self.last {
            self.store.settled().await;
            self.last = std::mem::replace(&mut now, Announced::of(&self.store));
        }
        let key = format!("{FOLDER}{}", self.store.instance());
        // Writing texts into memory has no way to fail.
        let value = Bytes::from(serde_json::to_vec(&self.last).unwrap_or_default());
        let below = self.store.below();
        let outcome = match below.get(&key).await?.value {
            None => below.create(&key, value, Some(SILENCE)).await,
            Some(there) => below.update(&key, value, there.modified, Some(SILENCE)).await,
        };
        outcome.map(drop)
    }

    async fn withdraw(&self) -> Result<(), WriteError> {
        let key = format!("{FOLDER}{}", self.store.instance());
        let Read { value: Some(there), .. } = self.store.below().get(&key).await? else { return Ok(()) };
        self.store.below().delete(&key, there.modified).await.map(drop)
    }
}

/// What the instances of a store say, and since when each has been silent.
#[derive(Debug, Default)]
pub(super) struct Instances {
    seen: HashMap<String, (Revision, Instant)>,
}

impl Instances {
    /// What every other instance says that is not silent, by its name.
    pub(super) async fn others(
        &mut self,
        store: &EncryptedStore,
    ) -> Result<BTreeMap<String, Announced>, StoreError> {
        let listing = store.below().list(&List { prefix: FOLDER, ..List::default() }).await?;
        let mut others = BTreeMap::new();
        for item in listing.items {
            let name = item.key[FOLDER.len()..].to_owned();
            if name == store.instance() || self.is_silent(&name, item.object.modified) {
                continue;
            }
            // What a later version writes in another way agrees with nothing.
            others.insert(name, serde_json::from_slice(&item.object.value).unwrap_or_default());
        }
        Ok(others)
    }

    /// By the clock of who looks, so that clocks need not agree.
    fn is_silent(&mut self, name: &str, modified: Revision) -> bool {
        match self.seen.get(name) {
            Some((known, since)) if *known == modified => since.elapsed() > SILENCE,
            _ => {
                self.seen.insert(name.to_owned(), (modified, Instant::now()));
                false
            }
        }
    }

    /// Which other instances write a resource under another key than this one does, a line for each.
    pub(super) async fn who_differs(
        &mut self,
        store: &EncryptedStore,
        resource: &str,
    ) -> Result<Vec<String>, StoreError> {
        let others = self.others(store).await?;
        let own = store.transformer().keys(resource).into_iter().next();
        let differs = others.iter().filter(|(_, said)| said.keys(resource).first() != own.as_ref());
        Ok(differs.map(|(name, said)| line(name, said.keys(resource).first(), resource)).collect())
    }
}

fn line(instance: &str, key: Option<&KeyTag>, resource: &str) -> String {
    match key {
        Some(key) => format!("{instance} writes {resource} under {key}"),
        None => format!("{instance} does not encrypt {resource}"),
    }
}
