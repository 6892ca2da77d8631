//! The `day_keys` table, in whichever database the ledger has.

use ingest::time::{Day, Timestamp};
use sqlx::FromRow;
use uuid::Uuid;

use super::KeyError;
use crate::tokens::store::Store;

const ALL: &str = "SELECT day, id, wrapped, created_at, shredded_at FROM day_keys ORDER BY day";
const ONE: &str = "SELECT day, id, wrapped, created_at, shredded_at FROM day_keys WHERE day = $1";
const INSERT: &str = "INSERT INTO day_keys (day, id, wrapped, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (day) DO NOTHING";
const REWRAP: &str = "UPDATE day_keys SET wrapped = $3 WHERE day = $1 AND wrapped = $2";
const SHRED: &str =
    "UPDATE day_keys SET wrapped = NULL, shredded_at = coalesce(shredded_at, $2) WHERE day = $1";
const EXPIRE: &str = "DELETE FROM day_keys WHERE day < $1";

/// How often the embedded database's log is asked to be emptied while somebody reads it.
const CHECKPOINTS: usize = 20;

/// The key of a day as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) day: Day,
    pub(super) id: Uuid,
    pub(super) created_at: Timestamp,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// As the encryption configuration's provider wrote it.
    Wrapped(Vec<u8>),
    /// Since when it is gone.
    Shredded(Timestamp),
}

#[derive(FromRow)]
struct Columns {
    day: i64,
    id: Uuid,
    wrapped: Option<Vec<u8>>,
    created_at: i64,
    shredded_at: Option<i64>,
}

impl TryFrom<Columns> for Row {
    type Error = KeyError;

    fn try_from(columns: Columns) -> Result<Self, KeyError> {
        let corrupt = || KeyError::Corrupt(columns.id);
        let state = match (columns.wrapped, columns.shredded_at) {
            (Some(wrapped), None) => State::Wrapped(wrapped),
            (None, Some(at)) => State::Shredded(Timestamp::from_micros(at)),
            _ => return Err(corrupt()),
        };
        Ok(Self {
            day: Day::from_number(columns.day.try_into().map_err(|_| corrupt())?),
            id: columns.id,
            created_at: Timestamp::from_micros(columns.created_at),
            state,
        })
    }
}

/// Runs a query that has its parameters, on whichever pool there is.
macro_rules! on {
    ($store:expr, |$pool:ident| $run:expr) => {
        match $store {
            Self::Sqlite($pool) => $run,
            Self::Postgres($pool) => $run,
        }
    };
}

impl Store {
    pub(super) async fn day_keys(&self) -> Result<Vec<Row>, KeyError> {
        let rows: Vec<Columns> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        rows.into_iter().map(Row::try_from).collect()
    }

    pub(super) async fn day_key(&self, day: Day) -> Result<Option<Row>, KeyError> {
        let day = i64::from(day.number());
        let row: Option<Columns> =
            on!(self, |pool| sqlx::query_as(ONE).bind(day).fetch_optional(pool).await?);
        row.map(Row::try_from).transpose()
    }

    /// Adds the key of a day that has none, durably.
    pub(super) async fn add_day_key(
        &self,
        day: Day,
        id: Uuid,
        wrapped: &[u8],
        at: Timestamp,
    ) -> Result<(), KeyError> {
        let day = i64::from(day.number());
        on!(self, |pool| {
            sqlx::query(INSERT).bind(day).bind(id).bind(wrapped).bind(at.micros()).execute(pool).await?;
        });
        Ok(())
    }

    /// Puts another wrapping of the same key in the place of one that is still there.
    pub(super) async fn rewrap_day_key(&self, day: Day, old: &[u8], new: &[u8]) -> Result<(), KeyError> {
        let day = i64::from(day.number());
        on!(self, |pool| {
            sqlx::query(REWRAP).bind(day).bind(old).bind(new).execute(pool).await?;
        });
        Ok(())
    }

    /// Drops the key of a day, and returns when the database's own files do not hold it any more.
    pub(super) async fn shred_day_key(&self, day: Day, at: Timestamp) -> Result<(), KeyError> {
        let day = i64::from(day.number());
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await?;
                sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await?;
                sqlx::query(SHRED).bind(day).bind(at.micros()).execute(&mut *connection).await?;
                sqlx::query("PRAGMA secure_delete = OFF").execute(&mut *connection).await?;
                // What was there before also lies in the database's log until that is empty.
                for _ in 0..CHECKPOINTS {
                    let (is_busy, _, _): (i64, i64, i64) =
                        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
                    if is_busy == 0 {
                        return Ok(());
                    }
                }
                Err(KeyError::NotErased)
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                sqlx::query(SHRED).bind(day).bind(at.micros()).execute(&mut *connection).await?;
                // The row that was there before lies in the table's file until that is written anew.
                sqlx::query("VACUUM FULL day_keys").execute(&mut *connection).await?;
                Ok(())
            }
        }
    }

    /// Removes the keys of the days before `first`.
    pub(super) async fn expire_day_keys(&self, first: Day) -> Result<(), KeyError> {
        let first = i64::from(first.number());
        on!(self, |pool| {
            sqlx::query(EXPIRE).bind(first).execute(pool).await?;
        });
        Ok(())
    }
}
