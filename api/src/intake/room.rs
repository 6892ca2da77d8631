//! The memory that bodies take while they are read: one amount, which all of them share.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::errors::ApiError;

/// What is counted at a time: the number of units of any amount fits a permit's count.
const UNIT_BYTES: usize = 1024;

/// How long a body waits for others to be journaled before it is sent away: that takes milliseconds, unless the disk
/// or too many senders are the trouble.
const WAIT: Duration = Duration::from_secs(5);

/// Memory for bodies. Clones are handles of the same.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// What one body holds of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// A place that holds nothing yet.
    pub(super) fn place(&self) -> Place {
        Place { room: self.0.clone(), held: None }
    }
}

impl Place {
    /// Holds this many bytes from now on, when there is room at once.
    pub(super) fn try_hold(&mut self, bytes: usize) -> bool {
        let Some(more) = self.shrink(bytes) else { return true };
        match self.room.clone().try_acquire_many_owned(more) {
            Ok(permit) => {
                self.grow(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// Holds this many bytes from now on.
    ///
    /// # Errors
    /// When there is no room for some seconds: the sender is to come again.
    pub(super) async fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        let Some(more) = self.shrink(bytes) else { return Ok(()) };
        let acquired = tokio::time::timeout(WAIT, self.room.clone().acquire_many_owned(more)).await;
        let permit = acquired.ok().and_then(Result::ok).ok_or_else(|| {
            ApiError::too_much("busy", "the bodies that are being read take all the memory that they may")
        })?;
        self.grow(permit);
        Ok(())
    }

    fn grow(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
    }

    /// Gives back what is more than needed, or tells how many units are missing.
    fn shrink(&mut self, bytes: usize) -> Option<u32> {
        let wanted = bytes.div_ceil(UNIT_BYTES);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(permit) = &mut self.held {
            drop(permit.split(held.saturating_sub(wanted)));
        }
        let missing = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        (missing > 0).then_some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn what_one_body_gives_back_another_may_hold() {
        let room = Room::new(10 * KIB);
        let (mut one, mut two) = (room.place(), room.place());
        assert!(one.try_hold(6 * KIB) && one.try_hold(8 * KIB));
        assert!(!two.try_hold(3 * KIB));
        assert!(one.try_hold(7 * KIB) && two.try_hold(3 * KIB));
        assert!(one.try_hold(0) && two.try_hold(10 * KIB));
        drop(two);
        assert!(one.try_hold(10 * KIB));
    }
}
