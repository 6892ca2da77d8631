//! How many records match, over time.

use std::{ops::Range, time::Duration};

use ingest::time::Timestamp;
use tantivy::query::EnableScoring;

use crate::{
    Index,
    budget::{Budget, Partial},
    compile::compile,
    generation::Generation,
    metrics,
    query::Query,
    search::{ALL_TIME, SearchError},
    segment::{Columns, for_each},
};

/// The most buckets of one histogram: a week by minutes.
pub const MAX_BUCKETS: usize = 10_080;

/// What is to be counted.
#[derive(Clone, Debug)]
pub struct HistogramRequest {
    /// Records with a stageTimestamp in it. Where an end is open, as both of [`ALL_TIME`] are, the first or the
    /// last record that there is for the query takes its place, so that no empty buckets lead there.
    pub range: Range<Timestamp>,
    /// The length of a bucket. Buckets begin at whole multiples of it since 1970.
    pub interval: Duration,
    /// How long it may take.
    pub time: Duration,
}

/// Counts in equal parts of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// When the first bucket begins.
    pub start: Timestamp,
    /// The length of a bucket.
    pub interval: Duration,
    /// Records in each bucket, those without any too.
    pub counts: Vec<u64>,
    /// Records in all of them.
    pub total: u64,
    /// Why the counts may lack something.
    pub partial: Option<Partial>,
}

impl Index {
    /// Counts the records that match.
    ///
    /// # Errors
    /// When the query cannot be used or asks for too many buckets, and when the index fails.
    pub async fn histogram(
        &self,
        query: &Query,
        request: HistogramRequest,
    ) -> Result<Histogram, SearchError> {
        let query = query.clone();
        self.query("histogram", move |index| index.count(&query, &request)).await
    }

    fn count(&self, query: &Query, request: &HistogramRequest) -> Result<Histogram, SearchError> {
        let generation = self.generation();
        let budget = Budget::new(request.time);
        let compiled = compile(query, &generation.fields, &budget)?;
        let step = i64::try_from(request.interval.as_micros()).unwrap_or(i64::MAX).max(1);
        let range = closed(&generation, query, &request.range, &budget)?;
        let mut counts = Counts::new(&range, step)?;
        generation.for_each_day(&range, |_, searcher| {
            let weight = compiled.weight(EnableScoring::disabled_from_searcher(searcher))?;
            for reader in searcher.segment_readers() {
                let columns = Columns::open(reader)?;
                if columns.meets(&range) {
                    for_each(reader, &*weight, &budget, |doc| counts.add(columns.at(doc)))?;
                }
            }
            Ok(!budget.is_over())
        })?;
        let partial = budget.partial();
        if let Some(partial) = partial {
            metrics::partial(partial.as_str());
        }
        let start = Timestamp::from_micros(counts.first.saturating_mul(step));
        let total = counts.counts.iter().sum();
        Ok(Histogram { start, interval: request.interval, counts: counts.counts, total, partial })
    }
}

/// The range with the first and the last record that there is for the query in place of open ends.
fn closed(
    generation: &Generation,
    query: &Query,
    range: &Range<Timestamp>,
    budget: &Budget,
) -> Result<Range<Timestamp>, SearchError> {
    if range.start != ALL_TIME.start && range.end != ALL_TIME.end {
        return Ok(range.clone());
    }
    let held =
        if query.is_over_all() { extent(generation)? } else { extent_within(generation, query, budget)? };
    let Some(held) = held else { return Ok(Timestamp::default()..Timestamp::default()) };
    let start = if range.start == ALL_TIME.start { held.start } else { range.start };
    let end = if range.end == ALL_TIME.end { held.end } else { range.end };
    Ok(start..end)
}

/// From the first to the last record.
fn extent(generation: &Generation) -> Result<Option<Range<Timestamp>>, SearchError> {
    let mut held = None;
    generation.for_each_day(&ALL_TIME, |_, searcher| {
        for reader in searcher.segment_readers() {
            let (first, last) = Columns::open(reader)?.times();
            stretch(&mut held, first, last);
        }
        Ok(true)
    })?;
    Ok(held)
}

/// From the first to the last record that there is for a query: a bucket tells of nothing else.
fn extent_within(
    generation: &Generation,
    query: &Query,
    budget: &Budget,
) -> Result<Option<Range<Timestamp>>, SearchError> {
    let within = compile(&Query::new(query.within.clone()), &generation.fields, budget)?;
    let mut held = None;
    generation.for_each_day(&ALL_TIME, |_, searcher| {
        let weight = within.weight(EnableScoring::disabled_from_searcher(searcher))?;
        for reader in searcher.segment_readers() {
            let columns = Columns::open(reader)?;
            for_each(reader, &*weight, budget, |doc| {
                let at = columns.at(doc);
                stretch(&mut held, at, at);
            })?;
        }
        Ok(!budget.is_over())
    })?;
    Ok(held)
}

/// Makes a range reach from `first` to `last`, which it includes.
fn stretch(held: &mut Option<Range<Timestamp>>, first: Timestamp, last: Timestamp) {
    let end = Timestamp::from_micros(last.micros().saturating_add(1));
    *held = Some(match held.take() {
        Some(held) => held.start.min(first)..held.end.max(end),
        None => first..end,
    });
}

/// Buckets by their number since 1970.
struct Counts {
    range: Range<Timestamp>,
    step: i64,
    first: i64,
    counts: Vec<u64>,
}

impl Counts {
    fn new(range: &Range<Timestamp>, step: i64) -> Result<Self, SearchError> {
        let first = range.start.micros().div_euclid(step);
        let count = if range.is_empty() {
            0
        } else {
            ((range.end.micros() - 1).div_euclid(step)).abs_diff(first).saturating_add(1)
        };
        if count > MAX_BUCKETS as u64 {
            return Err(SearchError::Buckets { count, max: MAX_BUCKETS });
        }
        Ok(Self { range: range.clone(), step, first, counts: vec![0; count as usize] })
    }

    fn add(&mut self, at: Timestamp) {
        if self.range.contains(&at) {
            let bucket = at.micros().div_euclid(self.step) - self.first;
            if let Some(count) = self.counts.get_mut(bucket as usize) {
                *count += 1;
            }
        }
    }
}
