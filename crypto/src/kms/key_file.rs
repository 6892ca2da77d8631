//! A KMS that is a file with keys: the first one wraps, all of them unwrap.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use manifest::{Form, Refused, Violation};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Kms, KmsError, Status, Wrapped};
use crate::{
    config::{
        LoadError, Readers,
        file::{self},
    },
    provider::{Cipher, aes_gcm_cipher},
    secret::KeyBytes,
};

/// The largest file: some thousand keys.
const MAX_KEY_FILE_BYTES: usize = 256 * 1024;
/// The length of a key.
const KEY: usize = 32;

const FORM: Form = Form {
    what: "key file",
    kinds: &[("muniment.io/v1", "KeyFile")],
    max_bytes: MAX_KEY_FILE_BYTES,
    places: &[],
    confidential: true,
};

/// Keys from a file, as a KMS.
///
/// The id of a key is its name with a fingerprint, so that another key of the same name is another key. A key is
/// wrapped with AES-256-GCM, which also binds the id.
pub struct KeyFile {
    keys: Vec<WrappingKey>,
}

struct WrappingKey {
    id: String,
    cipher: Box<dyn Cipher>,
}

/// A file that gives no keys.
pub type KeyFileError = LoadError;

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds no valid keys.
    pub fn from_file(path: &Path, readers: Readers) -> Result<Self, KeyFileError> {
        let bytes = file::read(path, readers, MAX_KEY_FILE_BYTES)?;
        Self::from_bytes(&bytes)
            .map_err(|source| LoadError::Refused { path: path.display().to_string(), source })
    }

    /// Loads the bytes of a key file.
    ///
    /// # Errors
    /// When they hold no valid keys. No message holds a key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        let text: FileText = manifest::read(&FORM, bytes)?;
        let mut violations = Vec::new();
        let mut keys: Vec<WrappingKey> = Vec::new();
        for (i, key) in text.keys.into_iter().flatten().enumerate() {
            match key.checked(&format!("keys[{i}]")) {
                Ok(key) if keys.iter().any(|other| other.id == key.id) => {
                    violations.push(violation(format!("keys[{i}]"), "the same key as an earlier one"));
                }
                Ok(key) => keys.push(key),
                Err(violation) => violations.push(violation),
            }
        }
        if keys.is_empty() && violations.is_empty() {
            violations.push(violation("keys".to_owned(), "required: at least one key"));
        }
        if violations.is_empty() { Ok(Self { keys }) } else { Err(Refused::Invalid(violations)) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    keys: Option<Vec<KeyText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "secret")]
    secret: Zeroizing<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

impl KeyText {
    fn checked(&self, path: &str) -> Result<WrappingKey, Violation> {
        // With the fingerprint it must fit where a key id goes.
        if !(1..=256).contains(&self.name.len()) {
            return Err(violation(format!("{path}.name"), "a name has 1 to 256 bytes"));
        }
        let path = || format!("{path}.secret");
        let key = KeyBytes::from_base64(&self.secret)
            .ok_or_else(|| violation(path(), "not standard base64 (value REDACTED)"))?;
        let cipher = aes_gcm_cipher(key.expose()).filter(|_| key.len() == KEY);
        let cipher =
            cipher.ok_or_else(|| violation(path(), &format!("{} bytes, expected {KEY}", key.len())))?;
        Ok(WrappingKey { id: format!("{}/{}", self.name, fingerprint(&key)), cipher })
    }
}

fn violation(path: String, message: &str) -> Violation {
    Violation { path, message: message.to_owned() }
}

/// Eight bytes that tell keys apart and say nothing of them.
fn fingerprint(key: &KeyBytes) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).unwrap_or_else(|_| unreachable!("any length"));
    mac.update(b"muniment key file: id");
    hex::encode(&mac.finalize().into_bytes()[..8])
}

#[async_trait]
impl Kms for KeyFile {
    async fn status(&self) -> Result<Status, KmsError> {
        let first = &self.keys[0];
        Ok(Status { version: "v2".to_owned(), healthz: "ok".to_owned(), key_id: first.id.clone() })
    }

    async fn encrypt(&self, _: &str, key: &KeyBytes) -> Result<Wrapped, KmsError> {
        let first = &self.keys[0];
        let mut ciphertext = Vec::new();
        first
            .cipher
            .seal(first.id.as_bytes(), key.expose(), &mut ciphertext)
            .map_err(|error| KmsError::Refused(error.to_string()))?;
        Ok(Wrapped { ciphertext, key_id: first.id.clone(), annotations: BTreeMap::new() })
    }

    async fn decrypt(&self, _: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        let key = self.keys.iter().find(|key| key.id == wrapped.key_id);
        let key = key.ok_or_else(|| KmsError::Refused(format!("no key {:?}", wrapped.key_id)))?;
        let refused = |reason: crate::provider::Reason| KmsError::Refused(reason.to_string());
        // Annotations are none of this service's: with any, this is not what it wrapped.
        if !wrapped.annotations.is_empty() {
            return Err(KmsError::Refused("annotations that were not given".to_owned()));
        }
        Ok(key.cipher.open(key.id.as_bytes(), &wrapped.ciphertext).map_err(refused)?.into())
    }
}
