//! What a key is called, and what tells it from another one of that name without telling anything of it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is signed under a key to tell it from others. A fingerprint is kept in stores: it must stay the same.
const CONSTANT: &[u8] = b"muniment encryption key fingerprint v1";

/// Bytes of a fingerprint: two different keys never share one by chance.
const BYTES: usize = 16;

/// A key that values are written or read under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyTag {
    /// `aesgcm`, `kms`, …; `identity` for what lies in the clear.
    pub provider: String,
    /// The key's name, or the KMS plugin's; empty in the clear.
    pub key: String,
    /// An HMAC of a constant under the key, or a hash of the KMS' key id, in hex. It is the same for the same key on
    /// every instance, and nobody learns of the key from it. Empty in the clear, and while the KMS has not answered.
    pub fingerprint: String,
}

impl KeyTag {
    pub(crate) fn of_key(provider: &str, name: &str, key: &[u8]) -> Option<Self> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(CONSTANT);
        Some(Self::new(provider, name, &mac.finalize().into_bytes()))
    }

    pub(crate) fn of_kms(plugin: &str, key_id: Option<&str>) -> Self {
        match key_id {
            Some(id) => Self::new("kms", plugin, &Sha256::digest(id)),
            None => Self { provider: "kms".to_owned(), key: plugin.to_owned(), fingerprint: String::new() },
        }
    }

    pub(crate) fn clear() -> Self {
        Self { provider: "identity".to_owned(), key: String::new(), fingerprint: String::new() }
    }

    fn new(provider: &str, name: &str, digest: &[u8]) -> Self {
        let fingerprint = hex::encode(&digest[..BYTES.min(digest.len())]);
        Self { provider: provider.to_owned(), key: name.to_owned(), fingerprint }
    }
}

impl fmt::Display for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), self.fingerprint.get(..8)) {
            ("", _) => f.write_str(&self.provider),
            (key, Some(short)) => write!(f, "{} {key} ({short})", self.provider),
            (key, None) => write!(f, "{} {key}", self.provider),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_stays_what_it_is_and_tells_nothing_of_the_key() {
        let key = b"secret is secure";
        let tag = KeyTag::of_key("aesgcm", "key1", key).unwrap();
        assert_eq!(tag.fingerprint, "c6398507c52fa1f43bb1aa1a3fa7a04c");
        assert_eq!(KeyTag::of_key("aescbc", "other", key).unwrap().fingerprint, tag.fingerprint);
        assert_ne!(KeyTag::of_key("aesgcm", "key1", b"secret is secura").unwrap(), tag);
        assert_eq!(tag.to_string(), format!("aesgcm key1 ({})", &tag.fingerprint[..8]));
    }

    #[test]
    fn what_has_no_key_has_no_fingerprint() {
        assert_eq!(KeyTag::clear().to_string(), "identity");
        assert_eq!(KeyTag::of_kms("vault", None).to_string(), "kms vault");
        assert_ne!(KeyTag::of_kms("vault", Some("1")), KeyTag::of_kms("vault", Some("2")));
    }
}
