//! The provider over a KMS: when a key to write under is made, how long it is good, and which unwrapped keys are kept.
//!
//! It follows kube-apiserver 1.36 with two differences. A plugin that says of itself that it is unhealthy, or speaks
//! another version, does not extend the time for which is written. And the unwrapped keys that are kept have a bound.

use std::{
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    Kms, KmsError, Status, Wrapped,
    cache::KeyCache,
    envelope::{self, DataKey, Envelope, EnvelopeError, Source, fingerprint},
    plugin_v1,
};
use crate::{
    config::{KmsPlugin, KmsVersion},
    provider::{Attempt, Opened, Reason, Staleness},
    secret::{KeyBytes, RandomError},
    tag::KeyTag,
    transformer::EncryptError,
};

/// How long is written after the last answer that said all is well.
const WRITE_FOR: Duration = Duration::from_secs(3 * 60);
/// How long values are written under one seed, and how many: so much is given away at most with one. A plugin is asked
/// for another one with the next question after its status.
const SEED_FOR: Duration = Duration::from_secs(24 * 3600);
const SEED_USES: u64 = 1 << 24;
/// How often a healthy plugin is asked.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How often one is asked that failed.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Fetches of one provider at once, so that one key that hangs does not hold up the others.
const FETCHES: usize = 16;

/// What tells how much time has passed.
pub(crate) type Monotonic = Arc<dyn Fn() -> Instant + Send + Sync>;

/// One KMS of a configuration.
pub struct KmsProvider {
    name: String,
    prefix: String,
    /// Of version 1 nothing is written.
    protocol: KmsVersion,
    timeout: Duration,
    kms: Arc<dyn Kms>,
    now: Monotonic,
    writing: RwLock<Option<Arc<Writing>>>,
    version: OnceLock<String>,
    keys: KeyCache<Arc<DataKey>>,
    probing: tokio::sync::Mutex<()>,
    fetching: [tokio::sync::Mutex<()>; FETCHES],
}

/// The seed under which values are written.
#[derive(Clone)]
struct Writing {
    seed: KeyBytes,
    wrapped: Wrapped,
    until: Instant,
    made: Instant,
    uses: Arc<AtomicU64>,
}

impl Writing {
    fn has_had_its_time(&self, now: Instant) -> bool {
        now.duration_since(self.made) >= SEED_FOR || self.uses.load(Ordering::Relaxed) >= SEED_USES
    }
}

/// A value that waits for its data key.
pub(crate) struct Wanted {
    provider: Arc<KmsProvider>,
    envelope: Envelope,
    fingerprint: [u8; 32],
}

/// Why nothing can be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The plugin has not answered yet.
    #[error("the plugin has not given a key yet")]
    NoKey,
    /// The plugin has not been well for too long.
    #[error("the plugin was last well more than {WRITE_FOR:?} ago")]
    Expired,
}

/// What is wrong with a KMS.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It does not answer.
    #[error("the status of KMS plugin {plugin} is not known")]
    Status {
        /// The plugin's name.
        plugin: String,
        /// Why not.
        #[source]
        source: KmsError,
    },
    /// It says so itself.
    #[error("KMS plugin {plugin} says {healthz:?} of itself, expected \"ok\"")]
    Unhealthy {
        /// The plugin's name.
        plugin: String,
        /// Its words.
        healthz: String,
    },
    /// It speaks another version than expected, or than it did first.
    #[error("KMS plugin {plugin} speaks version {version:?}, expected {expected:?}")]
    Version {
        /// The plugin's name.
        plugin: String,
        /// The version.
        version: String,
        /// The right one.
        expected: String,
    },
    /// What it answers breaks the protocol's bounds.
    #[error("KMS plugin {plugin} answers what the protocol does not allow")]
    Protocol {
        /// The plugin's name.
        plugin: String,
        /// What.
        #[source]
        source: EnvelopeError,
    },
    /// No seed for a new key.
    #[error("no seed for KMS plugin {plugin}")]
    Random {
        /// The plugin's name.
        plugin: String,
        /// Why not.
        #[source]
        source: RandomError,
    },
    /// It does not wrap.
    #[error("KMS plugin {plugin} does not wrap a new key")]
    Encrypt {
        /// The plugin's name.
        plugin: String,
        /// Why not.
        #[source]
        source: KmsError,
    },
    /// It wraps under another key than its status tells.
    #[error("KMS plugin {plugin} wraps under another key than its status tells")]
    KeyId {
        /// The plugin's name.
        plugin: String,
    },
}

impl KmsProvider {
    pub(crate) fn new(plugin: &KmsPlugin, kms: Arc<dyn Kms>, now: Monotonic) -> Self {
        let version = match plugin.version {
            KmsVersion::V1 => "v1",
            KmsVersion::V2 => "v2",
        };
        Self {
            prefix: format!("k8s:enc:kms:{version}:{}:", plugin.name),
            protocol: plugin.version,
            name: plugin.name.clone(),
            timeout: plugin.timeout,
            kms,
            now,
            writing: RwLock::new(None),
            version: OnceLock::new(),
            keys: KeyCache::default(),
            probing: tokio::sync::Mutex::default(),
            fetching: Default::default(),
        }
    }

    /// The name of the plugin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The KMS' key that writes, as it may be told.
    pub(crate) fn tag(&self) -> KeyTag {
        KeyTag::of_kms(&self.name, self.writing().as_ref().map(|writing| writing.wrapped.key_id.as_str()))
    }

    /// Whether values are written under it, and not only read.
    pub(crate) fn writes(&self) -> bool {
        self.protocol != KmsVersion::V1
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Asks the KMS once. When this returns well, values can be written for the next three minutes, under the key
    /// that the KMS named; a new seed is made when that is another key than before, and when the seed has had its time.
    /// Under version 1 nothing is written.
    ///
    /// # Errors
    /// When the KMS is not well. The key before stays in force until its time ends.
    pub async fn probe(&self) -> Result<(), ProbeError> {
        let _one = self.probing.lock().await;
        // From before the call, so that a slow answer does not lengthen the time.
        let asked = (self.now)();
        let until = asked + WRITE_FOR;
        let plugin = || self.name.clone();
        let status = self
            .bounded(self.kms.status())
            .await
            .map_err(|source| ProbeError::Status { plugin: plugin(), source })?;
        self.judge(&status)?;
        if self.protocol == KmsVersion::V1 {
            return Ok(());
        }
        if let Some(current) = self.writing()
            && current.wrapped.key_id == status.key_id
            && !current.has_had_its_time(asked)
        {
            self.write_under(Writing { until, ..(*current).clone() });
            return Ok(());
        }
        let seed = KeyBytes::random(32).map_err(|source| ProbeError::Random { plugin: plugin(), source })?;
        let wrapped = self
            .bounded(self.kms.encrypt(&uid(), &seed))
            .await
            .map_err(|source| ProbeError::Encrypt { plugin: plugin(), source })?;
        envelope::check(&wrapped).map_err(|source| ProbeError::Protocol { plugin: plugin(), source })?;
        if wrapped.key_id != status.key_id {
            return Err(ProbeError::KeyId { plugin: plugin() });
        }
        self.keys.put(fingerprint(Source::Seed, &wrapped), Arc::new(DataKey::Seed(seed.clone())));
        self.write_under(Writing { seed, wrapped, until, made: asked, uses: Arc::default() });
        Ok(())
    }

    fn judge(&self, status: &Status) -> Result<(), ProbeError> {
        let plugin = || self.name.clone();
        if status.healthz != "ok" {
            return Err(ProbeError::Unhealthy { plugin: plugin(), healthz: status.healthz.clone() });
        }
        let first = self.version.get();
        if self.protocol == KmsVersion::V1 {
            let (version, expected) = (status.version.clone(), plugin_v1::VERSION.to_owned());
            let is_right = version == expected;
            return if is_right {
                Ok(())
            } else {
                Err(ProbeError::Version { plugin: plugin(), version, expected })
            };
        }
        let known = matches!(status.version.as_str(), "v2" | "v2beta1");
        if !known || first.is_some_and(|first| *first != status.version) {
            return Err(ProbeError::Version {
                plugin: plugin(),
                version: status.version.clone(),
                expected: first.map_or_else(|| "v2".to_owned(), Clone::clone),
            });
        }
        envelope::check_key_id(&status.key_id)
            .map_err(|source| ProbeError::Protocol { plugin: plugin(), source })?;
        self.version.get_or_init(|| status.version.clone());
        Ok(())
    }

    /// Asks the KMS again and again, every minute while it is well and every ten seconds while it is not, and tells
    /// `report` of each outcome. Never ends; whoever spawns it drops it.
    pub async fn watch(&self, mut report: impl FnMut(&Self, Result<(), ProbeError>)) {
        loop {
            let outcome = self.probe().await;
            let pause = if outcome.is_ok() { ASK_EVERY } else { ASK_AGAIN };
            report(self, outcome);
            sleep(pause).await;
        }
    }

    pub(crate) fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let failed = |source| EncryptError::Kms { plugin: self.name.clone(), source };
        let writing = self.writing().ok_or_else(|| failed(WriteError::NoKey))?;
        if (self.now)() > writing.until {
            return Err(failed(WriteError::Expired));
        }
        writing.uses.fetch_add(1, Ordering::Relaxed);
        let data = DataKey::seal(&writing.seed, aad, plain)?;
        let envelope = Envelope { data, source: Source::Seed, wrapped: writing.wrapped.clone() }.encode();
        Ok([self.prefix.as_bytes(), &envelope].concat())
    }

    pub(crate) fn open(self: &Arc<Self>, aad: &[u8], body: &[u8]) -> Result<Opened, Reason> {
        let envelope = match self.protocol {
            KmsVersion::V1 => Envelope::decode_v1(body)?,
            KmsVersion::V2 => Envelope::decode(body)?,
        };
        let fingerprint = fingerprint(envelope.source, &envelope.wrapped);
        match self.keys.get(&fingerprint) {
            Some(key) => self.open_with(&key, aad, &envelope),
            None => Ok(Opened::Wanted(Wanted { provider: self.clone(), envelope, fingerprint })),
        }
    }

    fn open_with(&self, key: &DataKey, aad: &[u8], envelope: &Envelope) -> Result<Opened, Reason> {
        let plain = key.open(aad, &envelope.data)?;
        Ok(Opened::Plain(plain, self.staleness(envelope)))
    }

    /// While there is no key to write under, nothing is stale: there is nothing better to write.
    fn staleness(&self, envelope: &Envelope) -> Staleness {
        let other = |writing: Arc<Writing>| {
            writing.wrapped.key_id != envelope.wrapped.key_id || envelope.source != Source::Seed
        };
        if self.writing().is_some_and(other) { Staleness::Stale } else { Staleness::Current }
    }

    /// The data key of an envelope; of several that want the same one, one asks the KMS.
    async fn fetch(&self, wanted: &Wanted) -> Result<Arc<DataKey>, Reason> {
        let _one = self.fetching[usize::from(wanted.fingerprint[0]) % FETCHES].lock().await;
        if let Some(key) = self.keys.get(&wanted.fingerprint) {
            return Ok(key);
        }
        let uid = uid();
        tracing::debug!(plugin = self.name, uid, "a data key is fetched");
        let key = self
            .bounded(self.kms.decrypt(&uid, &wanted.envelope.wrapped))
            .await
            .map_err(|error| Reason::Kms(error.to_string()))?;
        let key = Arc::new(DataKey::new(wanted.envelope.source, key)?);
        self.keys.put(wanted.fingerprint, key.clone());
        Ok(key)
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, KmsError>>) -> Result<T, KmsError> {
        timeout(self.timeout, call).await.unwrap_or(Err(KmsError::TimedOut(self.timeout)))
    }

    fn writing(&self) -> Option<Arc<Writing>> {
        self.writing.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn write_under(&self, writing: Writing) {
        *self.writing.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(writing));
    }
}

impl Wanted {
    /// Fetches the key and opens the value; what failed is added to `failed`.
    pub(crate) async fn fetch_and_open(self, aad: &[u8], failed: &mut Vec<Attempt>) -> Option<Opened> {
        let opened = match self.provider.fetch(&self).await {
            Ok(key) => self.provider.open_with(&key, aad, &self.envelope),
            Err(reason) => Err(reason),
        };
        opened.map_err(|reason| failed.push(self.failed(reason))).ok()
    }

    pub(crate) fn failed(&self, reason: Reason) -> Attempt {
        Attempt { provider: "kms", key: Some(self.provider.name.clone()), reason }
    }
}

fn uid() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests;
