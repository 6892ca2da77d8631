//! Appends that wait for the writer: bounded, in order, each answered once.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{AppendError, Receipt};
use crate::record::{Draft, Record};

/// Most bytes that wait for the writer; who comes later waits to be let in. A few group commits' worth.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// What one permit stands for. Every append takes at least one, so this bounds the number of appends, too.
const PERMIT_BYTES: usize = 4 * 1024;

/// What is to be journaled.
pub(super) enum Items {
    /// To be numbered here.
    Drafts(Vec<Draft>),
    /// Numbered elsewhere and kept as they are.
    Records(Vec<Record>),
}

impl Items {
    /// How many they are.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Drafts(drafts) => drafts.len(),
            Self::Records(records) => records.len(),
        }
    }
}

/// One append that waits.
pub(super) struct Pending {
    pub(super) items: Items,
    /// About how many bytes they take in a segment.
    pub(super) bytes: u64,
    pub(super) answer: oneshot::Sender<Result<Receipt, AppendError>>,
    _room: OwnedSemaphorePermit,
}

/// What the writer is to do next.
pub(super) enum Next {
    /// Write these.
    Write(Vec<Pending>),
    /// Nothing came within the time given.
    Idle,
    /// No more will come.
    Closed,
}

/// A queue in front of one writer.
pub(super) struct Queue {
    room: Arc<Semaphore>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Bytes in `waiting` and with the writer.
    bytes: u64,
    /// Bytes that are promised to records that are yet to come.
    reserved: u64,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        let room = Arc::new(Semaphore::new(MAX_QUEUED_BYTES / PERMIT_BYTES));
        Self { room, state: Mutex::default(), arrived: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were let in and are not answered yet, and those that are promised.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        state.bytes + state.reserved
    }

    /// Promises room for records that are yet to come, unless that would make more than `limit` bytes.
    pub(super) fn reserve(&self, bytes: u64, limit: impl Fn() -> u64) -> Result<(), AppendError> {
        let mut state = self.state();
        if state.closed {
            return Err(AppendError::Ended);
        }
        if state.bytes + state.reserved + bytes > limit() {
            return Err(AppendError::Full);
        }
        state.reserved += bytes;
        Ok(())
    }

    /// Takes a promise back.
    pub(super) fn unreserve(&self, bytes: u64) {
        self.state().reserved -= bytes;
    }

    /// Waits for its turn, then queues the records, of which `held` bytes were promised and no longer are. What was not
    /// promised must not make more than `limit` bytes wait.
    pub(super) async fn push(
        &self,
        items: Items,
        bytes: u64,
        held: u64,
        limit: impl Fn() -> u64,
    ) -> Result<oneshot::Receiver<Result<Receipt, AppendError>>, AppendError> {
        let permits = (bytes as usize).div_ceil(PERMIT_BYTES).clamp(1, MAX_QUEUED_BYTES / PERMIT_BYTES);
        let room = self.room.clone().acquire_many_owned(permits as u32).await;
        let room = room.map_err(|_| AppendError::Ended)?;
        let (answer, answered) = oneshot::channel();
        let mut state = self.state();
        if state.closed {
            return Err(AppendError::Ended);
        }
        if held < bytes && state.bytes + state.reserved + bytes - held > limit() {
            return Err(AppendError::Full);
        }
        state.reserved -= held;
        state.bytes += bytes;
        state.waiting.push_back(Pending { items, bytes, answer, _room: room });
        drop(state);
        self.arrived.notify_one();
        Ok(answered)
    }

    /// Waits for at most `wait`, then takes what waits, up to about `most` bytes.
    pub(super) fn take(&self, most: u64, wait: Duration) -> Next {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.arrived.wait_timeout_while(self.state(), wait, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return if state.closed { Next::Closed } else { Next::Idle };
        }
        let mut bytes = 0;
        let fits = |p: &&Pending| {
            let fits = bytes == 0 || bytes + p.bytes <= most;
            bytes += p.bytes;
            fits
        };
        let count = state.waiting.iter().take_while(fits).count();
        Next::Write(state.waiting.drain(..count).collect())
    }

    /// Says that `bytes` of what was taken are answered.
    pub(super) fn done(&self, bytes: u64) {
        self.state().bytes -= bytes;
    }

    /// Lets nothing more in. What waits is still given to the writer.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }
}
