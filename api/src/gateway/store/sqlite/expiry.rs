//! Deletes the keys whose time to live is over.

use std::time::Duration;

use ingest::time::Clock;
use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::writer::{Job, Write};
use crate::gateway::store::Revision;

/// How often keys are looked for: one step in an index when there are none.
const EVERY: Duration = Duration::from_secs(1);

/// Keys that are deleted at once; the rest follows without a pause.
const AT_ONCE: i64 = 64;

pub(super) struct Expiry {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    clock: Clock,
}

impl Expiry {
    pub(super) fn new(jobs: mpsc::Sender<Job>, readers: SqlitePool, clock: Clock) -> Self {
        Self { jobs, readers, clock }
    }

    pub(super) async fn run(self) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            while self.expire_some().await {}
        }
    }

    /// Whether there may be more.
    async fn expire_some(&self) -> bool {
        let expired: Result<Vec<(String, i64)>, _> = sqlx::query_as(
            "SELECT key, revision FROM latest WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?",
        )
        .bind(self.clock.now().micros())
        .bind(AT_ONCE)
        .fetch_all(&self.readers)
        .await;
        match expired {
            Ok(expired) => self.delete(expired).await,
            Err(error) => {
                warn!(error = %error, "the cluster store could not look for expired keys");
                false
            }
        }
    }

    async fn delete(&self, expired: Vec<(String, i64)>) -> bool {
        let more = expired.len() as i64 == AT_ONCE;
        let mut answers = Vec::with_capacity(expired.len());
        for (key, revision) in expired {
            let (answer, answered) = oneshot::channel();
            let write = Write { key, put: None, expected: Some(Revision::of(revision)), answer };
            if self.jobs.send(Job::Write(write)).await.is_err() {
                return false;
            }
            answers.push(answered);
        }
        // A key that was written meanwhile has a new time to live: its deletion conflicts, as it should.
        let mut failed = false;
        for answered in answers {
            failed |=
                !matches!(answered.await, Ok(Ok(_) | Err(crate::gateway::store::WriteError::Conflict(_))));
        }
        more && !failed
    }
}
