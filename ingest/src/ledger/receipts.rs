//! What a batch tells of each boot: which numbers came, when, and which facts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Gap;
use crate::{
    pipeline::{Fact, Previous, Unfinished},
    ranges::Ranges,
    record::{Boot, Kind, Record},
    time::Timestamp,
};

/// How many sequence numbers one stored row of seen ranges covers. It bounds what a batch rewrites when partitions
/// of one boot run far apart and leave many holes for a while.
pub(crate) const CHUNK: u64 = 1 << 16;

/// A boot of a source, in the order in which boots are locked.
pub(crate) type BootKey = (Arc<str>, Boot);

/// What arrived of one boot.
#[derive(Debug)]
pub(crate) struct Receipt {
    /// The numbers, by the stored row that holds them.
    pub(crate) chunks: BTreeMap<u64, Ranges>,
    pub(crate) first_received: Timestamp,
    pub(crate) last_received: Timestamp,
    /// What the instance said of itself, by the number of the record that says it.
    facts: BTreeMap<u64, Fact>,
}

/// Sorts a batch's records by their boots.
pub(crate) fn receipts(records: &[Record]) -> BTreeMap<BootKey, Receipt> {
    let mut receipts: BTreeMap<BootKey, Receipt> = BTreeMap::new();
    for run in
        records.chunk_by(|a, b| a.envelope.boot == b.envelope.boot && a.envelope.source == b.envelope.source)
    {
        let first = &run[0].envelope;
        let receipt = receipts.entry((first.source.clone(), first.boot)).or_insert_with(|| Receipt {
            chunks: BTreeMap::new(),
            first_received: first.received_at,
            last_received: first.received_at,
            facts: BTreeMap::new(),
        });
        for record in run {
            receipt.add(record);
        }
    }
    receipts
}

impl Receipt {
    fn add(&mut self, record: &Record) {
        let envelope = &record.envelope;
        self.first_received = self.first_received.min(envelope.received_at);
        self.last_received = self.last_received.max(envelope.received_at);
        let seq = envelope.seq.0;
        self.chunks.entry(seq / CHUNK).or_default().insert(seq..=seq);
        if envelope.kind == Kind::Pipeline
            && let Some(fact) = Fact::read(&record.event)
        {
            self.facts.insert(seq, fact);
        }
    }
}

/// What a receipt brings that was not known.
#[derive(Debug, Default)]
pub(crate) struct News<'a> {
    /// The rows of ranges that changed.
    pub(crate) changed: Vec<(u64, Ranges)>,
    /// How many numbers were not seen before.
    pub(crate) numbers: u64,
    /// Items that intake refused.
    pub(crate) rejected: u64,
    /// The boot before this one.
    pub(crate) previous: Option<Previous>,
    /// Ranges that will not come.
    pub(crate) gaps: Vec<&'a Gap>,
    /// Requests that died.
    pub(crate) unfinished: Vec<&'a Unfinished>,
}

impl Receipt {
    /// Adds what arrived to the `stored` rows. What arrives again is no news: its facts count once.
    pub(crate) fn news(&self, mut stored: HashMap<u64, Ranges>) -> News<'_> {
        let mut news = News::default();
        for (seq, fact) in &self.facts {
            if !stored.get(&(seq / CHUNK)).is_some_and(|ranges| ranges.contains(*seq)) {
                news.add(fact);
            }
        }
        for (&chunk, arrived) in &self.chunks {
            let mut all = stored.remove(&chunk).unwrap_or_default();
            let before = all.count();
            all.extend(arrived);
            let new = all.count() - before;
            if new > 0 {
                news.numbers += new;
                news.changed.push((chunk, all));
            }
        }
        news
    }
}

fn has_nul(gap: &Gap) -> bool {
    gap.source.as_ref().is_some_and(|source| source.contains('\0'))
}

impl<'a> News<'a> {
    fn add(&mut self, fact: &'a Fact) {
        match fact {
            Fact::Boot { previous, .. } => self.previous = *previous,
            // One that the tables refuse is of somebody else, and would stop every recorder.
            Fact::Gap { gap } if gap.first <= gap.last && !has_nul(gap) => self.gaps.push(gap),
            Fact::Unfinished { unfinished } => self.unfinished.push(unfinished),
            Fact::Rejected { count, .. } => self.rejected = self.rejected.saturating_add(*count),
            _ => {}
        }
    }
}
