//! A key for any number of values.

use zeroize::Zeroizing;

use crate::{
    EncryptError, Reason,
    kms::envelope::DataKey,
    secret::{KeyBytes, RandomError},
};

/// Bytes of a seed.
const SEED: usize = 32;

/// A key under which any number of values may lie: each is sealed with AES-256-GCM under a key of its own, derived from
/// the seed and 32 random bytes that stand before it, as values under a KMS plugin are.
#[derive(Debug)]
pub struct Seed(KeyBytes);

impl Seed {
    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, RandomError> {
        KeyBytes::random(SEED).map(Self)
    }

    /// The one with these bytes; nothing when they are not as many as a seed has.
    pub fn from_bytes(bytes: KeyBytes) -> Option<Self> {
        (bytes.len() == SEED).then_some(Self(bytes))
    }

    /// Its bytes, to be wrapped.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Seals a value and binds it to `aad`.
    ///
    /// # Errors
    /// When there is no nonce, or the value is too long.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        DataKey::seal(&self.0, aad, plain)
    }

    /// Opens what [`Seed::seal`] gave.
    ///
    /// # Errors
    /// When it was sealed under another seed or bound to something else, or was changed.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason> {
        DataKey::Seed(self.0.clone()).open(aad, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_opens_what_it_sealed_and_nothing_else() {
        let seed = Seed::random().unwrap();
        let sealed = seed.seal(b"here", b"value").unwrap();
        let again = Seed::from_bytes(Zeroizing::new(seed.expose().to_vec()).into()).unwrap();
        assert_eq!(*again.open(b"here", &sealed).unwrap(), *b"value");
        assert!(again.open(b"there", &sealed).is_err());
        assert!(Seed::random().unwrap().open(b"here", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(again.open(b"here", &changed).is_err(), "byte {i}");
            assert!(again.open(b"here", &sealed[..i]).is_err(), "{i} bytes");
        }
        assert_ne!(seed.seal(b"here", b"value").unwrap(), sealed);
        assert!(Seed::from_bytes(KeyBytes::random(16).unwrap()).is_none());
    }
}
