//! Audit events in a file, one a line, which is rotated by size as kube-apiserver rotates its own.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::IgnoredAny;
use tracing::warn;

use super::{Bounds, DeliveryError, Output, rotation::Names};
use crate::{record::MAX_EVENT_BYTES, replace::sync_folder, time::Clock};

/// Bytes that are written and synced together at the most.
const MAX_BATCH_BYTES: u64 = 1 << 20;

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Where it is. Its folder is made when it is missing, mode 0700; the file has mode 0600.
    pub path: PathBuf,
    /// Bytes after which it is rotated; 0 for never. A single event that is longer has a file of its own.
    pub max_bytes: u64,
    /// Days that rotated files are kept; 0 for ever.
    pub max_age_days: u32,
    /// Rotated files that are kept; 0 for all.
    pub max_backups: u32,
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {} cannot be written", path.display())]
pub struct OpenFileError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A file of audit events. Clones are handles of the same.
///
/// One process writes a file at a time. A line that the last one did not end is cut; its event is given again. When
/// somebody else moves or removes the file, a new one is made.
#[derive(Clone, Debug)]
pub struct AuditFile {
    writer: Arc<Mutex<Writer>>,
    bounds: Bounds,
}

#[derive(Debug)]
struct Writer {
    options: FileOptions,
    names: Names,
    clock: Clock,
    /// Nothing after a failure: the next try finds out how the file is.
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    file: File,
    /// What was written whole; nothing for a pipe or a device, which is neither cut nor rotated.
    bytes: Option<u64>,
}

impl AuditFile {
    /// Opens the file, or makes it.
    ///
    /// Call it where blocking is allowed.
    ///
    /// # Errors
    /// When it cannot be written, or another process writes it.
    pub fn open(options: FileOptions, clock: Clock) -> Result<Self, OpenFileError> {
        let (path, max) = (options.path.clone(), options.max_bytes);
        let mut writer = Writer { names: Names::of(&path), options, clock, active: None };
        writer.active().map_err(|source| OpenFileError { path, source })?;
        writer.prune();
        let bytes = if max == 0 { MAX_BATCH_BYTES } else { max.min(MAX_BATCH_BYTES) };
        let bounds = Bounds { events: 1000, bytes: bytes as usize };
        Ok(Self { writer: Arc::new(Mutex::new(writer)), bounds })
    }

    /// Adds events, all or none, and returns when they are on the disk.
    pub(crate) async fn append(&self, events: &[Bytes]) -> io::Result<()> {
        let (writer, lines) = (self.writer.clone(), lines(events));
        let append = move || writer.lock().unwrap_or_else(PoisonError::into_inner).append(&lines);
        tokio::task::spawn_blocking(append).await.map_err(io::Error::other).flatten()
    }
}

#[async_trait]
impl Output for AuditFile {
    fn bounds(&self) -> Bounds {
        self.bounds
    }

    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError> {
        self.append(events).await.map_err(|e| DeliveryError::Unavailable(e.into()))
    }
}

/// Each event on a line.
pub(super) fn lines(events: &[Bytes]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(events.iter().map(|e| e.len() + 1).sum());
    for event in events {
        lines.extend_from_slice(event);
        lines.push(b'\n');
    }
    lines
}

impl Writer {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.try_append(lines);
        if written.is_err() {
            self.active = None;
        }
        written
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (path, max) = (self.options.path.clone(), self.options.max_bytes);
        if self.active.as_ref().is_some_and(|active| !active.is_at(&path)) {
            self.active = None;
        }
        let is_over = |bytes: u64| max > 0 && bytes > 0 && bytes + lines.len() as u64 > max;
        if self.active()?.bytes.is_some_and(is_over) {
            self.rotate()?;
        }
        self.active()?.append(lines)
    }

    fn active(&mut self) -> io::Result<&mut Active> {
        match &mut self.active {
            Some(active) => Ok(active),
            none => Ok(none.insert(Active::open(&self.options.path)?)),
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.active = None;
        self.names.rotate(&self.options.path, self.clock.now())?;
        self.active()?;
        self.prune();
        Ok(())
    }

    fn prune(&self) {
        self.names.prune(self.options.max_backups, self.options.max_age_days, self.clock.now());
    }
}

impl Active {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Self { file, bytes: None });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process writes it")),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let bytes = Some(mend(&file, path)?);
        sync_folder(path)?;
        Ok(Self { file, bytes })
    }

    /// Whether the path still leads to it.
    fn is_at(&self, path: &Path) -> bool {
        let (Ok(own), Ok(there)) = (self.file.metadata(), fs::metadata(path)) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines);
        let Some(bytes) = self.bytes else { return written };
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Otherwise each try would leave a part of the same lines. The next open mends what this cannot.
            if let Err(error) = self.file.set_len(bytes) {
                warn!(%error, "the audit log may hold a part of a line for now");
            }
            return Err(error);
        }
        self.bytes = Some(bytes + lines.len() as u64);
        Ok(())
    }
}

/// Cuts a line that has no end, or ends it where it is a whole object; returns how long the file is then.
fn mend(mut file: &File, path: &Path) -> io::Result<u64> {
    let len = file.metadata()?.len();
    // No event is longer: more without a line end was not written here, and is left as it is.
    let from = len.saturating_sub(MAX_EVENT_BYTES as u64 + 1);
    let from = match last_line_end(file, len, from)? {
        Some(end) if end + 1 == len => return Ok(len),
        Some(end) => end + 1,
        None if from > 0 || len == 0 => return Ok(len),
        None => 0,
    };
    let mut tail = vec![0; (len - from) as usize];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut tail)?;
    if serde_json::from_slice::<IgnoredAny>(&tail).is_ok() {
        file.write_all(b"\n")?;
        return Ok(len + 1);
    }
    warn!(file = %path.display(), bytes = tail.len(), "cut a line that was not written to its end");
    file.set_len(from)?;
    Ok(from)
}

/// Where the last line ends that ends at or behind `from`.
fn last_line_end(mut file: &File, len: u64, from: u64) -> io::Result<Option<u64>> {
    let mut end = len;
    while end > from {
        let start = end.saturating_sub(64 * 1024).max(from);
        let mut part = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut part)?;
        if let Some(at) = memchr::memrchr(b'\n', &part) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
