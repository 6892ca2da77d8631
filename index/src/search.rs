//! The newest records that match, page by page.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::Range,
    time::{Duration, Instant},
};

use ingest::{
    record::RecordId,
    time::{Day, Timestamp},
};
use tantivy::{Searcher, query::EnableScoring};

use crate::{
    Index, IndexError,
    budget::{Budget, Partial},
    compile::{CompileError, compile},
    cursor::{Cursor, CursorError, Key},
    generation::Generation,
    metrics,
    query::Query,
    segment::{Columns, for_each},
};

/// The largest page. Each record of it is fetched from the ledger.
pub const MAX_LIMIT: usize = 10_000;

/// The time that one query has, unless the caller asks for less.
pub const QUERY_TIME: Duration = Duration::from_secs(20);

/// What part of the result is wanted.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// Records with a stageTimestamp in it.
    pub range: Range<Timestamp>,
    /// How many; at most [`MAX_LIMIT`].
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// How long it may take.
    pub time: Duration,
}

impl SearchRequest {
    /// The newest `limit` records of all.
    pub fn newest(limit: usize) -> Self {
        Self { range: ALL_TIME, limit, cursor: None, time: QUERY_TIME }
    }
}

/// Every time that a record can have.
pub const ALL_TIME: Range<Timestamp> = Timestamp::from_micros(i64::MIN)..Timestamp::from_micros(i64::MAX);

/// A record that was found; its bytes are in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its key.
    pub id: RecordId,
    /// Its stageTimestamp.
    pub at: Timestamp,
}

/// A part of a result, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records.
    pub hits: Vec<Hit>,
    /// Where the next page begins; nothing after the last one.
    pub next: Option<Cursor>,
    /// Why the page may lack something.
    pub partial: Option<Partial>,
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The query cannot be answered: the caller's part.
    #[error(transparent)]
    Query(#[from] CompileError),
    /// The cursor cannot be used: the caller's part.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// More buckets than a histogram has: the caller's part.
    #[error(
        "a histogram has at most {max} buckets; this one would have {count}: use a longer interval or a shorter range"
    )]
    Buckets {
        /// How many it would have.
        count: u64,
        /// How many it may have.
        max: usize,
    },
    /// The index failed.
    #[error("the index could not be searched")]
    Index(#[from] IndexError),
}

impl From<tantivy::TantivyError> for SearchError {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Index(error.into())
    }
}

impl Index {
    /// The newest records that match, ordered by time and id, both descending.
    ///
    /// The pages of one query, each begun where the one before ended, give every record that was there from the
    /// beginning exactly once, whatever arrives meanwhile.
    ///
    /// # Errors
    /// When the query or the cursor cannot be used, and when the index fails.
    pub async fn search(&self, query: &Query, request: SearchRequest) -> Result<Page, SearchError> {
        let query = query.clone();
        self.query("search", move |index| {
            let budget = Budget::new(request.time);
            let before = request.cursor.map(|cursor| cursor.of(&query)).transpose()?;
            let limit = request.limit.clamp(1, MAX_LIMIT);
            let mut newest = Newest::new(limit, request.range, before);
            newest.search(&index.generation(), &query, &budget)?;
            Ok(newest.into_page(&query, budget.partial()))
        })
        .await
    }

    /// Does work that waits for the disk and computes, on a thread of its own, when its turn has come.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        kind: &'static str,
        work: impl FnOnce(&Self) -> Result<T, SearchError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let started = Instant::now();
        // The semaphore lives as long as the index and is never closed.
        let turn = self.0.queries.acquire().await.ok();
        let index = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&index)).await.map_err(IndexError::from)?;
        drop(turn);
        metrics::queried(kind, started.elapsed());
        done
    }

    /// The same for work of the writing side, which takes its turn at the writer's lock.
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Self) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        tokio::task::spawn_blocking(move || work(&self)).await?
    }
}

impl Generation {
    /// Gives what queries see of each day that meets `range` to `work`, newest first, until it answers `false`.
    pub(crate) fn for_each_day(
        &self,
        range: &Range<Timestamp>,
        mut work: impl FnMut(Day, &Searcher) -> Result<bool, SearchError>,
    ) -> Result<(), SearchError> {
        if range.start >= range.end {
            return Ok(());
        }
        let last = Timestamp::from_micros(range.end.micros().saturating_sub(1)).day();
        for day in self.days.newest_first(range.start.day()..=last) {
            let Some(open) = self.days.get(day)? else { continue };
            if !work(day, &open.reader.searcher())? {
                break;
            }
        }
        Ok(())
    }
}

/// Keeps the newest keys.
struct Newest {
    limit: usize,
    range: Range<Timestamp>,
    before: Option<Key>,
    /// The oldest on top.
    kept: BinaryHeap<Reverse<Key>>,
    dropped: bool,
}

impl Newest {
    fn new(limit: usize, mut range: Range<Timestamp>, before: Option<Key>) -> Self {
        if let Some(before) = before {
            // Others of the same instant come after it, with smaller ids.
            range.end = range.end.min(Timestamp::from_micros(before.at.micros().saturating_add(1)));
        }
        Self { limit, range, before, kept: BinaryHeap::with_capacity(limit.min(1024)), dropped: false }
    }

    fn search(&mut self, generation: &Generation, query: &Query, budget: &Budget) -> Result<(), SearchError> {
        let compiled = compile(query, &generation.fields, budget)?;
        let range = self.range.clone();
        generation.for_each_day(&range, |_, searcher| {
            let weight = compiled.weight(EnableScoring::disabled_from_searcher(searcher))?;
            let mut segments = Vec::new();
            for reader in searcher.segment_readers() {
                let columns = Columns::open(reader)?;
                if columns.meets(&range) {
                    segments.push((columns.times().1, reader, columns));
                }
            }
            segments.sort_by_key(|(last, ..)| Reverse(*last));
            for (last, reader, columns) in segments {
                if self.oldest().is_some_and(|oldest| last < oldest.at) {
                    // The next page will find what this segment has.
                    self.dropped = true;
                    break;
                }
                for_each(reader, &*weight, budget, |doc| self.take(&columns, doc))?;
            }
            // One day's records are all newer than those of the day before.
            let is_full = self.kept.len() == self.limit && self.dropped;
            Ok(!is_full && !budget.is_over())
        })
    }

    /// The oldest that is kept, when no more are kept.
    fn oldest(&self) -> Option<Key> {
        if self.kept.len() < self.limit { None } else { self.kept.peek().map(|Reverse(key)| *key) }
    }

    fn take(&mut self, columns: &Columns, doc: u32) {
        let at = columns.at(doc);
        if !self.range.contains(&at) {
            return;
        }
        let oldest = self.oldest();
        if oldest.is_some_and(|oldest| at < oldest.at) {
            self.dropped = true;
            return;
        }
        let key = columns.key(doc);
        if self.before.is_some_and(|before| key >= before) {
            return;
        }
        match oldest {
            None => self.kept.push(Reverse(key)),
            Some(oldest) => {
                self.dropped = true;
                if key > oldest {
                    self.kept.pop();
                    self.kept.push(Reverse(key));
                }
            }
        }
    }

    fn into_page(self, query: &Query, partial: Option<Partial>) -> Page {
        if let Some(partial) = partial {
            metrics::partial(partial.as_str());
        }
        let keys: Vec<Key> = self.kept.into_sorted_vec().into_iter().map(|Reverse(key)| key).collect();
        let next = keys.last().filter(|_| self.dropped).map(|last| Cursor::new(*last, query));
        let hits = keys.iter().map(|key| Hit { id: key.record(), at: key.at }).collect();
        Page { hits, next, partial }
    }
}
