//! Whose a stored value is, told by what it begins with.

use crate::provider::ENCRYPTED;

/// Which provider and key wrote a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `aesgcm`, `kms`, …; `identity` for what lies in the clear.
    pub provider: String,
    /// The key's name, or the KMS plugin's; empty in the clear.
    pub key: String,
}

/// Reads the label. What it says is not authentic until the value is decrypted.
pub fn label(stored: &[u8]) -> Label {
    let clear = || Label { provider: "identity".to_owned(), key: String::new() };
    let Some(rest) = stored.strip_prefix(ENCRYPTED) else { return clear() };
    // provider:version:key:
    let mut parts = rest.splitn(4, |byte| *byte == b':').map(String::from_utf8_lossy);
    let provider = parts.next().map_or_else(String::new, Into::into);
    let key = parts.nth(1).map_or_else(String::new, Into::into);
    Label { provider, key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_provider_and_key() {
        for (stored, provider, key) in [
            (&b"k8s:enc:aesgcm:v1:key1:\xff\xfe"[..], "aesgcm", "key1"),
            (b"k8s:enc:kms:v2:vault:\x0a:\x01", "kms", "vault"),
            (b"k8s:enc:secretbox:v1:a:b", "secretbox", "a"),
            (br#"{"kind":"Secret"}"#, "identity", ""),
            (b"k8s\x00\x0a", "identity", ""),
            (b"k8s:enc:", "", ""),
        ] {
            let label = label(stored);
            assert_eq!((&*label.provider, &*label.key), (provider, key));
        }
    }
}
