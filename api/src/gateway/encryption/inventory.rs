//! Under which key each stored value lies.

use std::collections::BTreeMap;

use crypto::KeyTag;
use ingest::time::Timestamp;
use serde::Serialize;

use super::{
    EncryptedStore, KeyUse,
    instances::{Announced, Instances},
    place,
    times::{Times, Written},
};
use crate::gateway::store::{List, Listing, Revision, StoreError};

/// Values that are read at once.
const PAGE: usize = 500;

/// What lies under which key, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// SHA-256 of the configuration in force; empty without one.
    pub configuration: String,
    /// Those that the configuration names, and those of which something is encrypted, by their names.
    pub resources: Vec<Keys>,
    /// How often each key of AES-GCM that now writes was used.
    pub writes: Vec<KeyUse>,
}

/// What lies under which key of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Keys {
    /// As configurations name it.
    pub resource: String,
    /// The state that was counted.
    pub revision: Revision,
    /// How many values there are.
    pub count: u64,
    /// How many of them would now be written otherwise.
    pub stale: u64,
    /// How many cannot be decrypted.
    pub unreadable: u64,
    /// The first of those, each with its key and the reason.
    pub examples: Vec<String>,
    /// By provider and key.
    pub keys: Vec<Usage>,
    /// The keys of this instance's configuration, in their order, and those that only others have.
    pub configured: Vec<Configured>,
}

/// A key of a resource, and which instances know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configured {
    /// Which key.
    #[serde(flatten)]
    pub key: KeyTag,
    /// When it first came into the first place anywhere.
    pub first_used: Option<Timestamp>,
    /// Instances that write under it.
    pub writers: Vec<String>,
    /// Instances that only read what lies under it.
    pub readers: Vec<String>,
    /// Instances that cannot.
    pub lacking: Vec<String>,
}

/// What lies under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// `aesgcm`, `kms`, `identity` for what lies in the clear.
    pub provider: String,
    /// The name of the key, or of the KMS plugin; empty in the clear.
    pub key: String,
    /// How many values.
    pub count: u64,
    /// The oldest write of a value that still lies under it.
    pub oldest: Revision,
    /// When that was, as far as it is known.
    pub oldest_written: Written,
}

/// How many unreadable values are named.
const EXAMPLES: usize = 10;

impl EncryptedStore {
    /// Counts. Every value of the resources that the configuration names is decrypted on the way.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory {
            configuration: self.transformer().hash().to_owned(),
            resources: Vec::new(),
            writes: self.key_uses().await?,
        };
        let others = Instances::default().others(self).await?;
        let times = Times::read(self).await?;
        for place in place::all() {
            let mut keys = self.keys(place, &times).await?;
            let is_clear = keys.keys.iter().all(|usage| usage.key.is_empty());
            if !(is_clear && self.transformer().passes(&place.name, b"")) {
                keys.configured = self.configured(&place.name, &others).await?;
                inventory.resources.push(keys);
            }
        }
        Ok(inventory)
    }

    async fn configured(
        &self,
        resource: &str,
        others: &BTreeMap<String, Announced>,
    ) -> Result<Vec<Configured>, StoreError> {
        let own = self.transformer().keys(resource);
        let mut lists = vec![(self.instance(), own.as_slice())];
        lists.extend(others.iter().map(|(name, said)| (name.as_str(), said.keys(resource))));
        let mut configured: Vec<Configured> = Vec::new();
        for key in lists.iter().flat_map(|(_, keys)| keys.iter()) {
            if configured.iter().any(|known| known.key == *key) {
                continue;
            }
            let names = |is_meant: fn(Option<usize>) -> bool| {
                let meant = lists.iter().filter(|(_, keys)| is_meant(keys.iter().position(|k| k == key)));
                meant.map(|(name, _)| (*name).to_owned()).collect()
            };
            configured.push(Configured {
                first_used: self.first_use(key).await?,
                writers: names(|at| at == Some(0)),
                readers: names(|at| at.is_some_and(|at| at > 0)),
                lacking: names(|at| at.is_none()),
                key: key.clone(),
            });
        }
        Ok(configured)
    }

    async fn keys(&self, place: &place::Place, times: &Times) -> Result<Keys, StoreError> {
        let mut keys = Keys { resource: place.name.clone(), ..Keys::default() };
        let mut usages = BTreeMap::<(String, String), (u64, Revision)>::new();
        let mut pages = Pages::of(place.prefix());
        while let Some(listing) = pages.next(self).await? {
            keys.revision = listing.revision;
            for item in listing.items {
                let stored = item.object.value;
                let label = crypto::label(&stored);
                let modified = item.object.modified;
                let usage = usages.entry((label.provider, label.key)).or_insert((0, modified));
                *usage = (usage.0 + 1, usage.1.min(modified));
                keys.count += 1;
                match self.open(&item.key, modified, &stored).await {
                    Ok((_, is_stale)) => keys.stale += u64::from(is_stale),
                    Err(error) => {
                        keys.unreadable += 1;
                        if keys.examples.len() < EXAMPLES {
                            keys.examples.push(error.to_string());
                        }
                    }
                }
            }
        }
        let usage = |((provider, key), (count, oldest))| {
            let oldest_written = times.of(oldest);
            Usage { provider, key, count, oldest, oldest_written }
        };
        keys.keys = usages.into_iter().map(usage).collect();
        Ok(keys)
    }
}

/// All values of a resource as they are stored, page by page, of one state.
#[derive(Debug)]
pub(super) struct Pages {
    prefix: String,
    at: Option<Revision>,
    after: Option<String>,
    is_over: bool,
}

impl Pages {
    pub(super) fn of(prefix: String) -> Self {
        Self { prefix, at: None, after: None, is_over: false }
    }

    /// The next page; nothing after the last one.
    pub(super) async fn next(&mut self, store: &EncryptedStore) -> Result<Option<Listing>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let after = self.after.as_deref();
        let list = List { prefix: &self.prefix, at: self.at, after, limit: Some(PAGE) };
        let listing = store.below().list(&list).await?;
        self.at = Some(listing.revision);
        self.after = listing.items.last().map(|item| item.key.to_string());
        self.is_over = listing.remaining == 0;
        Ok(Some(listing))
    }
}
