//! What the Postgres ledger answers.

use std::ops::Range;

use futures::TryStreamExt;
use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::time::PgTime;
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

pub(super) async fn positions(pool: &PgPool, log: &LogId) -> Result<Positions, LedgerError> {
    let rows: Vec<(i32, i64)> = sqlx::query_as("SELECT partition, next FROM position WHERE log = $1")
        .bind(&*log.0)
        .fetch_all(pool)
        .await?;
    Ok(stored::positions(rows))
}

pub(super) async fn current_log(pool: &PgPool) -> Result<Option<LogId>, LedgerError> {
    let log: Option<String> = sqlx::query_scalar("SELECT log FROM current_log").fetch_optional(pool).await?;
    Ok(log.map(|log| LogId(log.into())))
}

pub(super) async fn get(
    pool: &PgPool,
    origins: &OriginCache,
    ids: &[RecordId],
) -> Result<Vec<Record>, LedgerError> {
    let wanted: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query(
        "SELECT id, origin, seq, at, received_at, kind, redactions, event FROM record WHERE id = ANY($1)",
    )
    .bind(wanted)
    .fetch_all(pool)
    .await?;
    Ok(stored::in_order(ids, records(pool, origins, &rows).await?))
}

pub(super) async fn scan(
    pool: &PgPool,
    origins: &OriginCache,
    days: Range<Day>,
    after: Option<RecordId>,
    limit: usize,
) -> Result<Vec<Record>, LedgerError> {
    let first = RecordId::floor(days.start.start()).0;
    let mut stream = sqlx::query(
        "SELECT id, origin, seq, at, received_at, kind, redactions, event FROM record \
         WHERE id >= $1 AND id < $2 AND id > $3 ORDER BY id LIMIT $4",
    )
    .bind(first.max(after.map_or(Uuid::nil(), |id| id.0)))
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

async fn records(pool: &PgPool, origins: &OriginCache, rows: &[PgRow]) -> Result<Vec<Record>, LedgerError> {
    let mut unpacker = Unpacker::new().map_err(packing)?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let origin = origin(pool, origins, row.try_get::<i32, _>("origin")?.into()).await?;
        let stored = StoredRecord {
            id: row.try_get("id")?,
            seq: row.try_get("seq")?,
            at: row.try_get::<PgTime, _>("at")?.0,
            received_at: row.try_get::<PgTime, _>("received_at")?.0,
            kind: row.try_get("kind")?,
            redactions: row.try_get("redactions")?,
            event: row.try_get("event")?,
        };
        records.push(stored.record(origin, &mut unpacker)?);
    }
    Ok(records)
}

async fn origin(pool: &PgPool, origins: &OriginCache, id: OriginId) -> Result<Origin, LedgerError> {
    if let Some(origin) = origins.origin(id) {
        return Ok(origin);
    }
    let row = sqlx::query_as(
        "SELECT boot.source, boot.boot, origin.cluster, origin.rules \
         FROM origin JOIN boot ON boot.id = origin.boot WHERE origin.id = $1",
    )
    .bind(id as i32)
    .fetch_optional(pool)
    .await?;
    origins.learn(id, row)
}

pub(super) async fn days(pool: &PgPool) -> Result<Vec<(Day, u64)>, LedgerError> {
    let rows: Vec<(i32, i64)> =
        sqlx::query_as("SELECT day - DATE '1970-01-01', records FROM day ORDER BY day")
            .fetch_all(pool)
            .await?;
    Ok(stored::days(rows))
}

pub(super) async fn boots(
    pool: &PgPool,
    received: Range<Timestamp>,
) -> Result<Vec<BootSummary>, LedgerError> {
    let rows = sqlx::query(
        "SELECT source, boot, previous_boot, previous_seq, first_received, last_received, duplicates, rejected, \
         ARRAY(SELECT ranges FROM seen WHERE seen.boot = boot.id ORDER BY chunk) AS seen \
         FROM boot WHERE first_received < $1 AND last_received >= $2 ORDER BY source, boot",
    )
    .bind(PgTime(received.end))
    .bind(PgTime(received.start))
    .fetch_all(pool)
    .await?;
    rows.iter().map(summary).collect()
}

fn summary(row: &PgRow) -> Result<BootSummary, LedgerError> {
    let chunks: Vec<String> = row.try_get("seen")?;
    Ok(BootSummary {
        source: row.try_get::<String, _>("source")?.into(),
        boot: Boot(row.try_get("boot")?),
        previous: stored::previous(row.try_get("previous_boot")?, row.try_get("previous_seq")?),
        seen: stored::ranges_from_chunks(&chunks)?,
        received: (
            row.try_get::<PgTime, _>("first_received")?.0,
            row.try_get::<PgTime, _>("last_received")?.0,
        ),
        duplicates: uint(row.try_get("duplicates")?),
        rejected: uint(row.try_get("rejected")?),
    })
}

pub(super) async fn gaps(pool: &PgPool) -> Result<Vec<Gap>, LedgerError> {
    let rows = sqlx::query("SELECT source, boot, partition, first, last, reason, at FROM gap ORDER BY id")
        .fetch_all(pool)
        .await?;
    rows.iter().map(gap).collect()
}

fn gap(row: &PgRow) -> Result<Gap, LedgerError> {
    Ok(Gap {
        source: row.try_get::<Option<String>, _>("source")?.map(Into::into),
        boot: row.try_get::<Option<Uuid>, _>("boot")?.map(Boot),
        first: uint(row.try_get("first")?),
        last: uint(row.try_get("last")?),
        partition: row.try_get("partition")?,
        reason: row.try_get("reason")?,
        at: row.try_get::<PgTime, _>("at")?.0,
    })
}

pub(super) async fn unfinished(
    pool: &PgPool,
    received: Range<Timestamp>,
) -> Result<Vec<Unfinished>, LedgerError> {
    let sql =
        "SELECT told FROM unfinished WHERE received >= $1 AND received < $2 ORDER BY received, id LIMIT $3";
    let told: Vec<String> = sqlx::query_scalar(sql)
        .bind(PgTime(received.start))
        .bind(PgTime(received.end))
        .bind(MAX_UNFINISHED as i64)
        .fetch_all(pool)
        .await?;
    told.iter().map(|told| stored::unfinished(told)).collect()
}
