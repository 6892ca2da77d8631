//! How the ledger keeps an event's bytes: one byte that names the form, then the event in that form.

use std::{io, sync::OnceLock};

use bytes::Bytes;
use zstd::{
    bulk::{Compressor, Decompressor},
    dict::{DecoderDictionary, EncoderDictionary},
    zstd_safe::{CParameter, compress_bound},
};

use crate::record::MAX_EVENT_BYTES;

/// The bytes as they are: for what does not get smaller.
const PLAIN: u8 = 0;
/// A zstd frame made with [`DICTIONARY_1`], without the four bytes with which every frame begins.
const ZSTD_1: u8 = 1;

/// Trained on generated events. It never changes: a better one gets a form of its own.
static DICTIONARY_1: &[u8] = include_bytes!("codec/1.dict");

/// Level 3 packs an event in 2 µs; see `docs/adr` for what higher levels would save.
const LEVEL: i32 = 3;

const FRAME_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// Puts events into their stored form. Making one costs more than packing an event: keep it for a batch.
pub(crate) struct Packer {
    compressor: Compressor<'static>,
    frame: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> io::Result<Self> {
        static PREPARED: OnceLock<EncoderDictionary<'static>> = OnceLock::new();
        let dictionary = PREPARED.get_or_init(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
        let mut compressor = Compressor::with_prepared_dictionary(dictionary)?;
        compressor.set_parameter(CParameter::DictIdFlag(false))?;
        Ok(Self { compressor, frame: Vec::new() })
    }

    /// Appends the stored form of `event` to `out`.
    pub(crate) fn pack_into(&mut self, event: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.frame.clear();
        self.frame.reserve(compress_bound(event.len()));
        self.compressor.compress_to_buffer(event, &mut self.frame)?;
        match self.frame.strip_prefix(&FRAME_MAGIC) {
            Some(body) if body.len() < event.len() => {
                out.push(ZSTD_1);
                out.extend_from_slice(body);
            }
            _ => {
                out.push(PLAIN);
                out.extend_from_slice(event);
            }
        }
        Ok(())
    }
}

/// Why a stored form does not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("a stored event is empty")]
    Empty,
    #[error("a stored event has form {0}, which this program does not know")]
    Form(u8),
    #[error("a stored event does not decompress")]
    Frame(#[from] io::Error),
}

/// Gives events back from their stored form.
pub(crate) struct Unpacker {
    decompressor: Decompressor<'static>,
    frame: Vec<u8>,
}

impl Unpacker {
    pub(crate) fn new() -> io::Result<Self> {
        static PREPARED: OnceLock<DecoderDictionary<'static>> = OnceLock::new();
        let dictionary = PREPARED.get_or_init(|| DecoderDictionary::copy(DICTIONARY_1));
        Ok(Self { decompressor: Decompressor::with_prepared_dictionary(dictionary)?, frame: Vec::new() })
    }

    /// The event that was packed into `stored`.
    pub(crate) fn unpack(&mut self, stored: &[u8]) -> Result<Bytes, UnpackError> {
        let (&form, body) = stored.split_first().ok_or(UnpackError::Empty)?;
        match form {
            PLAIN => Ok(Bytes::copy_from_slice(body)),
            ZSTD_1 => {
                self.frame.clear();
                self.frame.extend_from_slice(&FRAME_MAGIC);
                self.frame.extend_from_slice(body);
                Ok(self.decompressor.decompress(&self.frame, MAX_EVENT_BYTES)?.into())
            }
            other => Err(UnpackError::Form(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The stored form 1 of [`EVENT`], as it was first written. It must read for ever.
    const STORED_1: &[u8] = include_bytes!("codec/1.bin");
    const EVENT: &[u8] = br#"{"level":"Metadata","auditID":"0f0e6a3e-7e0a-4f6a-9a43-d0a7a7b0b6ac","stage":"ResponseComplete","verb":"get","user":{"username":"jane"}}"#;

    fn packed(event: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::new().unwrap().pack_into(event, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(event in prop::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(&Unpacker::new().unwrap().unpack(&packed(&event)).unwrap()[..], &event[..]);
        }

        #[test]
        fn random_bytes_are_an_event_or_an_error(stored in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Unpacker::new().unwrap().unpack(&stored);
        }
    }

    #[test]
    fn the_first_form_still_reads() {
        assert_eq!(&Unpacker::new().unwrap().unpack(STORED_1).unwrap()[..], EVENT);
    }

    #[test]
    fn an_event_gets_smaller_and_noise_at_most_a_byte_longer() {
        assert!(packed(EVENT).len() < EVENT.len() * 2 / 3, "{} bytes", packed(EVENT).len());
        assert_eq!(packed(b"\x01\x9c\x33").len(), 4);
    }

    #[test]
    fn the_largest_event_unpacks() {
        let event = vec![b'x'; MAX_EVENT_BYTES];
        assert_eq!(&Unpacker::new().unwrap().unpack(&packed(&event)).unwrap()[..], &event[..]);
    }

    #[test]
    fn an_unknown_form_is_refused_by_number() {
        assert!(matches!(Unpacker::new().unwrap().unpack(&[9, 1, 2]), Err(UnpackError::Form(9))));
    }
}
