//! AES-CBC: an initial vector of 16 random bytes, then the blocks with PKCS#7. Nothing is authenticated or bound.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{
        BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
    },
};
use cbc::cipher::block_padding::Pkcs7;
use zeroize::Zeroizing;

use super::{Cipher, Reason};
use crate::{secret::random, transformer::EncryptError};

const BLOCK: usize = 16;

/// The cipher of a key with 16, 24 or 32 bytes.
pub(crate) fn cipher(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(match key.len() {
        16 => Box::new(Cbc(Aes128::new_from_slice(key).ok()?)),
        24 => Box::new(Cbc(Aes192::new_from_slice(key).ok()?)),
        32 => Box::new(Cbc(Aes256::new_from_slice(key).ok()?)),
        _ => return None,
    })
}

struct Cbc<C>(C);

impl<C> Cipher for Cbc<C>
where
    C: BlockCipherEncrypt
        + BlockCipherDecrypt
        + aes::cipher::BlockSizeUser<BlockSize = aes::cipher::consts::U16>,
    C: Clone + Send + Sync,
{
    fn seal(&self, _: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), EncryptError> {
        let mut iv = [0; BLOCK];
        random(&mut iv)?;
        out.extend_from_slice(&iv);
        let start = out.len();
        out.extend_from_slice(plain);
        // Always at least one byte of padding.
        out.resize(start + (plain.len() / BLOCK + 1) * BLOCK, 0);
        let mode = cbc::Encryptor::<C>::inner_iv_init(self.0.clone(), &iv.into());
        mode.encrypt_padded::<Pkcs7>(&mut out[start..], plain.len())
            .map_err(|_| EncryptError::TooLong(plain.len()))?;
        Ok(())
    }

    fn open(&self, _: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Reason> {
        let (iv, blocks) = body.split_first_chunk::<BLOCK>().ok_or(Reason::TooShort)?;
        if blocks.is_empty() {
            return Err(Reason::TooShort);
        }
        if blocks.len() % BLOCK != 0 {
            return Err(Reason::NotBlocks);
        }
        let mut plain = Zeroizing::new(blocks.to_vec());
        let mode = cbc::Decryptor::<C>::inner_iv_init(self.0.clone(), &(*iv).into());
        let len = mode.decrypt_padded::<Pkcs7>(&mut plain).map_err(|_| Reason::Padding)?.len();
        plain.truncate(len);
        Ok(plain)
    }
}
