//! The segment: one file of the journal, its name and its first bytes.
//!
//! | bytes | holds (little endian) |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | format version |
//! | 12..16 | CRC-32 of bytes 8..12 and 16..64; so in every version, to tell a newer one from damage |
//! | 16..24 | offset of the first record |
//! | 24..40 | the boot whose record stands before that one; zeros: none |
//! | 40..48 | that record's number |
//! | 48..64 | zeros |
//!
//! So the newest segment alone tells where numbering goes on, even when every record was released.

use uuid::Uuid;

use crate::{
    log::Offset,
    pipeline::Previous,
    record::{Boot, Seq},
};

/// Bytes before the first block.
pub(super) const HEADER: usize = 64;

/// The version that is written. Every version ever written is read.
pub(super) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"\xf6MUNSEG\xff";
const SUFFIX: &str = ".journal";

/// The first bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) first: Offset,
    pub(super) previous: Option<Previous>,
}

/// Why a file's first bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHeader {
    /// Torn or rotten.
    Damaged,
    /// Written by a newer program.
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        if let Some(previous) = self.previous {
            bytes[24..40].copy_from_slice(previous.boot.0.as_bytes());
            bytes[40..48].copy_from_slice(&previous.last_seq.0.to_le_bytes());
        }
        let crc = crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, NotHeader> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(NotHeader::Damaged)?;
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let found = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        if bytes[..8] != MAGIC || crc(bytes) != found {
            return Err(NotHeader::Damaged);
        }
        if version > VERSION {
            return Err(NotHeader::Version(version));
        }
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let boot = bytes[24..].first_chunk().map_or(Uuid::nil(), |b| Uuid::from_bytes(*b));
        let previous = (!boot.is_nil()).then(|| Previous { boot: Boot(boot), last_seq: Seq(number(40)) });
        Ok(Self { first: Offset(number(16)), previous })
    }
}

fn crc(header: &[u8; HEADER]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[8..12]);
    crc.update(&header[16..]);
    crc.finalize()
}

/// Makes a header say that a program of `version` wrote it.
#[cfg(test)]
pub(super) fn set_version(header: &mut [u8; HEADER], version: u8) {
    header[8] = version;
    let crc = crc(header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// The file name of the segment that begins at `first`; names sort as offsets do.
pub(super) fn name(first: Offset) -> String {
    format!("{:020}{SUFFIX}", first.0)
}

/// The first offset of the segment with this file name, or nothing when it is not a segment's.
pub(super) fn first(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Offset)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        for previous in [None, Some(Previous { boot: Boot(Uuid::from_u128(9)), last_seq: Seq(4) })] {
            let header = Header { first: Offset(12), previous };
            assert_eq!(Header::read(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = Header { first: Offset(12), previous: None }.encode();
        set_version(&mut bytes, 9);
        assert_eq!(Header::read(&bytes), Err(NotHeader::Version(9)));
        bytes[8] = 8;
        assert_eq!(Header::read(&bytes), Err(NotHeader::Damaged));
        assert_eq!(Header::read(&[0; HEADER]), Err(NotHeader::Damaged));
        assert_eq!(Header::read(&bytes[..20]), Err(NotHeader::Damaged));
    }

    #[test]
    fn names_are_read_back_and_other_files_are_not_segments() {
        assert_eq!(first(&name(Offset(77))), Some(Offset(77)));
        assert_eq!(first("77.journal"), None);
        assert_eq!(first("lost+found"), None);
    }
}
