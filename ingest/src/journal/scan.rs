//! What a start finds in the folder: sound blocks, a torn tail that is cut, damage that stops it.
//!
//! A block is written only after the one before it is durable. So bytes that are no sound block and have no
//! sound block behind them are a write that the last crash cut short, which nobody was told of. With a sound
//! block behind them they were durable once: that is damage, and going on needs the operator's word.

use std::{collections::VecDeque, io};

use super::{
    Lost, OpenError, Opened, Torn, block,
    catalog::{Catalog, Place, Segment},
    keep::Keep,
    segment::{self, NotHeader},
    storage::{Storage, StorageFile},
};
use crate::{log::Offset, pipeline::Previous, record::Seq};

/// Reads every segment of `storage` and mends what may be mended.
pub(super) fn scan(storage: &dyn Storage, accept_gap: bool) -> Result<(Catalog, Opened), OpenError> {
    let mut firsts: Vec<Offset> = list(storage)?;
    firsts.sort_unstable();
    let mut scan = Scan::new(storage, accept_gap, firsts.first().copied().unwrap_or_default());
    for (i, first) in firsts.iter().enumerate() {
        scan.segment(*first, firsts.get(i + 1).copied())?;
    }
    scan.make_the_end_durable()?;
    let Scan { segments, next, mut opened, .. } = scan;
    opened.next = next;
    Ok((Catalog { segments, next, keep: Keep::default() }, opened))
}

fn list(storage: &dyn Storage) -> Result<Vec<Offset>, OpenError> {
    let names = storage.list().map_err(|source| OpenError::Io { file: ".".into(), source })?;
    Ok(names.iter().filter_map(|name| segment::first(name)).collect())
}

struct Scan<'a> {
    storage: &'a dyn Storage,
    accept_gap: bool,
    segments: VecDeque<Segment>,
    next: Offset,
    opened: Opened,
}

/// A segment file while it is scanned.
struct File {
    first: Offset,
    name: String,
    bytes: Vec<u8>,
    segment: Segment,
    /// Where the next block should stand.
    at: usize,
}

impl File {
    fn io(&self) -> impl Fn(io::Error) -> OpenError + use<> {
        let file = self.name.clone();
        move |source| OpenError::Io { file: file.clone(), source }
    }

    /// Cuts everything behind the sound blocks, which gives reserved space back.
    fn cut(&self) -> io::Result<()> {
        self.segment.file.truncate(self.at as u64)?;
        self.segment.file.sync()
    }
}

impl<'a> Scan<'a> {
    fn new(storage: &'a dyn Storage, accept_gap: bool, first: Offset) -> Self {
        Self { storage, accept_gap, segments: VecDeque::new(), next: first, opened: Opened::default() }
    }

    fn segment(&mut self, first: Offset, following: Option<Offset>) -> Result<(), OpenError> {
        let mut file = self.load(first)?;
        if !self.header(&file, following)? {
            return self.forget_unmade(&file);
        }
        self.blocks(&mut file)?;
        match following {
            Some(following) if following != self.next => self.seam(&mut file, following)?,
            Some(_) => {}
            None => self.tail(&file),
        }
        if file.bytes.len() > file.at {
            file.cut().map_err(file.io())?;
        }
        file.segment.bytes = file.at as u64;
        self.segments.push_back(file.segment);
        Ok(())
    }

    fn load(&self, first: Offset) -> Result<File, OpenError> {
        let name = segment::name(first);
        let io = |source| OpenError::Io { file: name.clone(), source };
        let handle = self.storage.open(&name).map_err(io)?;
        let bytes = read_all(&*handle).map_err(io)?;
        Ok(File { first, name, bytes, segment: Segment::empty(first, handle), at: segment::HEADER })
    }

    /// Takes the header in; false when the segment was never made whole and holds nothing.
    fn header(&mut self, file: &File, following: Option<Offset>) -> Result<bool, OpenError> {
        match segment::Header::read(&file.bytes) {
            Ok(header) if header.first == file.first => {
                self.opened.previous = header.previous.or(self.opened.previous);
                Ok(true)
            }
            Err(NotHeader::Version(version)) => Err(OpenError::Newer { file: file.name.clone(), version }),
            _ if following.is_none() && block::find(&file.bytes, 0, file.first).is_none() => Ok(false),
            _ if self.accept_gap => self.mend_header(file).map(|()| true),
            _ => Err(OpenError::Corrupt { file: file.name.clone(), at: 0, lost: 0 }),
        }
    }

    fn mend_header(&mut self, file: &File) -> Result<(), OpenError> {
        let header = segment::Header { first: file.first, previous: self.opened.previous };
        let handle = &file.segment.file;
        handle.write_at(&header.encode(), 0).and_then(|()| handle.sync()).map_err(file.io())
    }

    fn forget_unmade(&mut self, file: &File) -> Result<(), OpenError> {
        self.next = file.first;
        self.opened.torn = torn(&file.name, &file.bytes, 0);
        self.storage.remove(&file.name).and_then(|()| self.storage.sync()).map_err(file.io())
    }

    fn blocks(&mut self, file: &mut File) -> Result<(), OpenError> {
        loop {
            let here = block::Header::read(&file.bytes[file.at.min(file.bytes.len())..]);
            match here.filter(|h| h.first == self.next) {
                Some(header) => self.take(file, &header),
                None => match block::find(&file.bytes, file.at + 1, self.next) {
                    Some((place, behind)) => self.hole(file, place, &behind)?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, file: &mut File, header: &block::Header) {
        file.segment.blocks.push(Place { first: header.first, at: file.at as u64 });
        file.at += header.len() as usize;
        self.next = header.end();
        if !header.gap {
            self.opened.previous = Some(Previous { boot: header.boot, last_seq: header.last() });
        }
    }

    /// Damage with the sound block `behind` it in the same file.
    fn hole(&mut self, file: &mut File, place: usize, behind: &block::Header) -> Result<(), OpenError> {
        let room = place - file.at;
        self.may_lose(file, behind.first, room >= block::HEADER)?;
        self.lose(file, behind.first, Previous { boot: behind.boot, last_seq: behind.before });
        self.write_gap(file, behind.first, (room - block::HEADER) as u32)
    }

    /// Damage up to the first offset of the next file.
    fn seam(&mut self, file: &mut File, following: Offset) -> Result<(), OpenError> {
        self.may_lose(file, following, following > self.next)?;
        let next = self.load(following)?;
        if let Some(previous) = segment::Header::read(&next.bytes).ok().and_then(|h| h.previous) {
            self.lose(file, following, previous);
        }
        self.write_gap(file, following, 0)
    }

    fn may_lose(&self, file: &File, to: Offset, mendable: bool) -> Result<(), OpenError> {
        if self.accept_gap && mendable {
            return Ok(());
        }
        Err(OpenError::Corrupt {
            file: file.name.clone(),
            at: file.at as u64,
            lost: to.0.saturating_sub(self.next.0),
        })
    }

    /// Notes the records that are lost before `to`, where numbering stood at `then`.
    fn lose(&mut self, file: &File, to: Offset, then: Previous) {
        let mut lost = |first: u64, Previous { boot, last_seq: last }| {
            if first <= last.0 {
                self.opened.lost.push(Lost {
                    file: file.name.clone(),
                    at: file.at as u64,
                    offsets: self.next..to,
                    boot,
                    first: Seq(first),
                    last,
                });
            }
        };
        match self.opened.previous.filter(|before| before.boot == then.boot) {
            Some(before) => lost(before.last_seq.0 + 1, then),
            None => lost(1, then),
        }
    }

    /// Writes a block that says what is lost, so that the next start finds the file whole.
    fn write_gap(&mut self, file: &mut File, to: Offset, payload: u32) -> Result<(), OpenError> {
        let previous = self.opened.previous;
        let header = block::Header {
            first: self.next,
            count: to.0 - self.next.0,
            boot: previous.map_or(crate::record::Boot(uuid::Uuid::nil()), |p| p.boot),
            before: previous.map_or(Seq(0), |p| p.last_seq),
            numbered: 0,
            gap: true,
            payload,
        };
        let mut bytes = [0; block::HEADER];
        header.seal(&mut bytes);
        let handle = &file.segment.file;
        handle.write_at(&bytes, file.at as u64).and_then(|()| handle.sync()).map_err(file.io())?;
        self.take(file, &header);
        Ok(())
    }

    fn tail(&mut self, file: &File) {
        self.opened.torn = torn(&file.name, &file.bytes, file.at);
    }

    /// Writes the last block once more, or the last segment's header when no block stands behind it.
    ///
    /// When the last boot ended with a failed fdatasync, the system may show bytes that never reached the
    /// disk and count them as written. Only what was written last can be such; after this it is durable or the start fails.
    fn make_the_end_durable(&self) -> Result<(), OpenError> {
        let Some(segment) = self.segments.back() else {
            return Ok(());
        };
        let io = |source| OpenError::Io { file: segment::name(segment.first), source };
        let at = segment.blocks.last().map_or(0, |last| last.at);
        let mut bytes = vec![0; (segment.bytes - at) as usize];
        segment.file.read_at(&mut bytes, at).map_err(io)?;
        segment.file.write_at(&bytes, at).and_then(|()| segment.file.sync()).map_err(io)?;
        self.storage.sync().map_err(io)
    }
}

fn torn(file: &str, bytes: &[u8], at: usize) -> Option<Torn> {
    let rest = bytes.get(at..)?;
    let written = rest.iter().rposition(|b| *b != 0)? + 1;
    Some(Torn { file: file.to_owned(), at: at as u64, bytes: written as u64 })
}

fn read_all(file: &dyn StorageFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
