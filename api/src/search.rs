//! The way from a question to the index: every query goes through a scope, and none beside it.

use std::{fmt, sync::Arc};

use index::{
    Commit, Histogram, HistogramRequest, Index, Page, QUERY_TIME, SearchError, SearchRequest, TailPage,
    TailToken,
};
use ingest::{
    ledger::Ledger,
    log::Log,
    record::Record,
    time::{Clock, Timestamp},
};
use tokio::sync::watch;

use crate::{
    access::{Scope, scope::Narrowed},
    bodies::DayKeys,
    errors::ApiError,
    later::Later,
};

/// Answers queries. Clones are handles of the same.
#[derive(Clone)]
pub struct Search {
    index: Index,
    ledger: Later<Arc<dyn Ledger>>,
    log: Later<Arc<dyn Log>>,
    clock: Clock,
    bodies: Option<DayKeys>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Search")
    }
}

impl Search {
    /// Records are found in `index` and are in `ledger`; both are fed from `log`. The clock says what `now` in a query
    /// means.
    pub fn new(index: Index, ledger: Later<Arc<dyn Ledger>>, log: Later<Arc<dyn Log>>, clock: Clock) -> Self {
        Self { index, ledger, log, clock, bodies: None }
    }

    /// The same, which opens sealed bodies for whoever reads one event.
    #[must_use]
    pub fn opening(self, bodies: DayKeys) -> Self {
        Self { bodies: Some(bodies), ..self }
    }

    /// The record with its bodies open, or with what is to be said in their place.
    pub(crate) async fn opened(&self, record: Record) -> Record {
        let Some(bodies) = &self.bodies else { return record };
        Record { event: bodies.open_for_reader(&record).await, ..record }
    }

    /// The ledger, when it is connected.
    pub(crate) fn ledger(&self) -> Result<Arc<dyn Ledger>, ApiError> {
        self.ledger.get().ok_or_else(|| {
            ApiError::unavailable("ledger_unavailable", "the ledger's database is not connected yet")
        })
    }

    /// The log, when it is connected.
    pub(crate) fn log(&self) -> Option<Arc<dyn Log>> {
        self.log.get()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads a query as of now, for whoever sees this.
    pub(crate) fn parse(&self, text: &str, scope: &Scope) -> Result<Narrowed, ApiError> {
        Ok(scope.narrow(index::query::parse(text, self.clock.now())?))
    }

    /// See [`Index::search`].
    pub(crate) async fn find(&self, query: &Narrowed, request: SearchRequest) -> Result<Page, SearchError> {
        self.index.search(query.query(), request).await
    }

    /// See [`Index::histogram`].
    pub(crate) async fn count(
        &self,
        query: &Narrowed,
        request: HistogramRequest,
    ) -> Result<Histogram, SearchError> {
        self.index.histogram(query.query(), request).await
    }

    /// See [`Index::tail`].
    pub(crate) async fn follow(
        &self,
        query: &Narrowed,
        token: TailToken,
        limit: usize,
    ) -> Result<TailPage, SearchError> {
        self.index.tail(query.query(), token, limit, QUERY_TIME).await
    }

    /// See [`Index::tail_from`].
    pub(crate) fn tail_from_now(&self) -> TailToken {
        self.index.tail_from(self.clock.now())
    }

    /// See [`Index::commits`].
    pub(crate) fn commits(&self) -> watch::Receiver<Commit> {
        self.index.commits()
    }
}
