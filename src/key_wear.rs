//! How often the keys of AES-GCM were used: measured, shown by `/readyz`, and told when one should be replaced.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::{
    errors::chain,
    gateway::encryption::{EncryptedStore, KeyUse},
    health::Check,
};
use async_trait::async_trait;
use ingest::{journal::Journal, pipeline::Fact, time::Clock};
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chronicle;

/// How often the store is asked, for what other instances used.
const EVERY: Duration = Duration::from_secs(60);

/// Between two looks however fast keys are used.
const PAUSE: Duration = Duration::from_secs(1);

/// How far a key is, of what is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Worn,
    Over,
}

/// Looks at the keys of a store.
pub(crate) struct KeyWear {
    store: EncryptedStore,
    seen: watch::Sender<Vec<KeyUse>>,
    /// By fingerprint, what was told since the start.
    told: BTreeMap<String, Stage>,
}

impl KeyWear {
    /// With the check that shows what it finds.
    pub(crate) fn new(store: EncryptedStore) -> (Self, KeyWearCheck) {
        let (seen, shown) = watch::channel(Vec::new());
        (Self { store, seen, told: BTreeMap::new() }, KeyWearCheck(shown))
    }

    /// Looks until `stop`.
    pub(crate) async fn run(mut self, journal: &Journal, clock: &Clock, stop: &CancellationToken) {
        metrics::describe_gauge!(
            "muniment_key_writes",
            "Values that a key of AES-GCM was used for by all instances, at most; 2^32 are allowed"
        );
        loop {
            let began = Instant::now();
            for fact in self.look().await {
                chronicle::record(journal, clock, &fact, stop).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
                () = self.store.keys_used() => tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await,
            }
        }
    }

    /// What is news.
    async fn look(&mut self) -> Vec<Fact> {
        let uses = match self.store.key_uses().await {
            Ok(uses) => uses,
            Err(error) => {
                tracing::warn!(error = chain(&error), "how often keys were used cannot be told");
                return Vec::new();
            }
        };
        for usage in &uses {
            let (key, fingerprint) = (usage.key.key.clone(), usage.key.fingerprint.clone());
            gauge!("muniment_key_writes", "key" => key, "fingerprint" => fingerprint)
                .set(usage.writes as f64);
        }
        let facts = uses.iter().filter_map(|usage| self.news(usage)).collect();
        self.seen.send_replace(uses);
        facts
    }

    fn news(&mut self, usage: &KeyUse) -> Option<Fact> {
        let stage = stage(usage)?;
        let fingerprint = usage.key.fingerprint.clone();
        if self.told.get(&fingerprint).is_some_and(|told| *told >= stage) {
            return None;
        }
        self.told.insert(fingerprint.clone(), stage);
        let fact = Fact::KeyWorn {
            key: usage.key.key.clone(),
            fingerprint,
            writes: usage.writes,
            limit: usage.limit,
        };
        match stage {
            Stage::Worn => tracing::warn!("{fact}"),
            Stage::Over => tracing::error!("{fact}"),
        }
        Some(fact)
    }
}

fn stage(usage: &KeyUse) -> Option<Stage> {
    if usage.is_over() { Some(Stage::Over) } else { usage.worn.then_some(Stage::Worn) }
}

/// Shows how often keys were used. It never fails: where nothing is written any more, everything is still read.
pub(crate) struct KeyWearCheck(watch::Receiver<Vec<KeyUse>>);

#[async_trait]
impl Check for KeyWearCheck {
    fn name(&self) -> &'static str {
        "keys"
    }

    async fn check(&self) -> Result<String, String> {
        let uses = self.0.borrow();
        let lines: Vec<_> = uses.iter().map(line).collect();
        Ok(if lines.is_empty() { "no key is in use whose uses count".to_owned() } else { lines.join("; ") })
    }
}

fn line(KeyUse { key, writes, limit, .. }: &KeyUse) -> String {
    let share = 100.0 * *writes as f64 / *limit as f64;
    let taken = format!("{key}: {writes} of {limit} uses are taken ({share:.1} %)");
    if writes >= limit { taken + "; give another key the first place" } else { taken }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::gateway::{
        encryption::{KeyWrites, WriteBounds},
        store::{SqliteStore, Store},
    };
    use crypto::{EncryptionConfig, EncryptionTransformer};

    use super::*;

    const CONFIG: &[u8] =
        b"{apiVersion: v1, kind: EncryptionConfig, resources: [{resources: [secrets], providers: [
        {aesgcm: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}}]}]}";

    #[tokio::test]
    async fn a_worn_key_is_told_once_before_it_is_used_up_and_once_then() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.sqlite");
        let below = Arc::new(SqliteStore::open(&file, Clock::system()).await.unwrap());
        let config = EncryptionConfig::from_bytes(CONFIG, false).unwrap();
        let transformer = watch::Sender::new(Arc::new(EncryptionTransformer::from_config(config).unwrap()));
        let writes = KeyWrites::new(below.clone(), "a", WriteBounds { block: 2, worn: 4, limit: 6 });
        let store = EncryptedStore::new(below, transformer.subscribe(), writes);
        let (mut wear, check) = KeyWear::new(store.clone());
        let mut told = Vec::new();
        for n in 0..8 {
            let outcome = store.create(&format!("secrets/a/{n}"), "x".into(), None).await;
            assert_eq!(outcome.is_ok(), n < 6, "{n}: {outcome:?}");
            told.extend(wear.look().await.into_iter().map(|fact| (n, fact)));
        }
        let fact = |writes| {
            let fingerprint = transformer.borrow().counted("secrets").unwrap().fingerprint.clone();
            Fact::KeyWorn { key: "key1".into(), fingerprint, writes, limit: 6 }
        };
        assert_eq!(told, [(2, fact(4)), (4, fact(6))]);
        let detail = check.check().await.unwrap();
        assert!(detail.contains("6 of 6 uses are taken (100.0 %); give another"), "{detail}");
    }
}
