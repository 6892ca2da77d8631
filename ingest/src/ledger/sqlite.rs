//! The ledger of one machine: a SQLite file.
//!
//! The file is in WAL mode with `synchronous = FULL`: when [`Ledger::apply`] returns, the batch is on the disk.
//! One connection writes batches; readers have their own and see the state before or after a batch, never within.

mod apply;
mod read;

use std::{ops::Range, path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

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

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Queries that run at once. A read takes milliseconds; more threads than this do not make the disk faster.
const READERS: u32 = 4;

/// How long a statement waits for another writer. Batches and single rows of other tables are the only ones; the
/// longest, the removal of a part of a day, takes well under a second.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Larger pages hold several records each; with 4 KiB a record of 1 KiB packed would spill into pages of its own.
const PAGE_BYTES: u32 = 8192;

/// 32 MiB of pages are written to the log before they are copied into the file: a page that several batches
/// touch is copied once.
const CHECKPOINT_PAGES: &str = "4096";

/// 16 MiB (negative: KiB) of pages that the writer keeps: late events and several days at once touch pages all over.
const WRITER_CACHE: &str = "-16384";

/// A ledger in a SQLite file. Space of days that expired is used again; the file does not shrink.
#[derive(Debug)]
pub struct SqliteLedger {
    writer: SqlitePool,
    pool: SqlitePool,
    origins: OriginCache,
}

impl SqliteLedger {
    /// Opens the ledger in `file`, which is made when it is not there.
    ///
    /// # Errors
    /// When the file cannot be opened, is no ledger, or was written by a newer program.
    pub async fn open(file: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let writer = pool(1).after_release(|connection, _| Box::pin(is_usable(connection)));
        let writer = writer.connect_with(options.clone().pragma("cache_size", WRITER_CACHE)).await?;
        migrate(&MIGRATIONS, &writer).await?;
        let pool = pool(READERS).connect_lazy_with(options);
        Ok(Self { writer, pool, origins: OriginCache::default() })
    }

    /// Connections to the same file, for tables of other owners.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Ends every connection; what was applied is in the file.
    pub async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
    }
}

/// SQLite ends a transaction by itself when the disk is full, which sqlx does not notice: it still counts the
/// transaction, and no other could begin on the connection. Such a connection is closed and another one opened.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // A rollback that was begun by dropping the transaction is done once this is answered.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn key_check(&self, own: KeyCheck) -> Result<KeyCheck, LedgerError> {
        sqlx::query(deployment::KEEP).bind(&own.0[..]).execute(&self.writer).await?;
        let stored: Vec<u8> = sqlx::query_scalar(deployment::KEPT).fetch_one(&self.writer).await?;
        deployment::kept(&stored).map(KeyCheck)
    }

    async fn apply(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError> {
        self.apply_batch(log, batch).await
    }

    async fn positions(&self, log: &LogId) -> Result<Positions, LedgerError> {
        read::positions(&self.pool, log).await
    }

    async fn current_log(&self) -> Result<Option<LogId>, LedgerError> {
        read::current_log(&self.pool).await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Record>, LedgerError> {
        read::get(&self.pool, &self.origins, ids).await
    }

    async fn scan(
        &self,
        days: Range<Day>,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Record>, LedgerError> {
        read::scan(&self.pool, &self.origins, days, after, limit).await
    }

    async fn days(&self) -> Result<Vec<(Day, u64)>, LedgerError> {
        read::days(&self.pool).await
    }

    async fn expire(&self, first: Day) -> Result<Vec<Day>, LedgerError> {
        self.remove_days(first).await
    }

    async fn boots(&self, received: Range<Timestamp>) -> Result<Vec<BootSummary>, LedgerError> {
        read::boots(&self.pool, received).await
    }

    async fn gaps(&self) -> Result<Vec<Gap>, LedgerError> {
        read::gaps(&self.pool).await
    }

    async fn unfinished(&self, received: Range<Timestamp>) -> Result<Vec<Unfinished>, LedgerError> {
        read::unfinished(&self.pool, received).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::laws;

    async fn ledger() -> (SqliteLedger, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (SqliteLedger::open(&folder.path().join("ledger.sqlite")).await.unwrap(), folder)
    }

    laws::tests!(ledger);

    #[tokio::test]
    async fn a_database_of_a_newer_program_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        let ledger = SqliteLedger::open(&file).await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (9000, 'later', 0, TRUE, x'00', 0)")
            .execute(&ledger.writer)
            .await
            .unwrap();
        ledger.close().await;
        let refused = SqliteLedger::open(&file).await.unwrap_err();
        assert!(matches!(refused, OpenError::Newer { found: 9000, .. }), "{refused}");
        assert!(refused.to_string().contains("9000"), "{refused}");
    }

    #[tokio::test]
    async fn a_batch_that_found_the_disk_full_is_applied_once_there_is_room() {
        let (ledger, _folder) = ledger().await;
        sqlx::query("PRAGMA max_page_count = 1").execute(&ledger.writer).await.unwrap();
        let mut record = laws::record(1, 1, "2026-11-23T14:45:57.518778Z");
        let noise: String =
            (0..40_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        record.event = format!(r#"{{"auditID":"{noise}"}}"#).into();
        let batch = Batch { records: vec![record], ..Batch::default() };
        let full = ledger.apply(&laws::log(), &batch).await.unwrap_err();
        assert!(matches!(full, LedgerError::Unavailable(_)), "{full:?}");
        // The limit went with its connection, as if the disk had room again.
        assert_eq!(ledger.apply(&laws::log(), &batch).await.unwrap().inserted, 1);
    }

    #[tokio::test]
    async fn a_file_that_is_no_ledger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.sqlite");
        std::fs::write(&file, vec![b'x'; 4096]).unwrap();
        assert!(matches!(SqliteLedger::open(&file).await.unwrap_err(), OpenError::Refused(_)));
    }

    #[tokio::test]
    async fn the_view_shows_records_as_people_read_them() {
        let (ledger, _folder) = ledger().await;
        let mut record = laws::record(1, 1, "2026-11-23T14:45:57.518778Z");
        record.event = bytes::Bytes::from_static(
            br#"{"auditID":"b0f21d44-2ff0-4c89-98df-bd20286ab0bb","verb":"get","user":{"username":"jane"},"objectRef":{"resource":"secrets","namespace":"prod","name":"db"},"responseStatus":{"code":403}}"#,
        );
        let batch = Batch { records: vec![record], ..Batch::default() };
        ledger.apply(&laws::log(), &batch).await.unwrap();
        let row: (String, String, String, String, String, String, i64) = sqlx::query_as(
            "SELECT at, cluster, audit_id, verb, username, resource || '/' || namespace || '/' || name, code FROM events",
        )
        .fetch_one(ledger.pool())
        .await
        .unwrap();
        assert_eq!(row.0, "2026-11-23T14:45:57.518778Z");
        assert_eq!((&*row.1, &*row.2), ("demo", "b0f21d44-2ff0-4c89-98df-bd20286ab0bb"));
        assert_eq!((&*row.3, &*row.4, &*row.5, row.6), ("get", "jane", "secrets/prod/db", 403));
    }
}
