//! A file to import: its bytes, decompressed as its first bytes tell, and what it is known by.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};

/// How much of a file's beginning tells it from another one that has its place.
const FINGERPRINT_BYTES: usize = 512;

/// What is read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// An open file or standard input.
pub(crate) struct Source {
    name: String,
    reader: Box<dyn BufRead>,
    position: Arc<AtomicU64>,
    size: Option<u64>,
    identity: Option<String>,
}

impl Source {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if name == "-" {
            return Self::new(name, Box::new(io::stdin().lock()), None, None);
        }
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        let meta = file.metadata().with_context(|| format!("cannot read {name}"))?;
        if meta.is_dir() {
            anyhow::bail!("{name} is a folder; name the files in it");
        }
        let identity = format!("{}-{}", meta.dev(), meta.ino());
        let size = meta.is_file().then(|| meta.size());
        Self::new(name, Box::new(file), size, meta.is_file().then_some(identity))
    }

    fn new(name: String, raw: Box<dyn Read>, size: Option<u64>, identity: Option<String>) -> Result<Self> {
        let position = Arc::new(AtomicU64::new(0));
        let mut raw =
            BufReader::with_capacity(BUFFER_BYTES, Counted { inner: raw, position: position.clone() });
        let head = raw.fill_buf().with_context(|| format!("cannot read {name}"))?;
        let identity = identity.map(|place| format!("{place}-{:016x}", fingerprint(head)));
        let reader: Box<dyn BufRead> = match head {
            [0x1f, 0x8b, ..] => Box::new(buffered(flate2::bufread::MultiGzDecoder::new(raw))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(buffered(zstd::Decoder::with_buffer(raw)?)),
            _ => Box::new(raw),
        };
        Ok(Self { name, reader, position, size, identity })
    }

    /// The next bytes, decompressed; empty at the end.
    ///
    /// # Errors
    /// When the file cannot be read or does not decompress.
    pub(crate) fn chunk(&mut self) -> Result<Vec<u8>> {
        let bytes = self.reader.fill_buf().with_context(|| format!("cannot read {}", self.name))?.to_vec();
        self.reader.consume(bytes.len());
        Ok(bytes)
    }

    /// How many bytes of the file were read.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// How many bytes the file has.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// What the file is known by when it has another name; nothing for standard input.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }
}

/// FNV-1a of the first bytes: a log file that was rotated in place begins with another event.
fn fingerprint(head: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    head.iter().take(FINGERPRINT_BYTES).fold(0xcbf2_9ce4_8422_2325, step)
}

fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(BUFFER_BYTES, reader)
}

/// Counts what passes.
struct Counted {
    inner: Box<dyn Read>,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
