//! Bytes of a key: cleared when dropped, never shown, compared in constant time.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The bytes of a key.
#[derive(Clone)]
pub struct KeyBytes(Zeroizing<Vec<u8>>);

/// As Go reads it: padding is required, bits behind the last byte do not matter.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

impl KeyBytes {
    /// Fresh bytes from the operating system.
    ///
    /// # Errors
    /// When it has none to give.
    pub fn random(len: usize) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new(vec![0; len]);
        random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Standard base64, line breaks ignored; nothing when it is none.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let text = Zeroizing::new(text.replace(['\r', '\n'], ""));
        // Reserved whole, so that no copy stays behind when the buffer would grow.
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        BASE64.decode_vec(text.as_bytes(), &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Standard base64.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.expose()))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes the key has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<Zeroizing<Vec<u8>>> for KeyBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyBytes {}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(REDACTED)")
    }
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomError(#[from] getrandom::Error);

/// Fills `bytes` with fresh ones.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), RandomError> {
    Ok(getrandom::fill(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = KeyBytes::from_base64("c2VjcmV0IGlzIHNlY3VyZQ==").unwrap();
        assert_eq!(format!("{key:?}"), "KeyBytes(REDACTED)");
        assert_eq!(key.expose(), b"secret is secure");
        assert_eq!(key, KeyBytes::from_base64("c2VjcmV0IGlz\nIHNlY3VyZQ==").unwrap());
        assert_ne!(key, KeyBytes::from_base64("c2VjcmV0IGlzIHNlY3VyZg==").unwrap());
    }

    #[test]
    fn base64_is_read_as_go_reads_it() {
        assert!(KeyBytes::from_base64("c2VjcmV0IGlzIHNlY3VyZQ").is_none(), "padding is required");
        assert!(KeyBytes::from_base64("c2VjcmV0IGlzIHNlY3VyZR==").is_some(), "the last bits do not matter");
        assert!(KeyBytes::from_base64("c2V-").is_none(), "the alphabet is the standard one");
    }
}
