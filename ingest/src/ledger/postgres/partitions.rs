//! Partitions: one for each UTC day that holds records, made when its first record comes and removed as a whole.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool};

use crate::{ledger::LedgerError, record::RecordId, time::Day};

/// First half of the advisory locks under which a day's partition is made or removed; the second is the day.
const LOCK: i32 = 0x4d75_6e69;

/// The days whose partitions are known to be there.
#[derive(Debug, Default)]
pub(super) struct Partitions(Mutex<BTreeSet<Day>>);

/// A name made of digits only: nothing in it needs quotes.
fn name(day: Day) -> String {
    format!("record_{}", day.to_string().replace(['-', '+'], ""))
}

impl Partitions {
    /// Makes the partitions that are missing, each in a transaction of its own: no lock is held over the others.
    pub(super) async fn ensure(&self, pool: &PgPool, days: BTreeSet<Day>) -> Result<(), LedgerError> {
        let missing: Vec<Day> = days.difference(&self.known()).copied().collect();
        for day in missing {
            make(pool, day).await?;
            self.known().insert(day);
        }
        Ok(())
    }

    /// Another program may have removed a partition that was known here.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<Day>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the days before `first`, the oldest first. A removal that was interrupted goes on with the next call.
    pub(super) async fn remove_before(&self, pool: &PgPool, first: Day) -> Result<Vec<Day>, LedgerError> {
        let days: Vec<i32> = sqlx::query_scalar(
            "SELECT day - DATE '1970-01-01' FROM day WHERE day - DATE '1970-01-01' < $1 ORDER BY day",
        )
        .bind(first.number())
        .fetch_all(pool)
        .await?;
        let days: Vec<Day> = days.into_iter().map(Day::from_number).collect();
        for &day in &days {
            self.known().remove(&day);
            remove(pool, day).await?;
        }
        Ok(days)
    }
}

/// A table is made and then attached: that waits for no reader, as `CREATE TABLE … PARTITION OF` would.
async fn make(pool: &PgPool, day: Day) -> Result<(), LedgerError> {
    let mut tx = pool.begin().await?;
    lock(&mut tx, day).await?;
    let name = name(day);
    match state(&mut tx, &name).await? {
        State::Attached => return Ok(()),
        // What a removal that was interrupted left.
        State::Detached => drop_day(&mut tx, day).await?,
        State::Missing => {}
    }
    let (from, to) = (RecordId::floor(day.start()), RecordId::floor(day.plus(1).start()));
    let sql = format!(
        "CREATE TABLE {name} (LIKE record INCLUDING ALL) WITH (toast_tuple_target = 8160); \
         ALTER TABLE record ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
    );
    tx.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(tx.commit().await?)
}

/// Detaching concurrently waits for those who use the table, and lets everybody else go on.
async fn remove(pool: &PgPool, day: Day) -> Result<(), LedgerError> {
    let mut connection = pool.acquire().await?;
    let name = name(day);
    // Whether a former removal left the partition half detached only the attempt tells.
    if let State::Attached = state(&mut connection, &name).await? {
        let detach = format!("ALTER TABLE record DETACH PARTITION {name}");
        let concurrently = raw(&mut connection, format!("{detach} CONCURRENTLY")).await;
        if concurrently.is_err() && is_pending(&mut connection, &name).await? {
            raw(&mut connection, format!("{detach} FINALIZE")).await?;
        } else {
            concurrently?;
        }
    }
    drop(connection);
    let mut tx = pool.begin().await?;
    lock(&mut tx, day).await?;
    if !matches!(state(&mut tx, &name).await?, State::Attached) {
        drop_day(&mut tx, day).await?;
    }
    Ok(tx.commit().await?)
}

async fn raw(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(|_| ())
}

async fn drop_day(tx: &mut PgConnection, day: Day) -> Result<(), LedgerError> {
    raw(tx, format!("DROP TABLE IF EXISTS {}", name(day))).await?;
    sqlx::query("DELETE FROM day WHERE day = DATE '1970-01-01' + $1").bind(day.number()).execute(tx).await?;
    Ok(())
}

async fn lock(tx: &mut PgConnection, day: Day) -> Result<(), LedgerError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCK).bind(day.number()).execute(tx).await?;
    Ok(())
}

enum State {
    Missing,
    Attached,
    Detached,
}

async fn state(connection: &mut PgConnection, name: &str) -> Result<State, LedgerError> {
    let attached: Option<bool> = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = found.oid) \
         FROM (SELECT to_regclass($1)::oid AS oid) AS found WHERE found.oid IS NOT NULL",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    Ok(match attached {
        None => State::Missing,
        Some(true) => State::Attached,
        Some(false) => State::Detached,
    })
}

async fn is_pending(connection: &mut PgConnection, name: &str) -> Result<bool, LedgerError> {
    let pending: Option<bool> =
        sqlx::query_scalar("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1)")
            .bind(name)
            .fetch_optional(connection)
            .await?;
    Ok(pending.unwrap_or(false))
}
