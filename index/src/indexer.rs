//! Reads the log into the index: every partition, in a consumer group of its own.
//!
//! The position that counts is the index's own: it is written after all changed days are committed. What was
//! added after it is read again after a crash, and replaces itself.
//!
//! What the log lost before it was read here may be in the ledger. The commit that passes such a range says in the
//! same file that the index lacks it, so that it is made anew from the ledger now or after a restart.

mod pace;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ingest::log::{
    Delivery, Log, LogError, LogId, Offset, Partition, Polled, Positions, Reader, Subscription,
};
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use crate::{Index, IndexError, lacking::Lacking, metrics, standing::Standing};

/// Entries of one poll: some megabytes, and several polls per commit.
const MAX_POLL: usize = 2_000;

/// How long a poll waits for something to arrive.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// Bytes of events between two commits. With 64 MiB and five seconds between commits of a backlog an import took 15 %
/// less processor time than with 32 MiB and two.
const MAX_UNCOMMITTED_BYTES: usize = 64 * 1024 * 1024;

/// The waits between tries when log or index fail.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// Keeps one index up with one log.
#[derive(Debug)]
pub struct Indexer {
    log: Arc<dyn Log>,
    index: Index,
    group: String,
}

/// Why one run of reading ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Indexer {
    /// The name under which the positions of the indexer `name` are published.
    pub fn group(name: &str) -> String {
        format!("muniment-indexer-{name}")
    }

    /// An indexer that is called `name`: the same at every start, and its own for each replica.
    pub fn new(log: Arc<dyn Log>, index: Index, name: &str) -> Self {
        Self { log, index, group: Self::group(name) }
    }

    /// Indexes until it is cancelled; then commits what it has. Failures are waited out and reported.
    pub async fn run(self, cancel: CancellationToken) {
        self.index.0.is_fed.store(true, Ordering::Release);
        let mut wait = RETRY_FIRST;
        while !cancel.is_cancelled() {
            let started = Instant::now();
            if let Err(fault) = self.read(&cancel).await {
                if started.elapsed() > RETRY_LAST {
                    wait = RETRY_FIRST;
                }
                tracing::warn!(
                    error = &fault as &dyn std::error::Error,
                    retry_in = ?wait,
                    "indexing stopped and will go on at its last commit"
                );
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = cancel.cancelled() => {}
                }
                wait = (wait * 2).min(RETRY_LAST);
            }
        }
        self.index.0.is_fed.store(false, Ordering::Release);
    }

    async fn read(&self, cancel: &CancellationToken) -> Result<(), Fault> {
        let id = self.log.id().await?;
        let subscription = self.log.subscribe(Reader::Whole { group: self.group.clone() }).await?;
        let mut reading = Reading::begin(subscription, self.index.clone(), id);
        loop {
            let polled = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                polled = reading.subscription.poll(MAX_POLL, POLL_WAIT) => polled?,
            };
            reading.take(polled).await?;
        }
        reading.commit().await?;
        Ok(())
    }
}

/// One run of reading.
struct Reading {
    subscription: Box<dyn Subscription>,
    index: Index,
    log: LogId,
    positions: Positions,
    pace: Pace,
    /// What the next commit says that the index lacks.
    lacking: Option<Lacking>,
    /// Where reading begins, or what is lacking, is not written yet: it is as soon as the log has told all of it.
    is_unsettled: bool,
}

impl Reading {
    /// Begins where the index is, or at the start of a log that it has not seen.
    fn begin(subscription: Box<dyn Subscription>, index: Index, log: LogId) -> Self {
        let Standing { log: known, positions, .. } = index.standing();
        let mut reading = Self {
            subscription,
            index,
            positions: Positions::new(),
            pace: Pace::default(),
            lacking: None,
            is_unsettled: known.is_none(),
            log,
        };
        match known {
            Some(known) if known == reading.log => reading.positions = positions,
            Some(known) => reading.lacks(Lacking::Log {
                reason: format!("{known} was replaced by {} while nothing was indexed", reading.log),
            }),
            None => {}
        }
        reading
    }

    async fn take(&mut self, polled: Polled) -> Result<(), Fault> {
        // A log tells what it lost before it gives what follows.
        let is_settled = matches!(polled, Polled::Batch(_) | Polled::Idle);
        match polled {
            Polled::Batch(deliveries) => self.add(deliveries).await?,
            Polled::Idle => self.pace.behind(false),
            Polled::Assigned(partitions) => {
                let at = |partition: &Partition| {
                    (*partition, self.positions.get(partition).copied().unwrap_or_default())
                };
                self.subscription.start(&partitions.iter().map(at).collect()).await?;
            }
            Polled::Revoked(_) => {}
            Polled::Lost { partition, from, to, reason } => {
                metrics::lost();
                self.lacks(Lacking::Range {
                    reason: format!("offsets {} to {} of partition {partition}: {reason}", from.0, to.0),
                });
                self.pass(partition, to);
            }
            Polled::Renewed { id, reason, .. } => {
                metrics::lost();
                self.commit().await?;
                self.log = id;
                self.positions.clear();
                self.lacks(Lacking::Log { reason });
            }
        }
        if self.is_due() || self.is_unsettled && is_settled {
            self.commit().await?;
        }
        Ok(())
    }

    async fn add(&mut self, deliveries: Vec<Delivery>) -> Result<(), Fault> {
        self.pace.behind(deliveries.len() >= MAX_POLL / 2);
        let mut records = Vec::with_capacity(deliveries.len());
        for Delivery { partition, offset, record } in deliveries {
            self.pass(partition, Offset(offset.0 + 1));
            // The recorder puts what is no record aside, with its reason.
            records.extend(record.ok());
        }
        let count = records.len();
        self.index.prepare(&records).await?;
        self.index.clone().blocking(move |index| index.add(&records)).await?;
        metrics::added(count);
        Ok(())
    }

    /// Notes what the index lacks from now on. It is nothing new where it lacks something already.
    fn lacks(&mut self, what: Lacking) {
        if self.lacking.is_none() && self.index.standing().lacking.is_none() {
            tracing::warn!("{what}");
        } else {
            tracing::debug!("{what}");
        }
        self.lacking.get_or_insert(what);
        self.is_unsettled = true;
    }

    /// Notes that everything before `to` has been dealt with.
    fn pass(&mut self, partition: Partition, to: Offset) {
        self.positions.insert(partition, to);
        self.pace.added(Instant::now());
    }

    fn is_due(&self) -> bool {
        self.pace.is_due(Instant::now()) || self.index.uncommitted_bytes() >= MAX_UNCOMMITTED_BYTES
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        if !self.pace.begin() && !self.is_unsettled {
            return Ok(());
        }
        let started = Instant::now();
        let standing = Standing {
            lacking: self.lacking.take(),
            ..Standing::at(self.log.clone(), self.positions.clone())
        };
        self.is_unsettled = false;
        self.index.clone().blocking(move |index| index.commit(&standing)).await?;
        let took = started.elapsed();
        self.pace.done(took);
        metrics::committed(took);
        if let Err(fault) = self.subscription.publish(&self.positions).await {
            // The index holds the position that counts; the log is only told what it may forget.
            tracing::debug!(%fault, "the indexer's position was not published");
        }
        Ok(())
    }
}
