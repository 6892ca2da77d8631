//! Providers: what they write before a value, and which of their keys open it.

mod aes_cbc;
mod aes_gcm;
mod secretbox;

pub(crate) use self::{
    aes_cbc::cipher as aes_cbc_cipher,
    aes_gcm::{cipher as aes_gcm_cipher, derived},
};

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use crate::{
    config::{Key, ProviderConfig},
    kms::{
        envelope::EnvelopeError,
        provider::{KmsProvider, Wanted},
    },
    tag::KeyTag,
    transformer::EncryptError,
};

/// What every value begins with that is not stored in the clear.
pub(crate) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Encrypts with one key. Whether `aad` is bound is up to the algorithm.
pub(crate) trait Cipher: Send + Sync {
    /// Appends the nonce and what is sealed.
    fn seal(&self, aad: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), EncryptError>;

    /// Opens what `seal` appended.
    fn open(&self, aad: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason>;
}

/// One provider of a list.
pub(crate) enum Provider {
    Identity,
    Keys(Keys),
    Kms(Arc<KmsProvider>),
}

/// A provider with keys of its own.
pub(crate) struct Keys {
    label: &'static str,
    /// `k8s:enc:<label>:v1:`
    prefix: String,
    keys: Vec<NamedCipher>,
}

struct NamedCipher {
    /// `<name>:`
    prefix: String,
    tag: KeyTag,
    cipher: Box<dyn Cipher>,
}

/// What a provider made of a stored value.
pub(crate) enum Opened {
    Plain(Zeroizing<Vec<u8>>, Staleness),
    /// A data key must be fetched first.
    Wanted(Wanted),
}

/// Whether a provider would now write the value otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staleness {
    Current,
    Stale,
}

impl Provider {
    /// The provider of a configuration that needs no KMS.
    pub(crate) fn with_keys(config: &ProviderConfig) -> Option<Self> {
        match config {
            ProviderConfig::Identity => Some(Self::Identity),
            ProviderConfig::AesGcm(keys) => Keys::new("aesgcm", keys, aes_gcm::cipher).map(Self::Keys),
            ProviderConfig::AesCbc(keys) => Keys::new("aescbc", keys, aes_cbc::cipher).map(Self::Keys),
            ProviderConfig::Secretbox(keys) => {
                Keys::new("secretbox", keys, secretbox::cipher).map(Self::Keys)
            }
            ProviderConfig::Kms(_) => None,
        }
    }

    /// Its keys as they may be told, the one that writes first.
    pub(crate) fn tags(&self) -> Vec<KeyTag> {
        match self {
            Self::Identity => vec![KeyTag::clear()],
            Self::Keys(keys) => keys.keys.iter().map(|key| key.tag.clone()).collect(),
            Self::Kms(kms) => vec![kms.tag()],
        }
    }

    /// The key that writes, where the number of its uses has a bound that can be reached. The nonces of AES-GCM are
    /// random and short; those of secretbox are twice as long, and a KMS' seed gives each value a key of its own.
    pub(crate) fn counted(&self) -> Option<&KeyTag> {
        match self {
            Self::Keys(keys) if keys.label == "aesgcm" => keys.keys.first().map(|key| &key.tag),
            _ => None,
        }
    }

    /// Whether a stored value may be this provider's.
    pub(crate) fn matches(&self, stored: &[u8]) -> bool {
        match self {
            Self::Identity => true,
            Self::Keys(keys) => stored.starts_with(keys.prefix.as_bytes()),
            Self::Kms(kms) => stored.starts_with(kms.prefix().as_bytes()),
        }
    }

    pub(crate) fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        match self {
            Self::Identity => Ok(plain.to_vec()),
            Self::Keys(keys) => keys.seal(aad, plain),
            Self::Kms(kms) => kms.seal(aad, plain),
        }
    }

    /// Opens a value that [`Provider::matches`]; what failed is added to `failed`.
    pub(crate) fn open(&self, aad: &[u8], stored: &[u8], failed: &mut Vec<Attempt>) -> Option<Opened> {
        match self {
            // A value of another provider is nobody's fault: the next one is asked.
            Self::Identity if stored.starts_with(ENCRYPTED) => None,
            Self::Identity => Some(Opened::Plain(Zeroizing::new(stored.to_vec()), Staleness::Current)),
            Self::Keys(keys) => keys.open(aad, &stored[keys.prefix.len()..], failed),
            Self::Kms(kms) => match kms.open(aad, &stored[kms.prefix().len()..]) {
                Ok(opened) => Some(opened),
                Err(reason) => {
                    failed.push(Attempt { provider: "kms", key: Some(kms.name().to_owned()), reason });
                    None
                }
            },
        }
    }
}

impl Keys {
    /// Nothing when there is no key, or one of a length that validation refuses.
    fn new(
        label: &'static str,
        keys: &[Key],
        cipher: impl Fn(&[u8]) -> Option<Box<dyn Cipher>>,
    ) -> Option<Self> {
        let named = |key: &Key| {
            Some(NamedCipher {
                prefix: format!("{}:", key.name),
                tag: KeyTag::of_key(label, &key.name, key.secret.expose())?,
                cipher: cipher(key.secret.expose())?,
            })
        };
        let keys: Vec<_> = keys.iter().map(named).collect::<Option<_>>()?;
        (!keys.is_empty()).then(|| Self { label, prefix: format!("k8s:enc:{label}:v1:"), keys })
    }

    fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let first = &self.keys[0];
        let mut out = Vec::with_capacity(self.prefix.len() + first.prefix.len() + plain.len() + MAX_OVERHEAD);
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(first.prefix.as_bytes());
        first.cipher.seal(aad, plain, &mut out)?;
        Ok(out)
    }

    fn open(&self, aad: &[u8], body: &[u8], failed: &mut Vec<Attempt>) -> Option<Opened> {
        let before = failed.len();
        for (i, key) in self.keys.iter().enumerate() {
            let Some(body) = body.strip_prefix(key.prefix.as_bytes()) else { continue };
            match key.cipher.open(aad, body) {
                Ok(plain) => {
                    let staleness = if i == 0 { Staleness::Current } else { Staleness::Stale };
                    return Some(Opened::Plain(plain, staleness));
                }
                Err(reason) => {
                    let key = key.prefix.trim_end_matches(':').to_owned();
                    failed.push(Attempt { provider: self.label, key: Some(key), reason });
                }
            }
        }
        if failed.len() == before {
            failed.push(Attempt { provider: self.label, key: None, reason: Reason::NoKey });
        }
        None
    }
}

/// The most that an algorithm adds: nonce and tag of secretbox.
const MAX_OVERHEAD: usize = 24 + 16;

/// A provider that was asked and could not open a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The provider.
    pub provider: &'static str,
    /// The name of the key or plugin, when one was meant.
    pub key: Option<String>,
    /// Why not.
    pub reason: Reason,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} {key}: {}", self.provider, self.reason),
            None => write!(f, "{}: {}", self.provider, self.reason),
        }
    }
}

/// Why a provider could not open a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// None of the provider's keys has the name that is stored with the value.
    #[error("no key of the stored name")]
    NoKey,
    /// Shorter than anything the provider writes.
    #[error("the stored value is too short")]
    TooShort,
    /// Not a number of whole blocks.
    #[error("the stored value is not of whole blocks")]
    NotBlocks,
    /// The padding is wrong: the value was changed, or is under another key.
    #[error("the padding is wrong")]
    Padding,
    /// The value was changed, lies under another key of etcd, or was sealed with another key of this name.
    #[error("the value is not authentic")]
    NotAuthentic,
    /// What stands around the sealed bytes is wrong.
    #[error("the envelope is wrong: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The data key is of no use.
    #[error("the data key has {0} bytes")]
    DataKey(usize),
    /// The KMS gave no data key.
    #[error("the data key could not be fetched: {0}")]
    Kms(String),
    /// The data key is not at hand, and the caller did not let it be fetched.
    #[error("the data key must be fetched from the KMS first")]
    NotFetched,
}
