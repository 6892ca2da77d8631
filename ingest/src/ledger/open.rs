//! Opening a ledger: bringing its schema to this program's version, never back from a newer one.

use std::ops::Deref;

use sqlx::{
    Acquire, Error,
    migrate::{Migrate, MigrateError, Migrator},
};

use super::failure::passes;

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is not one.
    #[error("the ledger's address does not read")]
    Address(#[source] Error),
    /// The database cannot be reached now: trying again later is right.
    #[error("the ledger's database is unavailable")]
    Unavailable(#[source] Error),
    /// The database answered with an error that trying again does not mend.
    #[error("the ledger's database refuses")]
    Refused(#[source] Error),
    /// A newer program migrated the database.
    #[error(
        "the ledger's database has migration {found}, this program knows those up to {known}: \
         a newer muniment wrote it, start that one"
    )]
    Newer {
        /// The migration that is unknown here.
        found: i64,
        /// The newest migration of this program.
        known: i64,
    },
    /// The schema is not the one that this program made.
    #[error("the ledger's database was migrated by other means")]
    Foreign(#[source] MigrateError),
}

impl OpenError {
    /// Whether trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        match error {
            Error::Configuration(_) => Self::Address(error),
            error if passes(&error) => Self::Unavailable(error),
            error => Self::Refused(error),
        }
    }
}

/// Applies the migrations that the database lacks. Several programs may do so at once.
pub(super) async fn migrate<'a, A>(migrations: &Migrator, database: A) -> Result<(), OpenError>
where
    A: Acquire<'a>,
    <A::Connection as Deref>::Target: Migrate,
{
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    migrations.run(database).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > known => OpenError::Newer { found, known },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        error => OpenError::Foreign(error),
    })
}
