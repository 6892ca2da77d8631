//! A log and a ledger in memory, which keep the laws as far as an index relies on them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use index::Standing;
use ingest::{
    identity::KeyCheck,
    ledger::{Applied, Batch, BootSummary, Gap, Ledger, LedgerError},
    log::{
        Delivery, Log, LogError, LogId, Offset, Partition, Poison, Polled, Positions, Reader, Safety,
        Subscription,
    },
    pipeline::Unfinished,
    record::{Record, RecordId},
    time::{Day, Timestamp},
};
use tokio::sync::Notify;

/// A log of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLog(Arc<LogState>);

#[derive(Debug, Default)]
struct LogState {
    state: Mutex<Kept>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    id: String,
    records: Vec<Record>,
    /// What lies before is gone.
    first: u64,
    published: Positions,
}

impl MemoryLog {
    pub(crate) fn new(id: &str) -> Self {
        let log = Self::default();
        log.state().id = id.to_owned();
        log
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        self.0.state.lock().unwrap()
    }

    pub(crate) fn push(&self, records: &[Record]) {
        self.state().records.extend_from_slice(records);
        self.0.more.notify_waiters();
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(self.state().records.len() as u64)
    }

    /// More comes, of which everything before `first` is removed before anybody can read it.
    pub(crate) fn push_and_lose(&self, records: &[Record], first: u64) {
        let mut kept = self.state();
        kept.records.extend_from_slice(records);
        kept.first = first;
        drop(kept);
        self.0.more.notify_waiters();
    }

    /// Retention removes everything before `first`.
    pub(crate) fn forget_before(&self, first: u64) {
        self.state().first = first;
    }

    /// It is removed and made anew, with nothing in it.
    pub(crate) fn renew(&self, id: &str) {
        *self.state() = Kept { id: id.to_owned(), ..Kept::default() };
    }

    /// Where an index is that has read everything.
    pub(crate) fn standing(&self) -> Standing {
        let Kept { id, records, .. } = &*self.state();
        let positions = Positions::from([(0, Offset(records.len() as u64))]);
        Standing::at(LogId(id.as_str().into()), positions)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn id(&self) -> Result<LogId, LogError> {
        Ok(LogId(self.state().id.as_str().into()))
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        self.push(records);
        Ok(Safety::Safe)
    }

    async fn subscribe(&self, _: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(Reading { log: self.clone(), next: None, told: None }))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        Ok(BTreeMap::from([(0, (Offset(self.state().first), self.end()))]))
    }

    async fn published(&self, _: &str) -> Result<Positions, LogError> {
        Ok(self.state().published.clone())
    }

    async fn set_aside(&self, _: Partition, _: Offset, _: &Poison) -> Result<(), LogError> {
        Ok(())
    }
}

struct Reading {
    log: MemoryLog,
    next: Option<u64>,
    /// The log that its reader knows.
    told: Option<String>,
}

#[async_trait]
impl Subscription for Reading {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError> {
        let id = self.log.state().id.clone();
        match self.told.replace(id.clone()) {
            None => return Ok(Polled::Assigned(vec![0])),
            Some(known) if known != id => {
                self.told = None;
                let read = self.next.take().map(|next| (0, Offset(next))).into_iter().collect();
                return Ok(Polled::Renewed { id: LogId(id.as_str().into()), read, reason: "deleted".into() });
            }
            Some(_) => {}
        }
        let more = self.log.clone();
        let more = more.0.more.notified();
        if let Some(batch) = self.batch(max) {
            return Ok(batch);
        }
        let _ = tokio::time::timeout(wait, more).await;
        Ok(self.batch(max).unwrap_or(Polled::Idle))
    }

    async fn start(&mut self, positions: &Positions) -> Result<(), LogError> {
        self.next = positions.get(&0).map(|offset| offset.0);
        Ok(())
    }

    async fn publish(&mut self, positions: &Positions) -> Result<(), LogError> {
        self.log.state().published = positions.clone();
        Ok(())
    }
}

impl Reading {
    fn batch(&mut self, max: usize) -> Option<Polled> {
        let next = self.next?;
        let state = self.log.state();
        if next < state.first {
            let (from, to) = (Offset(next), Offset(state.first));
            self.next = Some(state.first);
            return Some(Polled::Lost { partition: 0, from, to, reason: "retention".into() });
        }
        let records = state.records.get(next as usize..).filter(|records| !records.is_empty())?;
        let deliveries: Vec<_> = records
            .iter()
            .take(max)
            .zip(next..)
            .map(|(record, offset)| Delivery {
                partition: 0,
                offset: Offset(offset),
                record: Ok(record.clone()),
            })
            .collect();
        self.next = Some(next + deliveries.len() as u64);
        Some(Polled::Batch(deliveries))
    }
}

/// A ledger of records by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLedger(Arc<Mutex<LedgerState>>);

#[derive(Debug, Default)]
struct LedgerState {
    records: BTreeMap<RecordId, Record>,
    log: Option<LogId>,
    positions: BTreeMap<LogId, Positions>,
    gaps: Vec<Gap>,
}

impl MemoryLedger {
    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.0.lock().unwrap()
    }

    /// Is at `end` without having taken anything more.
    pub(crate) fn record_at(&self, log: &MemoryLog, end: Offset) {
        let id = log.state().id.as_str().into();
        self.state().positions.insert(LogId(id), Positions::from([(0, end)]));
    }

    /// Lost a range before it read it.
    pub(crate) fn lose(&self, first: u64, last: u64, reason: &str) {
        let (partition, at) = (Some(0), Timestamp::from_micros(first as i64));
        let gap = Gap { source: None, boot: None, first, last, partition, reason: reason.to_owned(), at };
        self.state().gaps.push(gap);
    }

    /// Takes everything that the log holds up to `end`.
    pub(crate) fn record(&self, log: &MemoryLog, end: Offset) {
        let standing = log.standing();
        let records = log.state().records[..end.0 as usize].to_vec();
        let mut state = self.state();
        state.records.extend(records.into_iter().map(|record| (record.envelope.id, record)));
        state.positions.extend(standing.log.clone().map(|log| (log, Positions::from([(0, end)]))));
        state.log = standing.log;
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn key_check(&self, own: KeyCheck) -> Result<KeyCheck, LedgerError> {
        Ok(own)
    }

    async fn apply(&self, _: &LogId, _: &Batch) -> Result<Applied, LedgerError> {
        Ok(Applied::default())
    }

    async fn positions(&self, log: &LogId) -> Result<Positions, LedgerError> {
        Ok(self.state().positions.get(log).cloned().unwrap_or_default())
    }

    async fn current_log(&self) -> Result<Option<LogId>, LedgerError> {
        Ok(self.state().log.clone())
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Record>, LedgerError> {
        let state = self.state();
        Ok(ids.iter().filter_map(|id| state.records.get(id).cloned()).collect())
    }

    async fn scan(
        &self,
        days: Range<Day>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, LedgerError> {
        let state = self.state();
        let records = state.records.values().filter(|record| days.contains(&record.envelope.day()));
        let records = records.filter(|record| after.is_none_or(|after| record.envelope.id > after));
        // As few as a real one may give.
        Ok(records.take(limit.min(500)).cloned().collect())
    }

    async fn days(&self) -> Result<Vec<(Day, u64)>, LedgerError> {
        let mut days = BTreeMap::new();
        for record in self.state().records.values() {
            *days.entry(record.envelope.day()).or_default() += 1;
        }
        Ok(days.into_iter().collect())
    }

    async fn expire(&self, _: Day) -> Result<Vec<Day>, LedgerError> {
        Ok(Vec::new())
    }

    async fn boots(&self, _: Range<Timestamp>) -> Result<Vec<BootSummary>, LedgerError> {
        Ok(Vec::new())
    }

    async fn gaps(&self) -> Result<Vec<Gap>, LedgerError> {
        Ok(self.state().gaps.clone())
    }

    async fn unfinished(&self, _: Range<Timestamp>) -> Result<Vec<Unfinished>, LedgerError> {
        Ok(Vec::new())
    }
}
