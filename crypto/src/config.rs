//! Which resources are encrypted, by what and under which keys.
//!
//! The format is kube-apiserver's: `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, or the older
//! `EncryptionConfig` of `v1` with the same fields. Rules and field paths are those of kube-apiserver 1.36.

mod duration;
pub(crate) mod file;
mod load;
mod validate;

pub use file::{LoadError, Readers};
pub use load::MAX_CONFIG_BYTES;
pub use manifest::{Refused, Violation};

use std::time::Duration;

use crate::{resource::GroupResource, secret::KeyBytes};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct EncryptionConfig {
    /// The entries, of which earlier ones win. There is at least one.
    pub entries: Vec<Entry>,
    /// SHA-256 of the document, in lower-case hex.
    pub hash: String,
}

/// Some resources and how they are encrypted.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The resources, or rules that stand for several. There is at least one.
    pub resources: Vec<GroupResource>,
    /// The providers: the first one writes, all of them read. There is at least one.
    pub providers: Vec<ProviderConfig>,
}

/// A provider.
#[derive(Clone, Debug)]
pub enum ProviderConfig {
    /// Stores what it is given.
    Identity,
    /// AES-GCM, which also binds a value to its key in etcd.
    AesGcm(Vec<Key>),
    /// AES-CBC with PKCS#7: not authenticated.
    AesCbc(Vec<Key>),
    /// XSalsa20 with Poly1305.
    Secretbox(Vec<Key>),
    /// Keys that a KMS plugin protects.
    Kms(KmsPlugin),
}

/// A named key of a provider. There is at least one for each; the first one writes.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, which is stored with each value.
    pub name: String,
    /// Its bytes, of a length that the provider takes.
    pub secret: KeyBytes,
}

/// A KMS plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsPlugin {
    /// The protocol that it speaks.
    pub version: KmsVersion,
    /// Its name, which is stored with each value.
    pub name: String,
    /// The socket: a path, or an abstract name behind `@`.
    pub socket: String,
    /// How many decrypted keys are kept; only of version 1, negative for none.
    pub cache_size: Option<i32>,
    /// The bound of one call.
    pub timeout: Duration,
}

/// The protocol of a KMS plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KmsVersion {
    /// The one before 1.29. A configuration may name it, but nothing starts with it.
    V1,
    /// A data key for many values.
    V2,
}

#[cfg(test)]
mod tests;
