//! AES-GCM: a nonce of 12 random bytes, then what is sealed and a tag of 16. The etcd key is bound.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::{
    AesGcm, KeyInit, Nonce, Tag,
    aead::{AeadInOut, consts::U12},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Cipher, Reason};
use crate::{secret::random, transformer::EncryptError};

const NONCE: usize = 12;
const TAG: usize = 16;

/// The cipher of a key with 16, 24 or 32 bytes.
pub(crate) fn cipher(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(match key.len() {
        16 => Box::new(Gcm(AesGcm::<Aes128, U12>::new_from_slice(key).ok()?)),
        24 => Box::new(Gcm(AesGcm::<Aes192, U12>::new_from_slice(key).ok()?)),
        32 => Box::new(Gcm(AesGcm::<Aes256, U12>::new_from_slice(key).ok()?)),
        _ => return None,
    })
}

/// The cipher that an extended nonce derives from a seed: HKDF, of which only the expansion with SHA-256.
pub(crate) fn derived(seed: &[u8], info: &[u8]) -> Result<impl Cipher + use<>, Reason> {
    let unusable = || Reason::DataKey(seed.len());
    let mut key = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::from_prk(seed).map_err(|_| unusable())?;
    hkdf.expand(info, &mut *key).map_err(|_| unusable())?;
    AesGcm::<Aes256, U12>::new_from_slice(&*key).map(Gcm).map_err(|_| unusable())
}

struct Gcm<C>(C);

impl<A> Cipher for Gcm<AesGcm<A, U12>>
where
    AesGcm<A, U12>: AeadInOut<NonceSize = U12, TagSize = aes_gcm::aead::consts::U16> + Send + Sync,
{
    fn seal(&self, aad: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), EncryptError> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(nonce), aad, (&mut out[start..]).into())
            .map_err(|_| EncryptError::TooLong(plain.len()))?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    fn open(&self, aad: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason> {
        let (nonce, rest) = body.split_first_chunk::<NONCE>().ok_or(Reason::TooShort)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(Reason::TooShort)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.0
            .decrypt_inout_detached(&Nonce::from(*nonce), aad, plain.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| Reason::NotAuthentic)?;
        Ok(plain)
    }
}
