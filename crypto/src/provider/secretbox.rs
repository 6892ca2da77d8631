//! Secretbox: a nonce of 24 random bytes, a Poly1305 tag of 16, then XSalsa20. Nothing is bound.

use crypto_secretbox::{AeadInPlace, KeyInit, XSalsa20Poly1305};
use zeroize::Zeroizing;

use super::{Cipher, Reason};
use crate::{secret::random, transformer::EncryptError};

const NONCE: usize = 24;
const TAG: usize = 16;

/// The cipher of a key with 32 bytes.
pub(super) fn cipher(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(Secretbox(XSalsa20Poly1305::new_from_slice(key).ok()?)))
}

struct Secretbox(XSalsa20Poly1305);

impl Cipher for Secretbox {
    fn seal(&self, _: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), EncryptError> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(&[0; TAG]);
        out.extend_from_slice(plain);
        let tag = self
            .0
            .encrypt_in_place_detached(&nonce.into(), &[], &mut out[start + TAG..])
            .map_err(|_| EncryptError::TooLong(plain.len()))?;
        out[start..start + TAG].copy_from_slice(&tag);
        Ok(())
    }

    fn open(&self, _: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason> {
        let (nonce, rest) = body.split_first_chunk::<NONCE>().ok_or(Reason::TooShort)?;
        let (tag, sealed) = rest.split_first_chunk::<TAG>().ok_or(Reason::TooShort)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        self.0
            .decrypt_in_place_detached(&(*nonce).into(), &[], &mut plain, &(*tag).into())
            .map_err(|_| Reason::NotAuthentic)?;
        Ok(plain)
    }
}
