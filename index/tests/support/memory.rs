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
    ledger::{Applied, Batch, BootSummary, Gap, Ledger, LedgerError},
    log::{
        Delivery, Log, LogError, LogId, Offset, Partition, Poison, Polled, Positions, Reader, Safety,
        Subscription,
    },
    record::{Record, RecordId},
    time::{Day, Timestamp},
};
use tokio::sync::Notify;

/// A log of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLog(Arc<LogState>);

#[derive(Debug, Default)]
struct LogState {
    state: Mutex<(String, Vec<Record>, Positions)>,
    more: Notify,
}

impl MemoryLog {
    pub(crate) fn new(id: &str) -> Self {
        let log = Self::default();
        log.state().0 = id.to_owned();
        log
    }

    fn state(&self) -> MutexGuard<'_, (String, Vec<Record>, Positions)> {
        self.0.state.lock().unwrap()
    }

    pub(crate) fn push(&self, records: &[Record]) {
        self.state().1.extend_from_slice(records);
        self.0.more.notify_waiters();
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(self.state().1.len() as u64)
    }

    /// Where an index is that has read everything.
    pub(crate) fn standing(&self) -> Standing {
        let (id, records, _) = &*self.state();
        let positions = Positions::from([(0, Offset(records.len() as u64))]);
        Standing::at(LogId(id.as_str().into()), positions)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn id(&self) -> Result<LogId, LogError> {
        Ok(LogId(self.state().0.as_str().into()))
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        self.push(records);
        Ok(Safety::Safe)
    }

    async fn subscribe(&self, _: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(Reading { log: self.clone(), next: None, told: false }))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        Ok(BTreeMap::from([(0, (Offset(0), self.end()))]))
    }

    async fn published(&self, _: &str) -> Result<Positions, LogError> {
        Ok(self.state().2.clone())
    }

    async fn set_aside(&self, _: Partition, _: Offset, _: &Poison) -> Result<(), LogError> {
        Ok(())
    }
}

struct Reading {
    log: MemoryLog,
    next: Option<u64>,
    told: bool,
}

#[async_trait]
impl Subscription for Reading {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError> {
        if !self.told {
            self.told = true;
            return Ok(Polled::Assigned(vec![0]));
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
        self.log.state().2 = positions.clone();
        Ok(())
    }
}

impl Reading {
    fn batch(&mut self, max: usize) -> Option<Polled> {
        let next = self.next?;
        let state = self.log.state();
        let records = state.1.get(next as usize..).filter(|records| !records.is_empty())?;
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
    positions: Positions,
}

impl MemoryLedger {
    fn state(&self) -> MutexGuard<'_, LedgerState> {
        self.0.lock().unwrap()
    }

    /// Takes everything that the log holds up to `end`.
    pub(crate) fn record(&self, log: &MemoryLog, end: Offset) {
        let standing = log.standing();
        let records = log.state().1[..end.0 as usize].to_vec();
        let mut state = self.state();
        state.records.extend(records.into_iter().map(|record| (record.envelope.id, record)));
        state.log = standing.log;
        state.positions = Positions::from([(0, end)]);
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn apply(&self, _: &LogId, _: &Batch) -> Result<Applied, LedgerError> {
        Ok(Applied::default())
    }

    async fn positions(&self, _: &LogId) -> Result<Positions, LedgerError> {
        Ok(self.state().positions.clone())
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
        Ok(Vec::new())
    }
}
