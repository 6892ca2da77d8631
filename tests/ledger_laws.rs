//! The laws of the ledger on a real Postgres; the SQLite ledger runs them in its crate.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;

use engines::Database;
use ingest::ledger::{PostgresLedger, laws};

async fn ledger() -> (PostgresLedger, Database) {
    let database = Database::create().await;
    (PostgresLedger::connect(&database.url()).await.unwrap(), database)
}

laws::tests!(ledger);
