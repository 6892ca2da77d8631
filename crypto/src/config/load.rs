//! From the bytes of a YAML or JSON document to a valid configuration.

use manifest::{Form, Refused};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{EncryptionConfig, validate};

/// The largest configuration. A hundred entries with ten keys each have about 100 kB.
pub const MAX_CONFIG_BYTES: usize = 1024 * 1024;

const FORM: Form = Form {
    what: "encryption configuration",
    kinds: &[("apiserver.config.k8s.io/v1", "EncryptionConfiguration"), ("v1", "EncryptionConfig")],
    max_bytes: MAX_CONFIG_BYTES,
    places: &[
        ("an entry of the configuration's resources", &["providers"]),
        ("an entry of providers", &["aesgcm", "aescbc", "secretbox", "identity", "kms"]),
        ("aesgcm, aescbc and secretbox", &["keys"]),
        ("a key", &["secret"]),
        ("kms", &["endpoint", "cachesize", "timeout"]),
    ],
    confidential: true,
};

impl EncryptionConfig {
    /// Loads the bytes of a document. With `reload` the names of all KMS plugins must differ, as they must where a
    /// configuration is read again while it is in force.
    ///
    /// # Errors
    /// When they are no valid configuration. Violations are all told at once, a malformed text only by its first
    /// flaw. No message holds a key.
    pub fn from_bytes(bytes: &[u8], reload: bool) -> Result<Self, Refused> {
        let text = manifest::read(&FORM, bytes)?;
        let entries = validate::entries(text, reload).map_err(Refused::Invalid)?;
        Ok(Self { entries, hash: hex::encode(Sha256::digest(bytes)) })
    }
}

/// A configuration as it is written; absent and null are the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigText {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    pub(super) resources: Option<Vec<EntryText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryText {
    pub(super) resources: Option<Vec<String>>,
    pub(super) providers: Option<Vec<ProviderText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderText {
    pub(super) aesgcm: Option<KeysText>,
    pub(super) aescbc: Option<KeysText>,
    pub(super) secretbox: Option<KeysText>,
    pub(super) identity: Option<IdentityText>,
    pub(super) kms: Option<KmsText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityText {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysText {
    pub(super) keys: Option<Vec<KeyText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyText {
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub(super) secret: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KmsText {
    #[serde(rename = "apiVersion")]
    pub(super) api_version: Option<String>,
    pub(super) name: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) cachesize: Option<i32>,
    pub(super) timeout: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
}
