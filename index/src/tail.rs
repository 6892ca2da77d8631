//! Records in the order in which they arrived here, for those who follow.

use std::{cmp::Ordering, collections::BinaryHeap, fmt, str::FromStr, time::Duration};

use ingest::time::{Day, Timestamp};
use tantivy::query::{EnableScoring, Query as Engine};

use crate::{
    Index,
    budget::{Budget, Partial},
    compile::compile,
    cursor::CursorError,
    index::View,
    query::Query,
    search::{ALL_TIME, Hit, MAX_LIMIT, SearchError},
    segment::{Columns, for_each},
};

/// Arrival numbers of a rebuilt index are new. Who followed the former one goes on by the time of the journal,
/// this much earlier, because records of several instances do not arrive in that order: what was given in this
/// time may be given again.
const OVERLAP: Duration = Duration::from_secs(60);

/// No generation has this number: they are counted up from the first.
const NO_GENERATION: u64 = u64::MAX;

/// Where following goes on. Opaque to those who pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailToken {
    generation: u64,
    /// Everything that arrived before this number was given.
    arrival: u64,
    /// The latest time of the journal of what was given.
    journaled: Timestamp,
    /// While catching up after a rebuild: what was given of that, by time of the journal and id.
    given: Option<(Timestamp, u128)>,
}

/// A part of what arrived, in that order.
#[derive(Clone, Debug)]
pub struct TailPage {
    /// The records.
    pub hits: Vec<Hit>,
    /// Where the next part begins.
    pub token: TailToken,
    /// Whether there is more already; otherwise wait for [`Index::commits`].
    pub more: bool,
    /// Why the part may lack something.
    pub partial: Option<Partial>,
    /// Where this part began.
    from: TailToken,
    /// For each hit what it is ordered by, and its time of the journal.
    places: Vec<((i64, u128), Timestamp)>,
}

impl TailPage {
    /// Where following goes on when only the first `taken` hits were taken.
    pub fn token_after(&self, taken: usize) -> TailToken {
        if taken >= self.hits.len() {
            return self.token;
        }
        self.from.after(&self.places[..taken])
    }
}

impl Index {
    /// The token of someone who wants what arrives after now.
    pub fn tail_from(&self, now: Timestamp) -> TailToken {
        let view = self.view();
        TailToken { generation: view.generation.number, arrival: view.arrival, journaled: now, given: None }
    }

    /// What arrived at and after `token`, at most `limit` records. A record that was indexed again is given again.
    ///
    /// # Errors
    /// When the query cannot be used, and when the index fails.
    pub async fn tail(
        &self,
        query: &Query,
        token: TailToken,
        limit: usize,
        time: Duration,
    ) -> Result<TailPage, SearchError> {
        let query = query.clone();
        self.query("tail", move |index| {
            let view = index.view();
            let budget = Budget::new(time);
            let compiled = compile(&query, &view.generation.fields, &budget)?;
            let token = token.for_generation(&view);
            let mut first =
                First { limit: limit.clamp(1, MAX_LIMIT), kept: BinaryHeap::new(), dropped: false };
            match token.given {
                None => first.arrived(&view, &*compiled, token.arrival, &budget)?,
                Some(given) => first.journaled(&view, &*compiled, given, token.arrival, &budget)?,
            }
            Ok(first.into_page(token, &view, &budget))
        })
        .await
    }
}

impl TailToken {
    /// The same place for somebody who must not learn how much else arrives: it tells of no number of arrivals. Who
    /// comes back with it is given again what was journaled in the last minute, as after a rebuild.
    #[must_use]
    pub const fn veiled(self) -> Self {
        Self { generation: NO_GENERATION, arrival: 0, given: None, ..self }
    }

    /// The token after these, which follow it.
    fn after(self, taken: &[((i64, u128), Timestamp)]) -> Self {
        let Some(((order, id), _)) = taken.last() else { return self };
        let journaled = taken.iter().map(|(_, journaled)| *journaled).fold(self.journaled, Timestamp::max);
        match self.given {
            None => Self { arrival: *order as u64 + 1, journaled, ..self },
            Some(_) => Self { given: Some((Timestamp::from_micros(*order), *id)), journaled, ..self },
        }
    }

    /// The same place in the generation in use.
    fn for_generation(self, view: &View) -> Self {
        if self.generation == view.generation.number {
            return self;
        }
        let overlap = i64::try_from(OVERLAP.as_micros()).unwrap_or(i64::MAX);
        let from = Timestamp::from_micros(self.journaled.micros().saturating_sub(overlap));
        Self { generation: view.generation.number, arrival: view.arrival, given: Some((from, 0)), ..self }
    }
}

/// Found, with what it is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    order: (i64, u128),
    hit: Hit,
    journaled: Timestamp,
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the first ones, the last of them on top.
struct First {
    limit: usize,
    kept: BinaryHeap<Found>,
    dropped: bool,
}

impl First {
    fn arrived(
        &mut self,
        view: &View,
        query: &dyn Engine,
        from: u64,
        budget: &Budget,
    ) -> Result<(), SearchError> {
        let meets = |columns: &Columns| columns.last_arrival() >= from;
        self.search(view, view.standing.days_from(from), query, budget, meets, |columns, doc| {
            let arrival = columns.arrival(doc);
            // What is being committed now belongs to the next part.
            (from..view.arrival).contains(&arrival).then(|| (arrival as i64, columns.key(doc).id))
        })
    }

    fn journaled(
        &mut self,
        view: &View,
        query: &dyn Engine,
        given: (Timestamp, u128),
        before: u64,
        budget: &Budget,
    ) -> Result<(), SearchError> {
        let days = view.generation.days.newest_first(ALL_TIME.start.day()..=ALL_TIME.end.day());
        let meets = |columns: &Columns| columns.last_journaled() >= given.0;
        self.search(view, days, query, budget, meets, |columns, doc| {
            let journaled = columns.journaled(doc);
            if journaled < given.0 || columns.arrival(doc) >= before {
                return None;
            }
            let order = (journaled.micros(), columns.key(doc).id);
            (order > (given.0.micros(), given.1)).then_some(order)
        })
    }

    fn search(
        &mut self,
        view: &View,
        days: Vec<Day>,
        query: &dyn Engine,
        budget: &Budget,
        meets: impl Fn(&Columns) -> bool,
        order: impl Fn(&Columns, u32) -> Option<(i64, u128)>,
    ) -> Result<(), SearchError> {
        for day in days {
            let Some(open) = view.generation.days.get(day)? else { continue };
            let searcher = open.reader.searcher();
            let weight = query.weight(EnableScoring::disabled_from_searcher(&searcher))?;
            for reader in searcher.segment_readers() {
                let columns = Columns::open(reader)?;
                if meets(&columns) {
                    for_each(reader, &*weight, budget, |doc| {
                        if let Some(order) = order(&columns, doc) {
                            self.take(&columns, doc, order);
                        }
                    })?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, columns: &Columns, doc: u32, order: (i64, u128)) {
        if self.kept.len() >= self.limit {
            self.dropped = true;
            if self.kept.peek().is_some_and(|last| last.order <= order) {
                return;
            }
            self.kept.pop();
        }
        let key = columns.key(doc);
        let hit = Hit { id: key.record(), at: key.at };
        self.kept.push(Found { order, hit, journaled: columns.journaled(doc) });
    }

    fn into_page(self, token: TailToken, view: &View, budget: &Budget) -> TailPage {
        let mut found = self.kept.into_sorted_vec();
        let partial = budget.partial();
        // After its time was up a part may lack earlier records than it has: it is asked for again.
        let is_complete = partial != Some(Partial::Time);
        if !is_complete {
            found.clear();
        }
        let places: Vec<_> = found.iter().map(|found| (found.order, found.journaled)).collect();
        let mut next = token.after(&places);
        if is_complete && !self.dropped {
            match token.given {
                None => next.arrival = view.arrival,
                Some(_) => next.given = None,
            }
        }
        let more = is_complete && (self.dropped || token.given.is_some());
        let hits = found.into_iter().map(|found| found.hit).collect();
        TailPage { hits, token: next, more, partial, from: token, places }
    }
}

impl fmt::Display for TailToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, arrival, journaled, given } = self;
        write!(f, "1{generation:016x}{arrival:016x}{:016x}", journaled.micros() as u64)?;
        match given {
            Some((at, id)) => write!(f, "{:016x}{id:032x}", at.micros() as u64),
            None => Ok(()),
        }
    }
}

impl FromStr for TailToken {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let digits =
            text.strip_prefix('1').filter(|digits| digits.is_ascii()).ok_or(CursorError::Unreadable)?;
        let number = |at: usize| {
            let digits = digits.get(at..at + 16).ok_or(CursorError::Unreadable)?;
            u64::from_str_radix(digits, 16).map_err(|_| CursorError::Unreadable)
        };
        let time = |at: usize| number(at).map(|micros| Timestamp::from_micros(micros as i64));
        let given = match digits.len() {
            48 => None,
            96 => Some((time(48)?, u128::from(number(64)?) << 64 | u128::from(number(80)?))),
            _ => return Err(CursorError::Unreadable),
        };
        Ok(Self { generation: number(0)?, arrival: number(16)?, journaled: time(32)?, given })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        let live = TailToken {
            generation: 2,
            arrival: u64::MAX,
            journaled: Timestamp::from_micros(-1),
            given: None,
        };
        let catching_up = TailToken { given: Some((Timestamp::from_micros(3), u128::MAX - 1)), ..live };
        for token in [live, catching_up] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for text in ["", "1", "1zz", &live.to_string()[..40]] {
            assert_eq!(text.parse::<TailToken>(), Err(CursorError::Unreadable), "{text}");
        }
    }
}
