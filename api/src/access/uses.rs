//! The way of the records of uses into the journal.
//!
//! A read does not wait for the disk: its record is queued, and what comes within a moment shares a sync. What changes
//! something has room in the journal before it begins, and its record is on the disk before its answer goes. When the
//! journal takes nothing for so long that the queue is full, uses are counted, and the count is recorded as soon as
//! there is room: none is missing silently.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ingest::{
    event::EventView,
    identity,
    journal::{AppendError, Hold, Journal},
    pipeline::{CLUSTER, Fact},
    record::{Draft, Kind},
    redact::Redactor,
    time::{Clock, Timestamp},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::used::MAX_USE_BYTES;
use crate::errors::chain;

/// Records that wait for the journal: what is used within some seconds by all who may call at once.
const MAX_QUEUED: usize = 1_024;

/// How long a use waits for a place in the queue before it is only counted.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// How long records of reads are gathered for one sync.
const GATHER: Duration = Duration::from_millis(100);

/// Between two tries while the journal has no room.
const RETRY: Duration = Duration::from_secs(1);

/// Records uses. Clones are handles of the same.
#[derive(Clone)]
pub struct Uses {
    journal: Journal,
    redactor: watch::Receiver<Arc<Redactor>>,
    clock: Clock,
    queue: mpsc::Sender<Draft>,
    unrecorded: Arc<AtomicU64>,
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uses")
    }
}

impl Uses {
    /// Records into a journal, redacted by the rules in force. What is queued is for the writer to write.
    pub fn new(
        journal: Journal,
        redactor: watch::Receiver<Arc<Redactor>>,
        clock: Clock,
    ) -> (Self, UseWriter) {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let unrecorded = Arc::new(AtomicU64::new(0));
        let writer = UseWriter {
            journal: journal.clone(),
            clock: clock.clone(),
            queued,
            unrecorded: unrecorded.clone(),
            since: clock.now(),
        };
        (Self { journal, redactor, clock, queue, unrecorded }, writer)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Promises room for the record of something that is about to be changed.
    pub(super) fn hold(&self) -> Result<Hold, AppendError> {
        self.journal.hold(1, MAX_USE_BYTES)
    }

    /// Records a change, and returns when that is on the disk.
    pub(super) async fn record(&self, json: &[u8], at: Timestamp, mut room: Hold) -> Result<(), AppendError> {
        room.submit(vec![self.draft(json, at)]).await?.durable().await.map(drop)
    }

    /// Queues the record of a read.
    pub(super) async fn queue(&self, json: &[u8], at: Timestamp) {
        if self.queue.send_timeout(self.draft(json, at), QUEUE_WAIT).await.is_err() {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for a use whose caller has gone: nothing is waited for.
    pub(super) fn queue_now(&self, json: &[u8], at: Timestamp) {
        if self.queue.try_send(self.draft(json, at)).is_err() {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn draft(&self, json: &[u8], at: Timestamp) -> Draft {
        let redactor = self.redactor.borrow().clone();
        let (bytes, redactions) = match EventView::parse(json) {
            Ok(view) => {
                let redacted = redactor.redact(&view);
                (Bytes::from(redacted.bytes.into_owned()), redacted.count)
            }
            // A record of ours reads; were it not to, what it holds must not reach a disk.
            Err(_) => (Bytes::new(), 0),
        };
        Draft {
            id: identity::own_id(at),
            cluster: CLUSTER.into(),
            kind: Kind::Access,
            at,
            rules: redactor.hash().clone(),
            redactions,
            event: bytes,
        }
    }
}

/// Brings what is queued into the journal.
#[derive(Debug)]
pub struct UseWriter {
    journal: Journal,
    clock: Clock,
    queued: mpsc::Receiver<Draft>,
    unrecorded: Arc<AtomicU64>,
    /// When the last count was recorded.
    since: Timestamp,
}

impl UseWriter {
    /// Writes until `stop`, and then what is queued still.
    pub async fn run(mut self, stop: &CancellationToken) {
        loop {
            let first = stop.run_until_cancelled(self.queued.recv()).await;
            let mut drafts: Vec<Draft> = match first {
                Some(Some(draft)) => vec![draft],
                Some(None) | None => Vec::new(),
            };
            let is_over =
                drafts.is_empty() || stop.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_none();
            while drafts.len() < MAX_QUEUED
                && let Ok(draft) = self.queued.try_recv()
            {
                drafts.push(draft);
            }
            self.append(drafts, stop).await;
            if is_over {
                return;
            }
        }
    }

    /// Tries until there is room, and once more after the stop.
    async fn append(&mut self, mut drafts: Vec<Draft>, stop: &CancellationToken) {
        let count = self.unrecorded.swap(0, Ordering::Relaxed);
        if count > 0 {
            let since = std::mem::replace(&mut self.since, self.clock.now());
            drafts.push(Fact::UsesUnrecorded { count, since }.draft(&self.clock));
        }
        let mut is_said = false;
        while !drafts.is_empty() {
            let Err(error) = self.journal.append(drafts.clone()).await else { return };
            if !is_said {
                is_said = true;
                tracing::warn!(error = chain(&error), "uses of the interface wait to be recorded");
            }
            if error == AppendError::Ended || stop.is_cancelled() {
                tracing::error!(
                    uses = drafts.len(),
                    "uses of the interface were not recorded before the stop"
                );
                return;
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
        }
    }
}
