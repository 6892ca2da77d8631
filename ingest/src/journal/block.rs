//! The block: what one group commit writes, and how it is told from torn or rotten bytes.
//!
//! A header of 64 bytes (little endian), then the payload: each record's length (u32) and stored form.
//!
//! | bytes | holds |
//! |---|---|
//! | 0..8 | magic, with bytes that no UTF-8 text contains |
//! | 8..12 | CRC-32 of everything behind it (of a gap: of the header alone) |
//! | 12..16 | length of the payload |
//! | 16..24 | offset of the first record |
//! | 24..40 | boot |
//! | 40..48 | last number that the boot gave before this block |
//! | 48..56 | how many offsets the block takes |
//! | 56..60 | how many of them the boot numbered |
//! | 60..64 | 0: records; 1: a gap, whose payload is whatever was found there |

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    log::Offset,
    record::{Boot, Seq},
};

/// Bytes of a block's header.
pub(super) const HEADER: usize = 64;

const MAGIC: [u8; 8] = *b"\xf6MUNBLK\xff";
const RECORDS: u32 = 0;
const GAP: u32 = 1;

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) first: Offset,
    pub(super) count: u64,
    pub(super) boot: Boot,
    /// The last number that the boot gave before this block.
    pub(super) before: Seq,
    /// How many of the records the boot numbered; the others were numbered elsewhere.
    pub(super) numbered: u32,
    /// Whether it stands for records that are lost.
    pub(super) gap: bool,
    pub(super) payload: u32,
}

impl Header {
    /// The offset after the block's last record.
    pub(super) const fn end(&self) -> Offset {
        Offset(self.first.0 + self.count)
    }

    /// The last number that the boot gave up to and with this block.
    pub(super) const fn last(&self) -> Seq {
        Seq(self.before.0 + self.numbered as u64)
    }

    /// Bytes of the whole block.
    pub(super) const fn len(&self) -> u64 {
        HEADER as u64 + self.payload as u64
    }

    /// Writes the header into the first bytes of `block`, which holds the payload behind them.
    pub(super) fn seal(&self, block: &mut [u8]) {
        let kind = if self.gap { GAP } else { RECORDS };
        block[..8].copy_from_slice(&MAGIC);
        block[12..16].copy_from_slice(&self.payload.to_le_bytes());
        block[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        block[24..40].copy_from_slice(self.boot.0.as_bytes());
        block[40..48].copy_from_slice(&self.before.0.to_le_bytes());
        block[48..56].copy_from_slice(&self.count.to_le_bytes());
        block[56..60].copy_from_slice(&self.numbered.to_le_bytes());
        block[60..64].copy_from_slice(&kind.to_le_bytes());
        let covered = if self.gap { HEADER } else { HEADER + self.payload as usize };
        let crc = crc32fast::hash(&block[12..covered]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the block at the start of `bytes`, or nothing when no whole and sound block stands there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER] = bytes.first_chunk()?;
        if head[..8] != MAGIC {
            return None;
        }
        let header = Self {
            payload: u32_at(head, 12),
            first: Offset(u64_at(head, 16)),
            boot: Boot(Uuid::from_bytes(head[24..40].try_into().ok()?)),
            before: Seq(u64_at(head, 40)),
            count: u64_at(head, 48),
            numbered: u32_at(head, 56),
            gap: u32_at(head, 60) == GAP,
        };
        let whole = bytes.get(..HEADER + header.payload as usize)?;
        let covered = if header.gap { &whole[12..HEADER] } else { &whole[12..] };
        (crc32fast::hash(covered) == u32_at(head, 8)).then_some(header)
    }
}

/// Where in `bytes`, from `from` on, the next sound block stands whose first offset is at least `least`.
pub(super) fn find(bytes: &[u8], from: usize, least: Offset) -> Option<(usize, Header)> {
    memchr::memmem::find_iter(bytes.get(from..)?, &MAGIC).find_map(|place| {
        let place = from + place;
        Header::read(&bytes[place..]).filter(|h| h.first >= least).map(|h| (place, h))
    })
}

/// Appends one stored record to a payload; `write` appends its stored form.
pub(super) fn push(block: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = block.len();
    block.extend_from_slice(&[0; 4]);
    write(block);
    let len = (block.len() - start - 4) as u32;
    block[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// The stored records of a payload, in order. They share its memory.
pub(super) fn records(payload: Bytes) -> impl Iterator<Item = Bytes> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(*payload.get(at..)?.first_chunk()?) as usize;
        let start = at + 4;
        at = start.checked_add(len).filter(|end| *end <= payload.len())?;
        Some(payload.slice(start..at))
    })
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, records: &[&[u8]]) -> Vec<u8> {
        let mut block = vec![0; HEADER];
        for record in records {
            push(&mut block, |out| out.extend_from_slice(record));
        }
        let header = Header {
            first: Offset(first),
            count: records.len() as u64,
            boot: Boot(Uuid::from_u128(7)),
            before: Seq(3),
            numbered: records.len() as u32,
            gap: false,
            payload: (block.len() - HEADER) as u32,
        };
        header.seal(&mut block);
        block
    }

    #[test]
    fn a_sealed_block_reads_back() {
        let bytes = block(5, &[b"one", b"", b"three"]);
        let header = Header::read(&bytes).unwrap();
        assert_eq!((header.first, header.end(), header.last()), (Offset(5), Offset(8), Seq(6)));
        assert_eq!(header.len(), bytes.len() as u64);
        let read: Vec<_> = records(Bytes::from(bytes).slice(HEADER..)).collect();
        assert_eq!(read, [&b"one"[..], b"", b"three"]);
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes() {
        let bytes = block(5, &[b"one", b"two"]);
        for len in 0..bytes.len() {
            assert_eq!(Header::read(&bytes[..len]), None, "cut to {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&rotten), None, "bit {bit}");
        }
    }

    #[test]
    fn the_next_sound_block_is_found_behind_rotten_bytes() {
        let mut bytes = block(5, &[b"one"]);
        bytes[70] ^= 1;
        let place = bytes.len();
        bytes.extend(block(4, &[b"too early"]));
        let second = bytes.len();
        bytes.extend(block(6, &[b"two"]));
        assert_eq!(find(&bytes, 0, Offset(4)).unwrap().0, place);
        assert_eq!(find(&bytes, 0, Offset(6)).unwrap().0, second);
        assert_eq!(find(&bytes, 0, Offset(7)), None);
    }
}
