//! The one thread that writes: it takes everything that waits, writes one block, syncs once, answers all.

use std::{sync::Arc, time::Duration};

use tracing::{error, info, warn};

use super::{
    AppendError, Receipt, Shared, block,
    queue::{Items, Next, Pending},
    segment,
    tail::{Tail, WriteError},
};
use crate::{
    log::Offset,
    metrics,
    pipeline::Previous,
    record::{Boot, Draft, Envelope, Record, Seq},
    time::{Clock, Timestamp},
};

/// A block is closed when it is this long: readers hold a block in memory at a time, and by now the sync is
/// a small part of what writing it costs.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// How often the writer looks by itself whether a full disk has room again.
const PROBE: Duration = Duration::from_secs(1);

/// How long the writer sleeps when nothing waits; it is woken when something does.
const IDLE: Duration = Duration::from_secs(3600);

/// What numbering and writing go on from.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) tail: Tail,
    /// Bytes that the journal may hold.
    pub(super) max_bytes: u64,
    pub(super) boot: Boot,
    /// The last number given in this boot.
    pub(super) last: Seq,
    /// The offset of the next record.
    pub(super) next: Offset,
    /// What stands in the next segment's header.
    pub(super) previous: Option<Previous>,
    /// What comes before anything else in this boot.
    pub(super) lead: Vec<Draft>,
    /// The name of this instance.
    pub(super) source: Arc<str>,
    pub(super) clock: Clock,
    pub(super) buffer: Vec<u8>,
}

/// The block that is being filled.
struct Filling {
    count: u64,
    numbered: u32,
    received_at: Timestamp,
}

impl Writer {
    /// Writes until the queue is closed or the boot ends.
    pub(super) fn run(mut self) {
        loop {
            let wait = if self.shared.no_space() { PROBE } else { IDLE };
            match self.shared.queue.take(BLOCK_BYTES as u64, wait) {
                Next::Write(group) => {
                    if !self.answer(group) {
                        return;
                    }
                }
                Next::Idle => {
                    let probed = self.probe();
                    if !self.settled(&probed) {
                        return;
                    }
                }
                Next::Closed => return self.tail.seal(),
            }
        }
    }

    /// Writes a group and answers it; false when the boot has ended.
    fn answer(&mut self, group: Vec<Pending>) -> bool {
        let bytes = group.iter().map(|p| p.bytes).sum();
        let mut written = self.write_lead();
        let mut answers = Vec::with_capacity(group.len());
        let mut filling = self.begin();
        for pending in group {
            let records = pending.items.len() as u64;
            let first = Seq(self.last.0 + u64::from(filling.numbered) + 1);
            if written.is_ok() {
                written = self.fill(&mut filling, pending.items);
            }
            let last = Seq(self.last.0 + u64::from(filling.numbered));
            let next = Offset(self.next.0 + filling.count);
            answers.push((pending.answer, records, Receipt { boot: self.boot, first, last, next }));
        }
        if written.is_ok() {
            written = self.flush(&mut filling);
        }
        let going_on = self.settled(&written);
        self.shared.queue.done(bytes);
        for (answer, records, receipt) in answers {
            let answered = answer.send(match &written {
                Ok(()) => Ok(receipt),
                Err(WriteError::NoSpace) => Err(AppendError::NoSpace),
                Err(WriteError::Failed(_)) => Err(AppendError::Ended),
            });
            // Nobody waits, and nobody will bring them again.
            if matches!(answered, Err(Err(_))) {
                metrics::journal_lost(records);
            }
        }
        going_on
    }

    /// Takes note of how a write went; false when the boot has ended.
    fn settled(&mut self, written: &Result<(), WriteError>) -> bool {
        match written {
            Ok(()) => {
                if self.shared.set_no_space(false) {
                    info!("the journal's disk has room again");
                }
                true
            }
            Err(WriteError::NoSpace) => {
                if !self.shared.set_no_space(true) {
                    warn!("the journal's disk is full: nothing is taken in until there is room");
                }
                true
            }
            Err(WriteError::Failed(e)) => {
                error!(error = %e, "the journal could not be written: this boot ends");
                self.shared.end();
                false
            }
        }
    }

    /// Writes the records that come first in a boot, once.
    pub(super) fn write_lead(&mut self) -> Result<(), WriteError> {
        if self.lead.is_empty() {
            return Ok(());
        }
        let mut filling = self.begin();
        self.fill(&mut filling, Items::Drafts(self.lead.clone()))?;
        self.flush(&mut filling)?;
        self.lead.clear();
        Ok(())
    }

    fn begin(&mut self) -> Filling {
        self.buffer.clear();
        self.buffer.resize(block::HEADER, 0);
        Filling { count: 0, numbered: 0, received_at: self.clock.now() }
    }

    fn fill(&mut self, filling: &mut Filling, items: Items) -> Result<(), WriteError> {
        match items {
            Items::Drafts(drafts) => drafts.into_iter().try_for_each(|draft| {
                filling.numbered += 1;
                let seq = Seq(self.last.0 + u64::from(filling.numbered));
                let record = self.number(draft, seq, filling.received_at);
                self.put(filling, &record)
            }),
            Items::Records(records) => records.iter().try_for_each(|record| self.put(filling, record)),
        }
    }

    fn number(&self, draft: Draft, seq: Seq, received_at: Timestamp) -> Record {
        let Draft { id, cluster, kind, at, rules, redactions, event } = draft;
        let (source, boot) = (self.source.clone(), self.boot);
        let v = Envelope::VERSION;
        let envelope =
            Envelope { v, id, cluster, source, boot, seq, received_at, kind, at, rules, redactions };
        Record { envelope, event }
    }

    fn put(&mut self, filling: &mut Filling, record: &Record) -> Result<(), WriteError> {
        block::push(&mut self.buffer, |out| record.encode_into(out));
        filling.count += 1;
        if self.buffer.len() >= BLOCK_BYTES {
            self.flush(filling)?;
        }
        Ok(())
    }

    /// Writes what is filled and returns when it is durable and visible.
    fn flush(&mut self, filling: &mut Filling) -> Result<(), WriteError> {
        if filling.count == 0 {
            return Ok(());
        }
        let header = block::Header {
            first: self.next,
            count: filling.count,
            boot: self.boot,
            before: self.last,
            numbered: filling.numbered,
            gap: false,
            payload: (self.buffer.len() - block::HEADER) as u32,
        };
        header.seal(&mut self.buffer);
        self.shared.make_room(header.len(), self.max_bytes);
        let (at, took) = match self.tail.write(&self.buffer, self.segment()) {
            Err(WriteError::NoSpace) if self.shared.forget_kept() => {
                self.tail.write(&self.buffer, self.segment())?
            }
            written => written?,
        };
        self.next = header.end();
        self.last = header.last();
        self.previous = Some(Previous { boot: self.boot, last_seq: self.last });
        self.shared.publish(&header, at);
        metrics::journal_synced(header.len(), header.count, took);
        metrics::journal_bytes(self.shared.catalog().bytes());
        *filling = self.begin();
        Ok(())
    }

    /// What the next segment begins with.
    const fn segment(&self) -> segment::Header {
        segment::Header { first: self.next, previous: self.previous }
    }

    /// Looks whether there is room, and writes what comes first in the boot if it is still to be written.
    fn probe(&mut self) -> Result<(), WriteError> {
        self.write_lead()?;
        match self.tail.probe(self.segment()) {
            Err(WriteError::NoSpace) if self.shared.forget_kept() => self.tail.probe(self.segment()),
            probed => probed,
        }
    }
}

impl Drop for Writer {
    /// Nobody waits for a writer that is gone, even when it panicked.
    fn drop(&mut self) {
        self.shared.end();
    }
}
