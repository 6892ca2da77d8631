//! One subscription: what is read becomes batches, one of which is applied while the next is filled.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{BACKOFF, Ended, Passing, Patient, Recorder, Status, pending::Pending};
use crate::{
    ledger::{Applied, Batch, Gap, Ledger, LedgerError},
    log::{Delivery, LogError, LogId, Offset, Partition, Poison, Polled, Positions, Subscription},
    metrics,
    pipeline::Fact,
    retry::Backoff,
};

/// How long a poll waits when there is nothing to do meanwhile. It ends at once when something arrives, when a batch
/// is applied, and on shutdown.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Session<'a> {
    recorder: &'a Recorder,
    cancel: &'a CancellationToken,
    subscription: Box<dyn Subscription>,
    log: LogId,
    /// The partitions that are ours, and where each is after everything that was read.
    read: Positions,
    pending: Pending,
    applying: Option<JoinHandle<Result<Outcome, Ended>>>,
    backoff: Backoff,
}

/// A batch and what became of it; nothing when it was fenced.
struct Outcome {
    batch: Batch,
    applied: Option<Applied>,
    took: Duration,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        recorder: &'a Recorder,
        cancel: &'a CancellationToken,
        subscription: Box<dyn Subscription>,
        log: LogId,
    ) -> Self {
        Self {
            recorder,
            cancel,
            subscription,
            log,
            read: Positions::new(),
            pending: Pending::new(&recorder.options),
            applying: None,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Ended> {
        self.follow_log().await?;
        loop {
            let (room, wait) = (self.pending.room(), self.wait());
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                outcome = finished(&mut self.applying) => self.finish(outcome?).await?,
                polled = self.subscription.poll(room, wait), if room > 0 => self.handle(polled).await?,
            }
            if self.applying.is_none() && self.pending.is_due() {
                self.begin_to_apply();
            }
        }
        self.drain().await
    }

    /// While a batch is applied there is no hurry with the next.
    fn wait(&self) -> Duration {
        if self.applying.is_some() || self.pending.is_empty() { IDLE } else { self.pending.wait() }
    }

    async fn handle(&mut self, polled: Result<Polled, LogError>) -> Result<(), Ended> {
        let polled = match polled {
            Ok(polled) => polled,
            Err(error) if error.passes() => return self.patient().pause(error, &mut self.backoff).await,
            Err(error) => return Err(error.ended()),
        };
        self.backoff.reset();
        self.patient().is_there::<LogError>();
        match polled {
            Polled::Idle => Ok(()),
            Polled::Batch(deliveries) => self.take_all(deliveries).await,
            Polled::Assigned(partitions) => self.assigned(&partitions).await,
            Polled::Revoked(partitions) => self.revoked(&partitions).await,
            Polled::Lost { partition, from, to, reason } => {
                self.lost(partition, from, to, reason);
                Ok(())
            }
            Polled::Renewed { id, reason, .. } => self.renewed(id, &reason).await,
        }
    }

    async fn take_all(&mut self, deliveries: Vec<Delivery>) -> Result<(), Ended> {
        for Delivery { partition, offset, record } in deliveries {
            // What is not ours, and what was read before, is another's or a repetition.
            let Some(&at) = self.read.get(&partition).filter(|at| **at <= offset) else { continue };
            match record {
                Ok(record) => self.pending.add_record(record),
                Err(poison) => self.set_aside(partition, offset, &poison).await?,
            }
            self.advance(partition, at, Offset(offset.0 + 1));
        }
        Ok(())
    }

    fn advance(&mut self, partition: Partition, from: Offset, to: Offset) {
        self.pending.add_move(partition, from, to);
        self.read.insert(partition, to);
    }

    /// The position moves past the entry only when the entry is safe elsewhere.
    async fn set_aside(
        &mut self,
        partition: Partition,
        offset: Offset,
        poison: &Poison,
    ) -> Result<(), Ended> {
        let log = &self.recorder.log;
        self.patient().until_done(|| log.set_aside(partition, offset, poison)).await?;
        tracing::error!(partition, offset = offset.0, reason = %poison.reason, "set an entry of the log aside: it is no record");
        metrics::set_aside();
        let reason = format!("{}: {}", Gap::SET_ASIDE, poison.reason);
        self.add_gap(partition, offset.0, offset.0, reason);
        Ok(())
    }

    fn add_gap(&mut self, partition: Partition, first: u64, last: u64, reason: String) {
        metrics::gap();
        let at = self.recorder.clock.now();
        let partition = Some(partition);
        self.pending.add_gap(Gap { source: None, boot: None, first, last, partition, reason, at });
    }

    async fn assigned(&mut self, partitions: &[Partition]) -> Result<(), Ended> {
        tracing::info!(?partitions, "recorder takes partitions");
        self.drain().await?;
        self.read.extend(partitions.iter().map(|&partition| (partition, Offset::default())));
        self.resume().await
    }

    async fn revoked(&mut self, partitions: &[Partition]) -> Result<(), Ended> {
        tracing::info!(?partitions, "recorder gives partitions up");
        self.drain().await?;
        self.read.retain(|partition, _| !partitions.contains(partition));
        self.recorder.status.send_modify(|status| status.positions.retain(|p, _| !partitions.contains(p)));
        // The pending batch may hold records of what was given up: it is read anew, without them.
        if self.pending.is_empty() { Ok(()) } else { self.resume().await }
    }

    fn lost(&mut self, partition: Partition, from: Offset, to: Offset, reason: String) {
        let Some(&at) = self.read.get(&partition) else { return };
        tracing::error!(partition, from = from.0, to = to.0, reason, "a range of the log is lost");
        let (first, end) = (from.min(to).0, from.max(to).0);
        if first < end {
            self.add_gap(partition, first, end - 1, reason);
        }
        self.advance(partition, at, to);
    }

    async fn renewed(&mut self, id: LogId, reason: &str) -> Result<(), Ended> {
        tracing::error!(former = %self.log, log = %id, reason, "the log was made anew");
        self.drain().await?;
        self.pending.take();
        self.read.clear();
        self.log = id;
        self.recorder.status.send_modify(|status| status.positions.clear());
        self.follow_log().await
    }

    /// Records that the end of a log that is there no more was not read, once, before anything of the new one. A log
    /// that another process still records from is waited for.
    async fn follow_log(&mut self) -> Result<(), Ended> {
        let (patient, ledger) = (self.patient(), &self.recorder.ledger);
        patient.until_done(|| ledger.follow(&self.log)).await?;
        let former = patient.until_done(|| ledger.current_log()).await?;
        let Some(former) = former.filter(|former| *former != self.log) else { return Ok(()) };
        let positions = patient.until_done(|| ledger.positions(&former)).await?;
        let at = self.recorder.clock.now();
        let gap = |(partition, next): (Partition, Offset)| Gap {
            source: None,
            boot: None,
            first: next.0,
            last: Gap::OPEN,
            partition: Some(partition),
            reason: format!(
                "log {former} was replaced by {}: what it held from here on was not read",
                self.log
            ),
            at,
        };
        let batch = Batch { gaps: positions.into_iter().map(gap).collect(), ..Batch::default() };
        patient.until_done(|| ledger.apply(&self.log, &batch)).await?;
        self.recorder.tell(Fact::LogRecreated { old: former, new: self.log.clone() });
        Ok(())
    }

    /// Drops what is pending and goes on where the ledger is, in every partition that is ours.
    async fn resume(&mut self) -> Result<(), Ended> {
        self.pending.take();
        let (patient, ledger) = (self.patient(), &self.recorder.ledger);
        let stored = patient.until_done(|| ledger.positions(&self.log)).await?;
        for (partition, offset) in &mut self.read {
            *offset = stored.get(partition).copied().unwrap_or_default();
        }
        self.start().await?;
        let read = &self.read;
        self.recorder.status.send_modify(|status| status.positions.clone_from(read));
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Ended> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match self.subscription.start(&self.read).await {
                Ok(()) => return Ok(()),
                Err(error) if error.passes() => self.patient().pause(error, &mut backoff).await?,
                Err(error) => return Err(error.ended()),
            }
        }
    }

    fn begin_to_apply(&mut self) {
        let batch = self.pending.take();
        let (ledger, log) = (self.recorder.ledger.clone(), self.log.clone());
        let (status, cancel) = (self.recorder.status.clone(), self.cancel.clone());
        self.applying = Some(tokio::spawn(apply(ledger, log, batch, status, cancel)));
    }

    /// Waits for the batch that is being applied, if there is one.
    async fn drain(&mut self) -> Result<(), Ended> {
        while self.applying.is_some() {
            let outcome = finished(&mut self.applying).await?;
            self.finish(outcome).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, outcome: Outcome) -> Result<(), Ended> {
        let Some(applied) = outcome.applied else {
            metrics::fenced();
            return self.resume().await;
        };
        metrics::applied(applied, outcome.took);
        tracing::debug!(inserted = applied.inserted, duplicates = applied.duplicates, took = ?outcome.took, "recorded");
        for gap in outcome.batch.gaps.into_iter().filter(|gap| !gap.is_set_aside()) {
            self.recorder.tell(Fact::Gap { gap });
        }
        let mut positions = Positions::new();
        for (partition, (_, to)) in outcome.batch.moves {
            if self.read.contains_key(&partition) {
                positions.insert(partition, to);
            }
        }
        self.recorder.status.send_modify(|status| status.positions.extend(&positions));
        if let Err(error) = self.subscription.publish(&positions).await {
            tracing::warn!(%error, "recorder cannot publish its positions; the ledger has them");
        }
        Ok(())
    }

    fn patient(&self) -> Patient<'a> {
        self.recorder.patient(self.cancel)
    }
}

/// The outcome of the batch that is being applied; waits for ever when there is none.
async fn finished(applying: &mut Option<JoinHandle<Result<Outcome, Ended>>>) -> Result<Outcome, Ended> {
    let Some(task) = applying else { return pending().await };
    let outcome = task.await;
    *applying = None;
    outcome.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        // The runtime is going down.
        Err(_) => Err(Ended::Cancelled),
    })
}

/// Applies one batch, however long the ledger is away.
async fn apply(
    ledger: Arc<dyn Ledger>,
    log: LogId,
    batch: Batch,
    status: Arc<watch::Sender<Status>>,
    cancel: CancellationToken,
) -> Result<Outcome, Ended> {
    let patient = Patient { cancel: &cancel, status: &status };
    let begun = Instant::now();
    let tries = AtomicU32::new(0);
    let attempt = || async {
        // A ledger that was away may have let go of what this process held there.
        if tries.fetch_add(1, Ordering::Relaxed) > 0 {
            ledger.follow(&log).await?;
        }
        ledger.apply(&log, &batch).await
    };
    let applied = match patient.until_settled(attempt).await? {
        Ok(applied) => Some(applied),
        Err(fenced @ LedgerError::Fenced { .. }) => {
            tracing::warn!(%fenced, "recorder reads its positions anew");
            None
        }
        Err(error) => return Err(error.ended()),
    };
    Ok(Outcome { batch, applied, took: begun.elapsed() })
}
