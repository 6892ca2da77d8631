//! Opening the file: its settings, its schema, what it has come to.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Error, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::gateway::store::Revision;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/cluster");

/// Queries that run at once. A read takes tens of microseconds; more threads do not make the disk faster.
const READERS: u32 = 4;

/// How long a statement waits for the other writer, which is only ever the last moments of a process before this one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Objects of 1 to 3 KiB fit several to a page, without pages of their own.
const PAGE_BYTES: u32 = 8192;

/// 32 MiB of pages are written to the log before they are copied into the file: a page that many changes touch is
/// copied once.
const CHECKPOINT_PAGES: &str = "4096";

/// 8 MiB (negative: KiB) of pages that each connection keeps.
const CACHE: &str = "-8192";

/// Why a cluster store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened, or is not a SQLite database.
    #[error("the cluster store's file cannot be opened")]
    File(#[source] Error),
    /// A newer program migrated the file.
    #[error(
        "the cluster store's file has migration {found}, this program knows those up to {known}: \
         a newer muniment wrote it, start that one"
    )]
    Newer {
        /// The migration that is unknown here.
        found: i64,
        /// The newest migration of this program.
        known: i64,
    },
    /// The schema is not the one that this program made.
    #[error("the cluster store's file was migrated by other means")]
    Foreign(#[source] MigrateError),
}

pub(super) struct Opened {
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
    pub(super) options: SqliteConnectOptions,
    pub(super) written: Revision,
}

pub(super) async fn open(file: &Path) -> Result<Opened, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
    let mut writer = options.clone().connect().await.map_err(OpenError::File)?;
    migrate(&mut writer).await?;
    let written = super::read::reached(&mut writer).await.map_err(OpenError::File)?.written;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone().read_only(true));
    Ok(Opened { writer, readers, options, written })
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > known => OpenError::Newer { found, known },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => OpenError::File(error),
        error => OpenError::Foreign(error),
    })
}
