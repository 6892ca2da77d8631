//! The end of the journal on disk: the segment that is written, and how the next one comes to be.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    Shared,
    catalog::Segment,
    segment,
    storage::{Storage, StorageFile},
};

/// How much room must be there before a full disk counts as mended.
const PROBE_BYTES: usize = 64 * 1024;

/// Why a block was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// There is no room, and everything is as it was before.
    NoSpace,
    /// What is on disk is unknown: the boot ends.
    Failed(io::Error),
}

/// Where blocks go.
pub(super) struct Tail {
    storage: Arc<dyn Storage>,
    shared: Arc<Shared>,
    /// How long a segment gets, unless one block is longer.
    segment_bytes: u64,
    active: Option<Active>,
}

/// The segment that is written.
struct Active {
    file: Arc<dyn StorageFile>,
    /// Where the next block goes.
    at: u64,
}

impl Tail {
    /// Goes on behind what `shared` holds: in its last segment when there is no block in it yet, else in a new one.
    pub(super) fn new(storage: Arc<dyn Storage>, shared: Arc<Shared>, segment_bytes: u64) -> Self {
        let unused = shared.catalog().unused();
        let active = unused.map(|file| {
            // Without the space in advance it grows as it is written, and a full disk shows then.
            if let Err(e) = file.reserve(segment_bytes) {
                warn!(error = %e, "space for the journal's segment cannot be reserved");
            }
            Active { file, at: segment::HEADER as u64 }
        });
        Self { storage, shared, segment_bytes, active }
    }

    /// Writes the block behind the last one and syncs it; returns where it stands and how long the sync took.
    /// `header` is the next segment's, should it begin with this block.
    pub(super) fn write(
        &mut self,
        block: &[u8],
        header: segment::Header,
    ) -> Result<(u64, Duration), WriteError> {
        let len = block.len() as u64;
        let most = self.segment_bytes;
        if self.active.as_ref().is_some_and(|a| a.at > segment::HEADER as u64 && a.at + len > most) {
            self.seal();
        }
        let active = self.active(header)?;
        active.file.write_at(block, active.at).map_err(|e| active.take_back(e))?;
        let started = Instant::now();
        active.file.sync().map_err(WriteError::Failed)?;
        let at = active.at;
        active.at += len;
        Ok((at, started.elapsed()))
    }

    /// Looks whether there is room.
    pub(super) fn probe(&mut self, header: segment::Header) -> Result<(), WriteError> {
        let active = self.active(header)?;
        active.file.write_at(&[0; PROBE_BYTES], active.at).map_err(|e| active.take_back(e))?;
        active.file.truncate(active.at).map_err(WriteError::Failed)
    }

    /// Gives back the reserved space behind the last block; what comes next begins a segment.
    pub(super) fn seal(&mut self) {
        if let Some(active) = self.active.take()
            && let Err(e) = active.file.truncate(active.at)
        {
            warn!(error = %e, "a full journal segment keeps its reserved space");
        }
    }

    fn active(&mut self, header: segment::Header) -> Result<&mut Active, WriteError> {
        match &mut self.active {
            Some(active) => Ok(active),
            none => {
                let file = create(&*self.storage, header, self.segment_bytes)?;
                self.shared.catalog().segments.push_back(Segment::empty(header.first, file.clone()));
                Ok(none.insert(Active { file, at: segment::HEADER as u64 }))
            }
        }
    }
}

impl Active {
    /// Undoes a write that failed.
    fn take_back(&self, failure: io::Error) -> WriteError {
        match self.file.truncate(self.at) {
            Ok(()) if is_no_space(&failure) => WriteError::NoSpace,
            _ => WriteError::Failed(failure),
        }
    }
}

/// Makes a segment, durable before anything is written to it.
fn create(
    storage: &dyn Storage,
    header: segment::Header,
    bytes: u64,
) -> Result<Arc<dyn StorageFile>, WriteError> {
    let name = segment::name(header.first);
    let make = || {
        let file = storage.create(&name)?;
        file.reserve(bytes)?;
        file.write_at(&header.encode(), 0)?;
        Ok(file)
    };
    let file = make().map_err(|e: io::Error| {
        // A half-made segment holds nothing; a start would remove it, too.
        let _ = storage.remove(&name);
        if is_no_space(&e) { WriteError::NoSpace } else { WriteError::Failed(e) }
    })?;
    file.sync().and_then(|()| storage.sync()).map_err(WriteError::Failed)?;
    Ok(file)
}

fn is_no_space(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
