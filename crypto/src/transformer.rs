//! Values to what is stored, and back.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use zeroize::Zeroizing;

use crate::{
    config::{EncryptionConfig, KmsPlugin, KmsVersion, ProviderConfig},
    kms::{
        Kms,
        plugin::Plugin,
        plugin_v1::PluginV1,
        provider::{KmsProvider, Monotonic, WriteError},
    },
    provider::{Attempt, ENCRYPTED, Opened, Provider, Reason, Staleness},
    resource::GroupResource,
    secret::RandomError,
    tag::KeyTag,
};

/// Encrypts and decrypts values as a configuration says.
///
/// The first provider of a resource writes, with its first key; all of them read, in their order. A resource that no
/// rule names is stored in the clear. It is made once and shared; nothing in it waits but [KMS calls](KmsProvider).
pub struct EncryptionTransformer {
    lists: HashMap<GroupResource, Vec<Arc<Provider>>>,
    /// For what no rule names.
    clear: Vec<Arc<Provider>>,
    kms: Vec<Arc<KmsProvider>>,
    hash: String,
}

/// A value that was decrypted.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain {
    /// The value.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether it would now be written by another provider or under another key, so that even an update that changes
    /// nothing should write it.
    pub stale: bool,
}

/// A valid configuration that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The first version of the KMS protocol in the first place: it is only read, as kube-apiserver has had it off since
    /// 1.29.
    #[error(
        "{path}.apiVersion: v1 of KMS plugin {name:?} only reads; give another provider the first place, or use v2"
    )]
    KmsV1 {
        /// The field path of the plugin.
        path: String,
        /// Its name.
        name: String,
    },
    /// A provider whose keys it cannot use. Validation refuses such a configuration.
    #[error("{path}: no key of a length that the provider takes")]
    Keys {
        /// The field path of the provider.
        path: String,
    },
}

/// A value that could not be encrypted. Nothing may be stored then.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    /// No nonce.
    #[error("no nonce for the value")]
    Random(#[from] RandomError),
    /// Longer than the algorithm takes.
    #[error("a value of {0} bytes is too long to be encrypted")]
    TooLong(usize),
    /// The KMS gives no key to write under.
    #[error("KMS plugin {plugin} has no key to write under")]
    Kms {
        /// The plugin's name.
        plugin: String,
        /// Why not.
        #[source]
        source: WriteError,
    },
}

/// A stored value that could not be decrypted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// None of the resource's providers wrote it.
    #[error("no matching prefix found")]
    NoProvider,
    /// Those that may have written it cannot open it. There is at least one.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Attempt>),
}

/// What a configuration names to have the bodies of audit events sealed. It is no resource that is stored: only its own
/// name means it, and no rule for several resources does.
pub const BODIES: &str = "events.muniment.io";

impl EncryptionTransformer {
    /// Whether an entry names this resource itself, and not by a rule for several.
    pub fn names(&self, resource: &str) -> bool {
        self.lists.contains_key(&GroupResource::from(resource))
    }

    /// Makes the providers of a configuration. KMS plugins are reached when they are first
    /// [probed](KmsProvider::probe).
    ///
    /// # Errors
    /// When something that the configuration asks for cannot be had.
    pub fn from_config(config: EncryptionConfig) -> Result<Self, BuildError> {
        Self::with_kms(config, |plugin| match plugin.version {
            KmsVersion::V1 => Arc::new(PluginV1::new(&plugin.socket)),
            KmsVersion::V2 => Arc::new(Plugin::new(&plugin.socket)),
        })
    }

    /// The same with another way to a KMS than the plugin's socket.
    ///
    /// # Errors
    /// As [`EncryptionTransformer::from_config`].
    pub fn with_kms(
        config: EncryptionConfig,
        reach: impl FnMut(&KmsPlugin) -> Arc<dyn Kms>,
    ) -> Result<Self, BuildError> {
        Self::build(config, reach, &(Arc::new(Instant::now) as Monotonic))
    }

    pub(crate) fn build(
        config: EncryptionConfig,
        mut reach: impl FnMut(&KmsPlugin) -> Arc<dyn Kms>,
        now: &Monotonic,
    ) -> Result<Self, BuildError> {
        let mut made = Self { hash: config.hash, ..Self::clear() };
        for (i, entry) in config.entries.iter().enumerate() {
            let path = |j| format!("resources[{i}].providers[{j}]");
            let providers = entry.providers.iter().enumerate();
            let providers = providers
                .map(|(j, provider)| made.provider(&path(j), provider, &mut reach, now))
                .collect::<Result<Vec<_>, _>>()?;
            // A resource that several entries name has the providers of all of them, in their order.
            for resource in &entry.resources {
                let list = made.lists.entry(resource.clone()).or_default();
                if list.is_empty()
                    && let Some(Provider::Kms(first)) = providers.first().map(AsRef::as_ref)
                    && !first.writes()
                {
                    let (path, name) = (format!("{}.kms", path(0)), first.name().to_owned());
                    return Err(BuildError::KmsV1 { path, name });
                }
                list.extend(providers.iter().cloned());
            }
        }
        Ok(made)
    }

    fn provider(
        &mut self,
        path: &str,
        config: &ProviderConfig,
        reach: &mut impl FnMut(&KmsPlugin) -> Arc<dyn Kms>,
        now: &Monotonic,
    ) -> Result<Arc<Provider>, BuildError> {
        let ProviderConfig::Kms(plugin) = config else {
            let provider = Provider::with_keys(config);
            return provider.map(Arc::new).ok_or_else(|| BuildError::Keys { path: path.to_owned() });
        };
        let kms = Arc::new(KmsProvider::new(plugin, reach(plugin), now.clone()));
        self.kms.push(kms.clone());
        Ok(Arc::new(Provider::Kms(kms)))
    }

    /// Encrypts nothing, and reads nothing that is encrypted.
    pub fn clear() -> Self {
        let clear = vec![Arc::new(Provider::Identity)];
        Self { lists: HashMap::new(), clear, kms: Vec::new(), hash: String::new() }
    }

    /// Whether a value is stored as it is, and read as it is: no rule names its resource, and nothing encrypted it.
    pub fn passes(&self, resource: &str, stored: &[u8]) -> bool {
        std::ptr::eq(self.list(resource), &*self.clear) && !stored.starts_with(ENCRYPTED)
    }

    /// The KMS providers, each of which must be [watched](KmsProvider::watch) for values to be written.
    pub fn kms(&self) -> &[Arc<KmsProvider>] {
        &self.kms
    }

    /// SHA-256 of the configuration's document, in lower-case hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The keys of a resource: the one that writes first, then the others that read, in their order.
    pub fn keys(&self, resource: &str) -> Vec<KeyTag> {
        self.list(resource).iter().flat_map(|provider| provider.tags()).collect()
    }

    /// The key that writes a resource, where it may be used for 2^32 values and no more: the nonces of AES-GCM are
    /// random, and after that many two may well be the same, which gives both values away. Whoever encrypts under it
    /// counts.
    pub fn counted(&self, resource: &str) -> Option<&KeyTag> {
        self.list(resource).first()?.counted()
    }

    /// Every key that [`EncryptionTransformer::counted`] may give, each once.
    pub fn all_counted(&self) -> BTreeSet<KeyTag> {
        let first = self.lists.values().filter_map(|list| list.first());
        first.filter_map(|provider| provider.counted()).cloned().collect()
    }

    /// Encrypts a value that is bound to no place.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn encrypt_for_resource(&self, resource: &str, plaintext: &[u8]) -> Result<Vec<u8>, EncryptError> {
        self.seal(resource, b"", plaintext)
    }

    /// Decrypts a value that is bound to no place. A data key that is not at hand is not fetched.
    ///
    /// # Errors
    /// When no provider of the resource can open it.
    pub fn decrypt_for_resource(&self, resource: &str, stored: &[u8]) -> Result<Plain, DecryptError> {
        let mut failed = Vec::new();
        for (i, provider) in self.candidates(resource, stored) {
            match provider.open(b"", stored, &mut failed) {
                Some(Opened::Plain(bytes, staleness)) => return Ok(plain(bytes, i, staleness)),
                Some(Opened::Wanted(wanted)) => failed.push(wanted.failed(Reason::NotFetched)),
                None => {}
            }
        }
        Err(refused(failed))
    }

    /// Encrypts the value of an etcd key, such as `/registry/secrets/default/a`. Providers that can bind the value to
    /// it. Never waits.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn transform_to_storage(
        &self,
        resource: &str,
        etcd_key: &str,
        bytes: &[u8],
    ) -> Result<Vec<u8>, EncryptError> {
        self.seal(resource, etcd_key.as_bytes(), bytes)
    }

    /// Decrypts the value of an etcd key. Waits when a data key must be fetched from a KMS: no lock may be held.
    ///
    /// # Errors
    /// When no provider of the resource can open it, or the value belongs to another key of etcd.
    pub async fn transform_from_storage(
        &self,
        resource: &str,
        etcd_key: &str,
        stored: &[u8],
    ) -> Result<Plain, DecryptError> {
        let aad = etcd_key.as_bytes();
        let mut failed = Vec::new();
        for (i, provider) in self.candidates(resource, stored) {
            let mut opened = provider.open(aad, stored, &mut failed);
            if let Some(Opened::Wanted(wanted)) = opened {
                opened = wanted.fetch_and_open(aad, &mut failed).await;
            }
            if let Some(Opened::Plain(bytes, staleness)) = opened {
                return Ok(plain(bytes, i, staleness));
            }
        }
        Err(refused(failed))
    }

    fn seal(&self, resource: &str, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        // A list is never empty: validation asks for at least one provider.
        self.list(resource).first().map_or_else(|| Ok(plain.to_vec()), |provider| provider.seal(aad, plain))
    }

    /// The providers that may have written a value.
    fn candidates(&self, resource: &str, stored: &[u8]) -> impl Iterator<Item = (usize, &Provider)> {
        let providers = self.list(resource).iter().map(AsRef::as_ref).enumerate();
        providers.filter(move |(_, provider)| provider.matches(stored))
    }

    /// The providers of the narrowest rule.
    fn list(&self, resource: &str) -> &[Arc<Provider>] {
        let exact = GroupResource::from(resource);
        let rules = [exact.whole_group(), GroupResource::everything()];
        let list = self.lists.get(&exact).or_else(|| rules.iter().find_map(|rule| self.lists.get(rule)));
        list.unwrap_or(&self.clear)
    }
}

fn plain(bytes: Zeroizing<Vec<u8>>, i: usize, staleness: Staleness) -> Plain {
    Plain { bytes, stale: i != 0 || staleness == Staleness::Stale }
}

fn refused(failed: Vec<Attempt>) -> DecryptError {
    if failed.is_empty() { DecryptError::NoProvider } else { DecryptError::Refused(failed) }
}

impl std::fmt::Debug for EncryptionTransformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionTransformer").field("hash", &self.hash).finish_non_exhaustive()
    }
}
