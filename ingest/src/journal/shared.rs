//! What the handles of a journal and its writer share.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Entry, ReadError, block,
    catalog::Catalog,
    pin::Pins,
    queue::{Next, Queue},
    segment,
    storage::Storage,
};
use crate::log::Offset;

/// What handles and the writer share.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) catalog: Mutex<Catalog>,
    pub(super) pins: Pins,
    /// Gone with the last handle of the journal, so that nothing else keeps the folder locked.
    pub(super) storage: Weak<dyn Storage>,
    /// Held while segments are removed: two at once would take each other's.
    pub(super) removing: Mutex<()>,
    pub(super) next: watch::Sender<Offset>,
    pub(super) no_space: AtomicBool,
    pub(super) ended: CancellationToken,
}

impl Shared {
    pub(super) fn new(catalog: Catalog, storage: Weak<dyn Storage>) -> Self {
        Self {
            queue: Queue::new(),
            next: watch::Sender::new(catalog.next),
            catalog: Mutex::new(catalog),
            pins: Pins::default(),
            storage,
            removing: Mutex::default(),
            no_space: AtomicBool::new(false),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, from: Offset, max: usize) -> Result<Vec<Entry>, ReadError> {
        let mut at = from;
        loop {
            let extent = {
                let catalog = self.catalog();
                if at < catalog.first() {
                    return Err(ReadError::Released { first: catalog.first() });
                }
                catalog.extent(at, max as u64)
            };
            let Some(extent) = extent else {
                return Ok(Vec::new());
            };
            let bytes = extent.read().map_err(ReadError::Io)?;
            let stored = extent.records(&bytes).map_err(|rotten| ReadError::Corrupt {
                file: segment::name(rotten.segment),
                at: rotten.at,
            })?;
            let wanted = stored.into_iter().filter(|(offset, _)| *offset >= at).take(max);
            let records: Vec<_> = wanted.map(|(offset, bytes)| Entry::of(offset, bytes)).collect();
            if !records.is_empty() || max == 0 {
                return Ok(records);
            }
            at = extent.end();
        }
    }

    pub(super) fn publish(&self, header: &block::Header, at: u64) {
        self.catalog().push(header, at);
        self.next.send_replace(header.end());
    }

    pub(super) fn no_space(&self) -> bool {
        self.no_space.load(Ordering::Relaxed)
    }

    /// Sets it and returns what it was.
    pub(super) fn set_no_space(&self, full: bool) -> bool {
        self.no_space.swap(full, Ordering::Relaxed)
    }

    /// Ends the boot: whatever waits and whatever comes is refused.
    pub(super) fn end(&self) {
        self.queue.close();
        while let Next::Write(refused) = self.queue.take(u64::MAX, Duration::ZERO) {
            drop(refused);
        }
        self.ended.cancel();
    }
}
