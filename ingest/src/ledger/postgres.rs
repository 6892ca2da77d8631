//! The ledger of many machines: Postgres, with a partition for each UTC day.
//!
//! Several recorders write at once. Every transaction takes its locks in one order: positions by partition, records by
//! id, boots by source and start, days. So none waits for another in a circle, and a position is locked for as short as
//! can be: after the batch has been sent.

mod apply;
mod copy;
mod follow;
mod partitions;
mod read;
mod time;

use std::{future::Future, ops::Range, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Executor, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use self::{follow::Following, partitions::Partitions};
use super::{
    Applied, Batch, BootSummary, Gap, Ledger, LedgerError, deployment,
    open::{OpenError, migrate},
    origin::OriginCache,
};
use crate::{
    identity::KeyCheck,
    log::{LogId, Positions},
    pipeline::Unfinished,
    record::{Record, RecordId},
    time::{Day, Timestamp},
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Connections for queries and for tables of other owners.
const READERS: u32 = 8;

/// Connections that apply batches: a recorder has one batch under way, and one more stands in for a lost connection.
const WRITERS: u32 = 2;

/// How long a caller waits for a connection: a server that does not answer within it counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take. A server that vanished without a word would hold it for ever otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// What each session asks the server for, each with its reason.
const SESSION: [(&str, &str); 7] = [
    // A batch takes milliseconds, the longest scan seconds.
    ("statement_timeout", "60s"),
    // Another recorder's batch is over sooner, or it is frozen and its session ends as the next line says.
    ("lock_timeout", "30s"),
    // A recorder that is frozen within a transaction lets go of its locks.
    ("idle_in_transaction_session_timeout", "10s"),
    // Only a plan made for its values leaves out the partitions that it does not need, and their locks.
    ("plan_cache_mode", "force_custom_plan"),
    // Compiling a plan over many partitions takes longer than running it.
    ("jit", "off"),
    ("client_min_messages", "warning"),
    ("timezone", "UTC"),
];

/// A ledger in a Postgres database.
#[derive(Debug)]
pub struct PostgresLedger {
    writers: PgPool,
    pool: PgPool,
    following: Following,
    origins: OriginCache,
    partitions: Partitions,
}

impl PostgresLedger {
    /// Connects to the database at `url` (`postgres://…`) and brings its schema to this program's version.
    ///
    /// # Errors
    /// When the database cannot be reached, refuses, or was migrated by a newer program.
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(OpenError::Address)?
            .application_name("muniment")
            .options(SESSION);
        let pool = connections(READERS).connect_with(options.clone()).await?;
        if let Err(error) = migrate(&MIGRATIONS, &pool).await {
            // The connection may still hold the lock of those who migrate.
            pool.close().await;
            return Err(error);
        }
        let following = Following::new(options.clone());
        let writers = connections(WRITERS)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(apply::STAGING).await.map(|_| ()) })
            })
            .connect_lazy_with(options);
        Ok(Self {
            writers,
            pool,
            following,
            origins: OriginCache::default(),
            partitions: Partitions::default(),
        })
    }

    /// Connections to the same database, for tables of other owners.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Ends every connection.
    pub async fn close(&self) {
        self.following.close().await;
        self.pool.close().await;
        self.writers.close().await;
    }
}

fn connections(most: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT)
}

async fn bounded<T>(call: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    let timed = tokio::time::timeout(CALL_TIMEOUT, call).await;
    timed.unwrap_or_else(|elapsed| Err(LedgerError::Unavailable(elapsed.into())))
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn key_check(&self, own: KeyCheck) -> Result<KeyCheck, LedgerError> {
        bounded(async {
            sqlx::query(deployment::KEEP).bind(&own.0[..]).execute(&self.pool).await?;
            let stored: Vec<u8> = sqlx::query_scalar(deployment::KEPT).fetch_one(&self.pool).await?;
            deployment::kept(&stored).map(KeyCheck)
        })
        .await
    }

    async fn follow(&self, log: &LogId) -> Result<(), LedgerError> {
        bounded(self.following.follow(log)).await
    }

    async fn apply(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError> {
        bounded(self.apply_batch(log, batch)).await
    }

    async fn positions(&self, log: &LogId) -> Result<Positions, LedgerError> {
        bounded(read::positions(&self.pool, log)).await
    }

    async fn current_log(&self) -> Result<Option<LogId>, LedgerError> {
        bounded(read::current_log(&self.pool)).await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Record>, LedgerError> {
        bounded(read::get(&self.pool, &self.origins, ids)).await
    }

    async fn scan(
        &self,
        days: Range<Day>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, LedgerError> {
        bounded(read::scan(&self.pool, &self.origins, days, after, limit)).await
    }

    async fn days(&self) -> Result<Vec<(Day, u64)>, LedgerError> {
        bounded(read::days(&self.pool)).await
    }

    async fn expire(&self, first: Day) -> Result<Vec<Day>, LedgerError> {
        self.partitions.remove_before(&self.pool, first).await
    }

    async fn boots(&self, received: Range<Timestamp>) -> Result<Vec<BootSummary>, LedgerError> {
        bounded(read::boots(&self.pool, received)).await
    }

    async fn gaps(&self) -> Result<Vec<Gap>, LedgerError> {
        bounded(read::gaps(&self.pool)).await
    }

    async fn unfinished(&self, received: Range<Timestamp>) -> Result<Vec<Unfinished>, LedgerError> {
        bounded(read::unfinished(&self.pool, received)).await
    }
}
