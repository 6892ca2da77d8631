//! Days that may be open for writing at once: one number for the index in use and the one that is being made.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::IndexError;

/// What is left of the number. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Semaphore>);

/// One day may be open for as long as this is held.
#[derive(Debug)]
pub(crate) struct Slot(
    #[allow(dead_code, reason = "it is held, and given back when dropped")] OwnedSemaphorePermit,
);

impl Slots {
    pub(crate) fn new(days: usize) -> Self {
        Self(Arc::new(Semaphore::new(days)))
    }

    /// Takes one. Nothing waits for one: the writers keep to shares that make up the whole, and who gives one back
    /// would wait for the same lock.
    ///
    /// # Errors
    /// When none is left.
    pub(crate) fn take(&self) -> Result<Slot, IndexError> {
        self.0.clone().try_acquire_owned().map(Slot).map_err(|_| IndexError::ManyDaysOpen)
    }
}
