//! What the SQLite ledger answers.

use std::ops::Range;

use futures::TryStreamExt;
use sqlx::{QueryBuilder, Row, Sqlite, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    ledger::{
        BootSummary, Gap, LedgerError, MAX_SCAN_BYTES, MAX_UNFINISHED,
        codec::Unpacker,
        origin::{Origin, OriginCache, OriginId},
        stored::{self, StoredRecord, packing, uint},
    },
    log::{LogId, Positions},
    pipeline::Unfinished,
    record::{Boot, Record, RecordId},
    time::{Day, Timestamp},
};

/// Ids of one SELECT.
const IDS_AT_ONCE: usize = 500;

const RECORD: &str = "SELECT id, origin, seq, at, received_at, kind, redactions, event FROM record ";

pub(super) async fn positions(pool: &SqlitePool, log: &LogId) -> Result<Positions, LedgerError> {
    let rows: Vec<(i32, i64)> = sqlx::query_as("SELECT partition, next FROM position WHERE log = ?")
        .bind(&*log.0)
        .fetch_all(pool)
        .await?;
    Ok(stored::positions(rows))
}

pub(super) async fn current_log(pool: &SqlitePool) -> Result<Option<LogId>, LedgerError> {
    let log: Option<String> = sqlx::query_scalar("SELECT log FROM current_log").fetch_optional(pool).await?;
    Ok(log.map(|log| LogId(log.into())))
}

pub(super) async fn get(
    pool: &SqlitePool,
    origins: &OriginCache,
    ids: &[RecordId],
) -> Result<Vec<Record>, LedgerError> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(IDS_AT_ONCE) {
        let mut query = QueryBuilder::<Sqlite>::new(RECORD);
        query.push("WHERE id IN (");
        let mut list = query.separated(",");
        for id in some {
            list.push_bind(id.0);
        }
        query.push(")");
        let rows = query.build().persistent(false).fetch_all(pool).await?;
        found.extend(records(pool, origins, &rows).await?);
    }
    Ok(stored::in_order(ids, found))
}

pub(super) async fn scan(
    pool: &SqlitePool,
    origins: &OriginCache,
    days: Range<Day>,
    after: Option<RecordId>,
    limit: usize,
) -> Result<Vec<Record>, LedgerError> {
    let sql = "SELECT id, origin, seq, at, received_at, kind, redactions, event FROM record \
               WHERE id >= ? AND id < ? AND id > ? ORDER BY id LIMIT ?";
    let mut stream = sqlx::query(sql)
        .bind(RecordId::floor(days.start.start()).0)
        .bind(RecordId::floor(days.end.start()).0)
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch(pool);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = stream.try_next().await? {
        bytes += row.try_get::<&[u8], _>("event")?.len();
        rows.push(row);
        if bytes >= MAX_SCAN_BYTES {
            break;
        }
    }
    drop(stream);
    records(pool, origins, &rows).await
}

async fn records(
    pool: &SqlitePool,
    origins: &OriginCache,
    rows: &[SqliteRow],
) -> Result<Vec<Record>, LedgerError> {
    let mut unpacker = Unpacker::new().map_err(packing)?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let origin = origin(pool, origins, row.try_get("origin")?).await?;
        let stored = StoredRecord {
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            at: Timestamp::from_micros(row.try_get("at")?),
            received_at: Timestamp::from_micros(row.try_get("received_at")?),
            kind: row.try_get("kind")?,
            redactions: row.try_get("redactions")?,
            event: row.try_get("event")?,
        };
        records.push(stored.record(origin, &mut unpacker)?);
    }
    Ok(records)
}

async fn origin(pool: &SqlitePool, origins: &OriginCache, id: OriginId) -> Result<Origin, LedgerError> {
    if let Some(origin) = origins.origin(id) {
        return Ok(origin);
    }
    let row = sqlx::query_as(
        "SELECT boot.source, boot.boot, origin.cluster, origin.rules \
         FROM origin JOIN boot ON boot.id = origin.boot WHERE origin.id = ?",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    origins.learn(id, row)
}

pub(super) async fn days(pool: &SqlitePool) -> Result<Vec<(Day, u64)>, LedgerError> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("SELECT day, records FROM day ORDER BY day").fetch_all(pool).await?;
    Ok(stored::days(rows))
}

pub(super) async fn boots(
    pool: &SqlitePool,
    received: Range<Timestamp>,
) -> Result<Vec<BootSummary>, LedgerError> {
    let rows = sqlx::query(
        "SELECT id, source, boot, previous_boot, previous_seq, first_received, last_received, duplicates, rejected \
         FROM boot WHERE first_received < ? AND last_received >= ? ORDER BY source, boot",
    )
    .bind(received.end.micros())
    .bind(received.start.micros())
    .fetch_all(pool)
    .await?;
    let mut summaries = Vec::with_capacity(rows.len());
    for row in rows {
        summaries.push(summary(pool, &row).await?);
    }
    Ok(summaries)
}

async fn summary(pool: &SqlitePool, row: &SqliteRow) -> Result<BootSummary, LedgerError> {
    let chunks: Vec<String> = sqlx::query_scalar("SELECT ranges FROM seen WHERE boot = ? ORDER BY chunk")
        .bind(row.try_get::<i64, _>("id")?)
        .fetch_all(pool)
        .await?;
    Ok(BootSummary {
        source: row.try_get::<String, _>("source")?.into(),
        boot: Boot(row.try_get("boot")?),
        previous: stored::previous(row.try_get("previous_boot")?, row.try_get("previous_seq")?),
        seen: stored::ranges_from_chunks(&chunks)?,
        received: (
            Timestamp::from_micros(row.try_get("first_received")?),
            Timestamp::from_micros(row.try_get("last_received")?),
        ),
        duplicates: uint(row.try_get("duplicates")?),
        rejected: uint(row.try_get("rejected")?),
    })
}

pub(super) async fn gaps(pool: &SqlitePool) -> Result<Vec<Gap>, LedgerError> {
    let rows = sqlx::query("SELECT source, boot, partition, first, last, reason, at FROM gap ORDER BY id")
        .fetch_all(pool)
        .await?;
    rows.iter().map(gap).collect()
}

fn gap(row: &SqliteRow) -> Result<Gap, LedgerError> {
    Ok(Gap {
        source: row.try_get::<Option<String>, _>("source")?.map(Into::into),
        boot: row.try_get::<Option<Uuid>, _>("boot")?.map(Boot),
        first: uint(row.try_get("first")?),
        last: uint(row.try_get("last")?),
        partition: row.try_get("partition")?,
        reason: row.try_get("reason")?,
        at: Timestamp::from_micros(row.try_get("at")?),
    })
}

pub(super) async fn unfinished(
    pool: &SqlitePool,
    received: Range<Timestamp>,
) -> Result<Vec<Unfinished>, LedgerError> {
    let sql =
        "SELECT told FROM unfinished WHERE received >= ? AND received < ? ORDER BY received, id LIMIT ?";
    let told: Vec<String> = sqlx::query_scalar(sql)
        .bind(received.start.micros())
        .bind(received.end.micros())
        .bind(MAX_UNFINISHED as i64)
        .fetch_all(pool)
        .await?;
    told.iter().map(|told| stored::unfinished(told)).collect()
}
