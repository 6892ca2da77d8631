//! What is stored of a value under a data key: the sealed bytes, and all that the KMS needs to unwrap the data key.

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Wrapped, wire};
use crate::{
    provider::{Cipher, Reason, aes_cbc_cipher, aes_gcm_cipher, derived},
    secret::{KeyBytes, random},
    transformer::EncryptError,
};

/// The longest wrapped key and the longest key id.
const MAX_FIELD: usize = 1024;
/// The most bytes of all annotations with their names.
const MAX_ANNOTATIONS: usize = 32 * 1024;
/// The nonce that extends that of AES-GCM.
const INFO: usize = 32;

/// What a data key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The key of AES-GCM itself. Written before 1.29, only read now.
    Key,
    /// A seed, from which a key is derived for each value.
    Seed,
    /// The key of one value under version 1: of AES-GCM, before 1.25 of AES-CBC. Only read.
    V1,
}

/// An envelope that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the bytes of an envelope.
    #[error("not an encrypted object")]
    Malformed,
    /// A kind of data key that is not known.
    #[error("data key of unknown type {0}")]
    Type(i32),
    /// There are no sealed bytes.
    #[error("no encrypted data")]
    Empty,
    /// The wrapped key has a wrong length.
    #[error("the wrapped key has {0} bytes, expected 1 to {MAX_FIELD}")]
    Key(usize),
    /// The key id has a wrong length.
    #[error("the key id has {0} bytes, expected 1 to {MAX_FIELD}")]
    KeyId(usize),
    /// The name of an annotation is no domain name.
    #[error("annotation {0:?} is not named by a fully qualified domain name")]
    Annotation(String),
    /// The annotations are too large.
    #[error("the annotations have {0} bytes, at most {MAX_ANNOTATIONS} are taken")]
    Annotations(usize),
}

/// An envelope as it was read.
pub(crate) struct Envelope {
    pub(crate) data: Vec<u8>,
    pub(crate) source: Source,
    pub(crate) wrapped: Wrapped,
}

impl Envelope {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let object = wire::EncryptedObject::decode(bytes).map_err(|_| EnvelopeError::Malformed)?;
        let source = match object.encrypted_dek_source_type {
            0 => Source::Key,
            1 => Source::Seed,
            other => return Err(EnvelopeError::Type(other)),
        };
        if object.encrypted_data.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        let wrapped = Wrapped {
            ciphertext: object.encrypted_dek_source,
            key_id: object.key_id,
            annotations: object.annotations,
        };
        check(&wrapped)?;
        Ok(Self { data: object.encrypted_data, source, wrapped })
    }

    /// As version 1 wrote it: the wrapped key behind its length, then the sealed bytes.
    pub(crate) fn decode_v1(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let (len, rest) = bytes.split_first_chunk().ok_or(EnvelopeError::Malformed)?;
        let (wrapped, data) =
            rest.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(EnvelopeError::Malformed)?;
        if wrapped.is_empty() {
            return Err(EnvelopeError::Key(0));
        }
        if data.is_empty() {
            return Err(EnvelopeError::Empty);
        }
        let wrapped = Wrapped { ciphertext: wrapped.to_vec(), ..Wrapped::default() };
        Ok(Self { data: data.to_vec(), source: Source::V1, wrapped })
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        wire::EncryptedObject {
            encrypted_data: self.data,
            key_id: self.wrapped.key_id,
            encrypted_dek_source: self.wrapped.ciphertext,
            annotations: self.wrapped.annotations,
            encrypted_dek_source_type: self.source as i32,
        }
        .encode_to_vec()
    }
}

/// The bounds that both sides of the protocol keep.
pub(crate) fn check(wrapped: &Wrapped) -> Result<(), EnvelopeError> {
    check_key_id(&wrapped.key_id)?;
    if !(1..=MAX_FIELD).contains(&wrapped.ciphertext.len()) {
        return Err(EnvelopeError::Key(wrapped.ciphertext.len()));
    }
    if let Some(name) = wrapped.annotations.keys().find(|name| !is_qualified(name)) {
        return Err(EnvelopeError::Annotation(name.clone()));
    }
    let size = wrapped.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS { Err(EnvelopeError::Annotations(size)) } else { Ok(()) }
}

pub(crate) fn check_key_id(id: &str) -> Result<(), EnvelopeError> {
    if (1..=MAX_FIELD).contains(&id.len()) { Ok(()) } else { Err(EnvelopeError::KeyId(id.len())) }
}

/// A DNS-1123 subdomain of at least two labels; one dot may end it.
fn is_qualified(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

/// A data key that the KMS has unwrapped.
pub(crate) enum DataKey {
    Key(Box<dyn Cipher>),
    Seed(KeyBytes),
    V1 { gcm: Box<dyn Cipher>, cbc: Box<dyn Cipher> },
}

impl DataKey {
    pub(crate) fn new(source: Source, key: KeyBytes) -> Result<Self, Reason> {
        let unusable = Reason::DataKey(key.len());
        match source {
            Source::Key => aes_gcm_cipher(key.expose()).map(Self::Key).ok_or(unusable),
            Source::Seed if key.len() >= 32 => Ok(Self::Seed(key)),
            Source::Seed => Err(unusable),
            Source::V1 => match (aes_gcm_cipher(key.expose()), aes_cbc_cipher(key.expose())) {
                (Some(gcm), Some(cbc)) => Ok(Self::V1 { gcm, cbc }),
                _ => Err(unusable),
            },
        }
    }

    /// Seals under a seed: a fresh extended nonce, then what its key of AES-GCM seals.
    pub(crate) fn seal(seed: &KeyBytes, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let mut out = Vec::with_capacity(INFO + 12 + plain.len() + 16);
        out.resize(INFO, 0);
        random(&mut out)?;
        let cipher = derived(seed.expose(), &out).map_err(|_| EncryptError::TooLong(plain.len()))?;
        cipher.seal(aad, plain, &mut out)?;
        Ok(out)
    }

    pub(crate) fn open(&self, aad: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason> {
        match self {
            Self::Key(cipher) => cipher.open(aad, data),
            Self::Seed(seed) => {
                let (info, rest) = data.split_first_chunk::<INFO>().ok_or(Reason::TooShort)?;
                derived(seed.expose(), info)?.open(aad, rest)
            }
            // What is wrong is told of the newer form.
            Self::V1 { gcm, cbc } => {
                gcm.open(aad, data).or_else(|reason| cbc.open(aad, data).map_err(|_| reason))
            }
        }
    }
}

/// What a wrapped key is known by in the cache of unwrapped ones: everything that the KMS is told, unambiguously.
pub(crate) fn fingerprint(source: Source, wrapped: &Wrapped) -> [u8; 32] {
    fn field(hash: &mut Sha256, bytes: &[u8]) {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    fn annotations(hash: &mut Sha256, annotations: &BTreeMap<String, Vec<u8>>) {
        hash.update((annotations.len() as u64).to_be_bytes());
        for (name, value) in annotations {
            field(hash, name.as_bytes());
            field(hash, value);
        }
    }
    let mut hash = Sha256::new();
    hash.update([source as u8]);
    field(&mut hash, &wrapped.ciphertext);
    field(&mut hash, wrapped.key_id.as_bytes());
    annotations(&mut hash, &wrapped.annotations);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped() -> Wrapped {
        let annotations = BTreeMap::from([("a.example.com".to_owned(), vec![1])]);
        Wrapped { ciphertext: vec![7], key_id: "k".to_owned(), annotations }
    }

    #[test]
    fn the_bounds_of_the_protocol_are_kept() {
        assert_eq!(check(&wrapped()), Ok(()));
        let with = |change: fn(&mut Wrapped)| {
            let mut wrapped = wrapped();
            change(&mut wrapped);
            check(&wrapped)
        };
        assert_eq!(with(|w| w.ciphertext.clear()), Err(EnvelopeError::Key(0)));
        assert_eq!(with(|w| w.ciphertext = vec![0; 1025]), Err(EnvelopeError::Key(1025)));
        assert_eq!(with(|w| w.ciphertext = vec![0; 1024]), Ok(()));
        assert_eq!(with(|w| w.key_id.clear()), Err(EnvelopeError::KeyId(0)));
        assert_eq!(with(|w| w.key_id = "k".repeat(1025)), Err(EnvelopeError::KeyId(1025)));
        for name in ["", "a", "a.", ".a.b", "A.b", "a_.b", "-a.b"] {
            let mut wrapped = wrapped();
            wrapped.annotations.insert(name.to_owned(), vec![]);
            assert_eq!(check(&wrapped), Err(EnvelopeError::Annotation(name.to_owned())));
        }
        let large = with(|w| {
            w.annotations.insert("b.c".to_owned(), vec![0; MAX_ANNOTATIONS]);
        });
        assert_eq!(large, Err(EnvelopeError::Annotations(MAX_ANNOTATIONS + 17)));
    }

    #[test]
    fn every_part_of_a_wrapped_key_tells_it_from_others() {
        let base = fingerprint(Source::Seed, &wrapped());
        assert_ne!(base, fingerprint(Source::Key, &wrapped()));
        for change in [
            |w: &mut Wrapped| w.ciphertext.push(7),
            |w: &mut Wrapped| w.key_id.push('k'),
            |w: &mut Wrapped| w.annotations.clear(),
        ] {
            let mut other = wrapped();
            change(&mut other);
            assert_ne!(base, fingerprint(Source::Seed, &other));
        }
    }
}
