//! A reader of the local log: the partition is given to one member of each group at a time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use super::{LocalLog, PARTITION};
use crate::{
    journal::{Entry, ReadError},
    log::{Delivery, LogError, Offset, Polled, Positions, Reader, Subscription},
};

/// Who waits for the partition in each group; the first has it.
pub(super) struct Members {
    groups: Mutex<Groups>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Groups {
    last: u64,
    waiting: HashMap<String, VecDeque<(u64, String)>>,
}

impl Default for Members {
    fn default() -> Self {
        Self { groups: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Members {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a member behind the others, or in the place of the one with the same name.
    fn join(&self, group: &str, member: &str) -> u64 {
        let mut groups = self.groups();
        groups.last += 1;
        let id = groups.last;
        let waiting = groups.waiting.entry(group.to_owned()).or_default();
        match waiting.iter_mut().find(|(_, name)| name == member) {
            Some(same) => same.0 = id,
            None => waiting.push_back((id, member.to_owned())),
        }
        drop(groups);
        self.changed.send_replace(());
        id
    }

    fn leave(&self, group: &str, id: u64) {
        if let Some(waiting) = self.groups().waiting.get_mut(group) {
            waiting.retain(|(other, _)| *other != id);
        }
        self.changed.send_replace(());
    }

    fn owns(&self, group: &str, id: u64) -> bool {
        self.groups().waiting.get(group).and_then(VecDeque::front).is_some_and(|(first, _)| *first == id)
    }
}

/// One reader.
pub(super) struct Reading {
    log: LocalLog,
    group: String,
    /// The number under which it is a member; nothing when it reads by itself.
    member: Option<u64>,
    assigned: bool,
    next: Option<Offset>,
}

impl Reading {
    pub(super) fn new(log: LocalLog, reader: Reader) -> Self {
        let (group, member) = match reader {
            Reader::Member { group, member } => {
                let id = log.0.members.join(&group, &member);
                (group, Some(id))
            }
            Reader::Whole { group } => (group, None),
        };
        Self { log, group, member, assigned: false, next: None }
    }

    fn owns(&self) -> bool {
        self.member.is_none_or(|id| self.log.0.members.owns(&self.group, id))
    }

    /// What there is to say at once.
    async fn ready(&mut self, max: usize) -> Result<Option<Polled>, LogError> {
        if self.owns() != self.assigned {
            self.assigned = !self.assigned;
            self.next = None;
            let partitions = vec![PARTITION];
            let said = if self.assigned { Polled::Assigned } else { Polled::Revoked };
            return Ok(Some(said(partitions)));
        }
        let Some(from) = self.next else { return Ok(None) };
        match self.log.0.journal.read(from, max).await {
            Ok(entries) => Ok(self.given(from, entries)),
            Err(ReadError::Released { first }) => Ok(Some(self.lost(from, first, "released"))),
            Err(e) => Err(LogError::Local(std::io::Error::other(e))),
        }
    }

    fn given(&mut self, from: Offset, mut entries: Vec<Entry>) -> Option<Polled> {
        let first = entries.first()?.offset;
        if first > from {
            return Some(self.lost(from, first, "the journal was damaged"));
        }
        // Behind a hole the next poll begins, so that the hole is told first.
        let whole = entries.iter().zip(first.0..).take_while(|(e, offset)| e.offset.0 == *offset).count();
        entries.truncate(whole);
        self.next = entries.last().map(|last| Offset(last.offset.0 + 1));
        let delivery = |e: Entry| Delivery { partition: PARTITION, offset: e.offset, record: e.record };
        Some(Polled::Batch(entries.into_iter().map(delivery).collect()))
    }

    fn lost(&mut self, from: Offset, to: Offset, reason: &str) -> Polled {
        self.next = Some(to);
        Polled::Lost { partition: PARTITION, from, to, reason: reason.to_owned() }
    }
}

#[async_trait]
impl Subscription for Reading {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError> {
        let deadline = Instant::now() + wait;
        let mut members = self.log.0.members.changed.subscribe();
        let mut appended = self.log.0.journal.changed();
        loop {
            members.borrow_and_update();
            appended.borrow_and_update();
            if let Some(polled) = self.ready(max).await? {
                return Ok(polled);
            }
            tokio::select! {
                _ = members.changed() => {}
                _ = appended.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Polled::Idle),
            }
        }
    }

    async fn start(&mut self, positions: &Positions) -> Result<(), LogError> {
        let bounds = self.log.0.journal.bounds();
        let next = positions.get(&PARTITION).copied().unwrap_or(bounds.start);
        if next > bounds.end {
            let (at, end) = (next.0, bounds.end.0);
            return Err(LogError::Refused(format!("position {at} lies behind the local log's end {end}")));
        }
        self.next = Some(next).filter(|_| self.assigned);
        Ok(())
    }

    async fn publish(&mut self, positions: &Positions) -> Result<(), LogError> {
        match positions.get(&PARTITION) {
            Some(next) => self.log.publish(&self.group, *next).await,
            None => Ok(()),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(id) = self.member {
            self.log.0.members.leave(&self.group, id);
        }
    }
}
