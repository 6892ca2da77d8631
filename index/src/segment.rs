//! Walks the matching documents of one segment, within a budget.

use std::{ops::Range, sync::Arc};

use ingest::time::Timestamp;
use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, SegmentReader, columnar::ColumnValues, query::Weight,
};

use crate::{budget::Budget, cursor::Key};

/// The columns that every record has.
pub(crate) struct Columns {
    ts: Arc<dyn ColumnValues<i64>>,
    journaled: Arc<dyn ColumnValues<i64>>,
    arrival: Arc<dyn ColumnValues<u64>>,
    id_high: Arc<dyn ColumnValues<u64>>,
    id_low: Arc<dyn ColumnValues<u64>>,
}

impl Columns {
    pub(crate) fn open(reader: &SegmentReader) -> tantivy::Result<Self> {
        let columns = reader.fast_fields();
        Ok(Self {
            ts: columns.column_first_or_default("ts")?,
            journaled: columns.column_first_or_default("journaled")?,
            arrival: columns.column_first_or_default("arrival")?,
            id_high: columns.column_first_or_default("id_high")?,
            id_low: columns.column_first_or_default("id_low")?,
        })
    }

    pub(crate) fn at(&self, doc: DocId) -> Timestamp {
        Timestamp::from_micros(self.ts.get_val(doc))
    }

    pub(crate) fn journaled(&self, doc: DocId) -> Timestamp {
        Timestamp::from_micros(self.journaled.get_val(doc))
    }

    pub(crate) fn arrival(&self, doc: DocId) -> u64 {
        self.arrival.get_val(doc)
    }

    pub(crate) fn key(&self, doc: DocId) -> Key {
        let at = self.at(doc);
        let millis = at.millis() as u128 & 0xffff_ffff_ffff;
        let high = u128::from(self.id_high.get_val(doc));
        Key { at, id: millis << 80 | high << 64 | u128::from(self.id_low.get_val(doc)) }
    }

    /// The times in this segment; the last one is included.
    pub(crate) fn times(&self) -> (Timestamp, Timestamp) {
        (Timestamp::from_micros(self.ts.min_value()), Timestamp::from_micros(self.ts.max_value()))
    }

    /// The largest arrival number in this segment.
    pub(crate) fn last_arrival(&self) -> u64 {
        self.arrival.max_value()
    }

    /// The latest time in this segment at which something was journaled.
    pub(crate) fn last_journaled(&self) -> Timestamp {
        Timestamp::from_micros(self.journaled.max_value())
    }

    /// Whether the segment has something in `range`.
    pub(crate) fn meets(&self, range: &Range<Timestamp>) -> bool {
        let (first, last) = self.times();
        first < range.end && range.start <= last
    }
}

/// Gives every living document of the segment that matches to `take`, until the budget is over.
pub(crate) fn for_each(
    reader: &SegmentReader,
    weight: &dyn Weight,
    budget: &Budget,
    mut take: impl FnMut(DocId),
) -> tantivy::Result<()> {
    if budget.is_over() {
        return Ok(());
    }
    let mut scorer = weight.scorer(reader, 1.0)?;
    let alive = reader.alive_bitset();
    let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
    for round in 1_usize.. {
        let count = scorer.fill_buffer(&mut block);
        for doc in &block[..count] {
            if alive.is_none_or(|alive| alive.is_alive(*doc)) {
                take(*doc);
            }
        }
        // A look at the clock for every thousand documents.
        if count < block.len() || round.is_multiple_of(16) && budget.is_over() {
            break;
        }
    }
    Ok(())
}
