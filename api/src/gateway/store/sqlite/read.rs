//! Reads: one key, a listing at a revision, how far the store has come.

use sqlx::{Connection, Error, FromRow, SqliteConnection, SqlitePool};

use crate::gateway::store::{Item, List, Listing, Read, Revision, StoreError, Versioned, key::end_of};

/// How far things have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    pub(super) written: Revision,
    pub(super) compacted: Revision,
    pub(super) removed: Revision,
}

pub(super) async fn reached(connection: &mut SqliteConnection) -> Result<Reached, Error> {
    let row: (i64, i64, i64) =
        sqlx::query_as("SELECT written, compacted, removed FROM reached").fetch_one(connection).await?;
    Ok(Reached { written: Revision::of(row.0), compacted: Revision::of(row.1), removed: Revision::of(row.2) })
}

pub(super) async fn current(readers: &SqlitePool) -> Result<Revision, StoreError> {
    let written = sqlx::query_scalar("SELECT written FROM reached").fetch_one(readers).await?;
    Ok(Revision::of(written))
}

/// One statement sees one state.
const GET: &str = "SELECT reached.written, revisions.revision, revisions.created, revisions.value \
    FROM reached LEFT JOIN latest ON latest.key = ? LEFT JOIN revisions ON revisions.revision = latest.revision";

#[derive(FromRow)]
struct Found {
    written: i64,
    revision: Option<i64>,
    created: Option<i64>,
    value: Option<Vec<u8>>,
}

pub(super) async fn get(readers: &SqlitePool, key: &str) -> Result<Read, StoreError> {
    let mut connection = readers.acquire().await?;
    Ok(get_row(&mut connection, key).await?)
}

pub(super) async fn get_row(connection: &mut SqliteConnection, key: &str) -> Result<Read, Error> {
    let found: Found = sqlx::query_as(GET).bind(key).fetch_one(connection).await?;
    let value = match (found.value, found.created, found.revision) {
        (Some(value), Some(created), Some(modified)) => {
            Some(Versioned::new(value.into(), Revision::of(created), Revision::of(modified)))
        }
        _ => None,
    };
    Ok(Read { value, revision: Revision::of(found.written) })
}

/// The keys of now. `?1` to `?3` are the first key, whether that one itself is meant, and the end of the range. A range
/// without an end goes to the empty BLOB, which is greater than every TEXT.
const NOW: &str = "SELECT latest.key, revisions.revision, revisions.created, revisions.value \
    FROM latest JOIN revisions ON revisions.revision = latest.revision \
    WHERE latest.key >= ?1 AND (latest.key > ?1 OR ?2) AND latest.key < coalesce(?3, x'') \
    ORDER BY latest.key LIMIT ?4";

const COUNT_NOW: &str = "SELECT count(*) FROM latest WHERE key > ?1 AND key < coalesce(?2, x'')";

/// The same at revision `?5`: of each key the last row up to there, unless that row is its deletion.
const THEN: &str = "SELECT last.key, revisions.revision, revisions.created, revisions.value \
    FROM (SELECT key, max(revision) AS revision FROM revisions \
          WHERE key >= ?1 AND (key > ?1 OR ?2) AND key < coalesce(?3, x'') AND revision <= ?5 \
          GROUP BY key ORDER BY key) AS last \
    JOIN revisions ON revisions.revision = last.revision \
    WHERE revisions.value IS NOT NULL ORDER BY last.key LIMIT ?4";

const COUNT_THEN: &str = "SELECT count(*) \
    FROM (SELECT max(revision) AS revision FROM revisions \
          WHERE key > ?1 AND key < coalesce(?2, x'') AND revision <= ?3 GROUP BY key) AS last \
    JOIN revisions ON revisions.revision = last.revision WHERE revisions.value IS NOT NULL";

pub(super) async fn list(readers: &SqlitePool, list: &List<'_>) -> Result<Listing, StoreError> {
    let mut connection = readers.acquire().await?;
    // A transaction, so that the page, the count and the revision are of one state.
    let mut tx = connection.begin().await?;
    let Reached { written, compacted, .. } = reached(&mut tx).await?;
    let at = list.at.unwrap_or(written);
    if at > written {
        return Err(StoreError::Future { current: written });
    }
    if at < compacted {
        return Err(StoreError::Compacted { oldest: compacted });
    }
    let past = (at < written).then_some(at);
    let items = page(&mut tx, list, past).await?;
    let full = list.limit.is_some_and(|limit| items.len() >= limit);
    let remaining = match items.last() {
        Some(last) if full => count_after(&mut tx, list.prefix, &last.key, past).await?,
        _ => 0,
    };
    tx.commit().await?;
    Ok(Listing { items, revision: at, remaining, unreadable: Vec::new() })
}

async fn page(
    tx: &mut SqliteConnection,
    list: &List<'_>,
    past: Option<Revision>,
) -> Result<Vec<Item>, Error> {
    // A key after which to go on lies within the prefix, or before it.
    let after = list.after.filter(|after| *after >= list.prefix);
    let limit = list.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let query = sqlx::query_as(if past.is_some() { THEN } else { NOW })
        .bind(after.unwrap_or(list.prefix))
        .bind(after.is_none())
        .bind(end_of(list.prefix))
        .bind(limit);
    let query = if let Some(at) = past { query.bind(at.signed()) } else { query };
    let rows: Vec<(String, i64, i64, Vec<u8>)> = query.fetch_all(tx).await?;
    Ok(rows.into_iter().map(item).collect())
}

fn item((key, modified, created, value): (String, i64, i64, Vec<u8>)) -> Item {
    let object = Versioned::new(value.into(), Revision::of(created), Revision::of(modified));
    Item { key: key.into(), object }
}

async fn count_after(
    tx: &mut SqliteConnection,
    prefix: &str,
    last: &str,
    past: Option<Revision>,
) -> Result<u64, Error> {
    let query = sqlx::query_scalar(if past.is_some() { COUNT_THEN } else { COUNT_NOW })
        .bind(last)
        .bind(end_of(prefix));
    let query = if let Some(at) = past { query.bind(at.signed()) } else { query };
    let count: i64 = query.fetch_one(tx).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
