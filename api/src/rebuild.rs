//! `/v1/rebuild`: makes the index anew from the ledger, one at a time, and tells how far that is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use index::{Index, IndexError, Lacking, Progress};
use ingest::{ledger::Ledger, time::Day};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    errors::{ApiError, chain},
    later::Later,
};

/// The state of the last rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RebuildState {
    /// None since the start.
    #[default]
    Idle,
    /// Under way.
    Running {
        /// Records read so far.
        done: u64,
        /// Records that the ledger held at the beginning.
        total: u64,
    },
    /// The new index is in use.
    Done {
        /// Records read.
        done: u64,
        /// The same.
        total: u64,
    },
    /// It ended without a new index; the old one is in use.
    Failed {
        /// Why.
        error: String,
    },
}

/// Rebuilds the index. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Rebuilder {
    index: Index,
    ledger: Later<Arc<dyn Ledger>>,
    state: Arc<Mutex<RebuildState>>,
    asked: Arc<Notify>,
    stop: CancellationToken,
}

impl Rebuilder {
    /// Rebuilds end early at `stop`.
    pub fn new(index: Index, ledger: Later<Arc<dyn Ledger>>, stop: CancellationToken) -> Self {
        Self { index, ledger, state: Arc::default(), asked: Arc::default(), stop }
    }

    /// Makes the index anew because of what it lacks. True when that is in use; false when it failed, or when another
    /// rebuild is under way.
    pub async fn run(&self, lacking: &Lacking) -> bool {
        if !self.begin() {
            return false;
        }
        tracing::warn!("{lacking}: the index is being made anew from the ledger and lacks events until then");
        self.rebuild().await
    }

    /// The same because of what it holds, in words. It lacks nothing meanwhile.
    pub async fn renew(&self, why: &str) -> bool {
        if !self.begin() {
            return false;
        }
        tracing::info!("{why}: the index is being made anew from the ledger");
        self.rebuild().await
    }

    /// Indexes these days again, in their place, because their bodies were shredded. True when none of them is in a file
    /// of the index any more.
    pub async fn renew_days(&self, days: &BTreeSet<Day>) -> bool {
        if !self.begin() {
            return false;
        }
        let ledger = self.ledger.wait().await;
        let mut done = 0;
        for day in days {
            tracing::info!(%day, "the key of a day was dropped: it is being indexed again without its bodies");
            let show = |progress| self.show(progress);
            match self.index.renew_day(*day, &*ledger, &self.stop, show).await {
                Ok(read) => done += read,
                Err(error) => {
                    return self.failed(
                        &error,
                        "a day was not indexed again; what was shredded is found in it still",
                    );
                }
            }
        }
        tracing::info!(records = done, "the days were indexed again without their bodies");
        self.set(RebuildState::Done { done, total: done });
        true
    }

    /// Does what is asked for over HTTP, until the stop: for the task that whoever spawns tasks gives to it.
    pub async fn serve(&self) {
        while self.stop.run_until_cancelled(self.asked.notified()).await.is_some() {
            self.rebuild().await;
        }
    }

    fn begin(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !matches!(*state, RebuildState::Running { .. });
        if free {
            *state = RebuildState::Running { done: 0, total: 0 };
        }
        free
    }

    async fn rebuild(&self) -> bool {
        let ledger = self.ledger.wait().await;
        let show = |progress| self.show(progress);
        match self.index.rebuild(&*ledger, &self.stop, show).await {
            Ok(done) => {
                tracing::info!(records = done, "the index was made anew and is in use");
                self.set(RebuildState::Done { done, total: done });
                true
            }
            Err(error) => self.failed(&error, "the index was not made anew; the old one is in use"),
        }
    }

    fn failed(&self, error: &IndexError, meaning: &'static str) -> bool {
        match error {
            IndexError::Cancelled => tracing::info!("{error}"),
            _ => tracing::error!(error = chain(error), "{meaning}"),
        }
        self.set(RebuildState::Failed { error: chain(error) });
        false
    }

    fn show(&self, progress: Progress) {
        self.set(RebuildState::Running { done: progress.done, total: progress.total });
    }

    fn set(&self, state: RebuildState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How far the last one is.
    pub fn state(&self) -> RebuildState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) async fn start(State(rebuilder): State<Rebuilder>) -> Result<impl IntoResponse, ApiError> {
    if rebuilder.ledger.get().is_none() {
        return Err(ApiError::unavailable(
            "ledger_unavailable",
            "the ledger's database is not connected yet",
        ));
    }
    if !rebuilder.begin() {
        return Err(ApiError::new(StatusCode::CONFLICT, "rebuilding", "the index is being rebuilt already"));
    }
    tracing::info!("the index is being made anew from the ledger, as it was asked to be");
    rebuilder.asked.notify_one();
    Ok((StatusCode::ACCEPTED, Json(rebuilder.state())))
}

pub(crate) async fn progress(State(rebuilder): State<Rebuilder>) -> Json<RebuildState> {
    Json(rebuilder.state())
}
