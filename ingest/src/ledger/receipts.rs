//! What a batch tells of each boot: which numbers came, when, and which facts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    ranges::Ranges,
    record::{Boot, Record},
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
    }
}

/// What merging a receipt into the stored ranges found.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// The rows of ranges that changed.
    pub(crate) changed: Vec<(u64, Ranges)>,
    /// How many numbers were not seen before.
    pub(crate) new: u64,
}

/// Adds `arrived` to the `stored` rows.
pub(crate) fn merge(arrived: &BTreeMap<u64, Ranges>, mut stored: HashMap<u64, Ranges>) -> Merged {
    let mut merged = Merged::default();
    for (&chunk, ranges) in arrived {
        let mut all = stored.remove(&chunk).unwrap_or_default();
        let before = all.count();
        all.extend(ranges);
        let new = all.count() - before;
        if new > 0 {
            merged.new += new;
            merged.changed.push((chunk, all));
        }
    }
    merged
}
