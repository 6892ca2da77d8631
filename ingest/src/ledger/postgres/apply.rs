//! One batch, one transaction: staged, fenced, inserted, and noted in what was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Connection, PgConnection};

use super::{
    PostgresLedger,
    copy::{COPY, Rows},
    time::PgTime,
};
use crate::{
    ledger::{
        Applied, Batch, Gap, LedgerError,
        origin::{Origin, OriginId, same_origin},
        receipts::{BootKey, Receipt, receipts},
        stored::{int, ranges_from_json, ranges_to_json, told, uint},
    },
    log::{LogId, Offset, Partition},
    pipeline::Unfinished,
    record::Record,
};

/// Run once in each session: the table that a batch is sent into. It is empty again after each transaction.
pub(super) const STAGING: &str = "CREATE TEMPORARY TABLE staging (LIKE record) ON COMMIT DELETE ROWS";

/// In the order of ids, so that two recorders with the same records never wait for each other in a circle.
const INSERT: &str = "WITH added AS ( \
        INSERT INTO record SELECT * FROM staging ORDER BY id ON CONFLICT DO NOTHING RETURNING origin, at \
    ) \
    SELECT origin, at::date - DATE '1970-01-01', count(*) FROM added GROUP BY 1, 2";

/// What is sent at a time while the next rows are packed.
const SEND_BYTES: usize = 256 * 1024;

/// How Postgres says that a row has no partition.
const CHECK_VIOLATION: &str = "23514";

impl PostgresLedger {
    pub(super) async fn apply_batch(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError> {
        let days: BTreeSet<_> = batch.records.iter().map(|record| record.envelope.id.day()).collect();
        self.partitions.ensure(&self.pool, days.clone()).await?;
        let receipts = receipts(&batch.records);
        let origins = self.origin_ids(batch, &receipts).await?;
        match self.transaction(log, batch, &receipts, &origins).await {
            Err(LedgerError::Refused(error)) if is_missing_partition(&*error) => {
                self.partitions.forget();
                self.partitions.ensure(&self.pool, days).await?;
                self.transaction(log, batch, &receipts, &origins).await
            }
            done => done,
        }
    }

    async fn transaction(
        &self,
        log: &LogId,
        batch: &Batch,
        receipts: &BTreeMap<BootKey, Receipt>,
        origins: &HashMap<Origin, OriginId>,
    ) -> Result<Applied, LedgerError> {
        let mut connection = self.writers.acquire().await?;
        let mut tx = connection.begin().await?;
        if !batch.records.is_empty() {
            stage(&mut tx, &batch.records, origins).await?;
        }
        move_positions(&mut tx, log, batch).await?;
        let added = insert(&mut tx, origins).await?;
        for (key, receipt) in receipts {
            let inserted = added.by_boot.get(key).copied().unwrap_or(0);
            note_receipt(&mut tx, key, receipt, inserted).await?;
        }
        for gap in &batch.gaps {
            insert_gap(&mut tx, gap).await?;
        }
        add_to_days(&mut tx, &added.by_day).await?;
        tx.commit().await?;
        let inserted = added.by_day.values().sum();
        Ok(Applied { inserted, duplicates: batch.records.len() as u64 - inserted })
    }

    /// The numbers of the batch's origins. New ones are committed at once: they are true whatever becomes of the batch,
    /// and nobody waits for them.
    async fn origin_ids(
        &self,
        batch: &Batch,
        receipts: &BTreeMap<BootKey, Receipt>,
    ) -> Result<HashMap<Origin, OriginId>, LedgerError> {
        let mut ids = HashMap::new();
        for run in batch.records.chunk_by(same_origin) {
            let origin = Origin::of(&run[0].envelope);
            if ids.contains_key(&origin) {
                continue;
            }
            let id = match self.origins.id(&origin) {
                Some(id) => id,
                None => {
                    let id =
                        self.learn_origin(&origin, &receipts[&(origin.source.clone(), origin.boot)]).await?;
                    self.origins.remember([(origin.clone(), id)]);
                    id
                }
            };
            ids.insert(origin, id);
        }
        Ok(ids)
    }

    async fn learn_origin(&self, origin: &Origin, receipt: &Receipt) -> Result<OriginId, LedgerError> {
        sqlx::query(
            "INSERT INTO boot (source, boot, first_received, last_received) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&*origin.source)
        .bind(origin.boot.0)
        .bind(PgTime(receipt.first_received))
        .bind(PgTime(receipt.last_received))
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "INSERT INTO origin (boot, cluster, rules) \
             SELECT id, $3, $4 FROM boot WHERE source = $1 AND boot = $2 ON CONFLICT DO NOTHING",
        )
        .bind(&*origin.source)
        .bind(origin.boot.0)
        .bind(&*origin.cluster)
        .bind(&*origin.rules)
        .execute(&self.pool)
        .await?;
        let id: i32 = sqlx::query_scalar(
            "SELECT origin.id FROM origin JOIN boot ON boot.id = origin.boot \
             WHERE boot.source = $1 AND boot.boot = $2 AND origin.cluster = $3 AND origin.rules = $4",
        )
        .bind(&*origin.source)
        .bind(origin.boot.0)
        .bind(&*origin.cluster)
        .bind(&*origin.rules)
        .fetch_one(&self.pool)
        .await?;
        Ok(id.into())
    }
}

fn is_missing_partition(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.and_then(|error| error.code()).is_some_and(|code| code == CHECK_VIOLATION)
}

/// Sends the records. Nobody waits for this, and nothing is locked.
async fn stage(
    tx: &mut PgConnection,
    records: &[Record],
    origins: &HashMap<Origin, OriginId>,
) -> Result<(), LedgerError> {
    let mut copy = tx.copy_in_raw(COPY).await?;
    let staged = async {
        let mut rows = Rows::new()?;
        for run in records.chunk_by(same_origin) {
            let origin = origins[&Origin::of(&run[0].envelope)];
            for record in run {
                rows.push(record, origin)?;
                if rows.len() >= SEND_BYTES {
                    copy.send(rows.take()).await?;
                }
            }
        }
        rows.end();
        copy.send(rows.take()).await?;
        Ok(())
    };
    match staged.await {
        Ok(()) => Ok(copy.finish().await.map(|_| ())?),
        Err(error) => {
            copy.abort("the rows could not be made").await?;
            Err(error)
        }
    }
}

/// Moves every partition from where the batch expects it, or fails.
async fn move_positions(tx: &mut PgConnection, log: &LogId, batch: &Batch) -> Result<(), LedgerError> {
    note_current_log(tx, log).await?;
    let partitions: Vec<Partition> = batch.moves.keys().copied().collect();
    let found = lock_positions(tx, log, &partitions).await?;
    let (mut stored, mut next) = (Vec::new(), Vec::new());
    for (&partition, &(expected, to)) in &batch.moves {
        let found = found.get(&partition).copied();
        if found.unwrap_or_default() != expected {
            return Err(LedgerError::Fenced { partition, expected, found });
        }
        if found.is_some() {
            stored.push(partition);
            next.push(int(to.0));
        } else {
            insert_position(tx, log, partition, to).await?;
        }
    }
    sqlx::query(
        "UPDATE position SET next = moved.next FROM unnest($2::integer[], $3::bigint[]) AS moved (partition, next) \
         WHERE position.log = $1 AND position.partition = moved.partition",
    )
    .bind(&*log.0)
    .bind(stored)
    .bind(next)
    .execute(tx)
    .await?;
    Ok(())
}

async fn note_current_log(tx: &mut PgConnection, log: &LogId) -> Result<(), LedgerError> {
    // An upsert would lock the row in each transaction and make all recorders wait for each other.
    let current: Option<String> =
        sqlx::query_scalar("SELECT log FROM current_log").fetch_optional(&mut *tx).await?;
    if current.as_deref() != Some(&*log.0) {
        sqlx::query(
            "INSERT INTO current_log (one, log) VALUES (true, $1) \
             ON CONFLICT (one) DO UPDATE SET log = excluded.log",
        )
        .bind(&*log.0)
        .execute(tx)
        .await?;
    }
    Ok(())
}

async fn lock_positions(
    tx: &mut PgConnection,
    log: &LogId,
    partitions: &[Partition],
) -> Result<HashMap<Partition, Offset>, LedgerError> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, next FROM position WHERE log = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
    )
    .bind(&*log.0)
    .bind(partitions)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(partition, next)| (partition, Offset(uint(next)))).collect())
}

async fn insert_position(
    tx: &mut PgConnection,
    log: &LogId,
    partition: Partition,
    to: Offset,
) -> Result<(), LedgerError> {
    let inserted =
        sqlx::query("INSERT INTO position (log, partition, next) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(&*log.0)
            .bind(partition)
            .bind(int(to.0))
            .execute(&mut *tx)
            .await?
            .rows_affected();
    if inserted == 1 {
        return Ok(());
    }
    let found = lock_positions(tx, log, &[partition]).await?.get(&partition).copied();
    Err(LedgerError::Fenced { partition, expected: Offset::default(), found })
}

/// How many of a batch's records were new.
#[derive(Default)]
struct Added {
    by_boot: BTreeMap<BootKey, u64>,
    by_day: BTreeMap<i32, u64>,
}

async fn insert(tx: &mut PgConnection, origins: &HashMap<Origin, OriginId>) -> Result<Added, LedgerError> {
    let mut added = Added::default();
    if origins.is_empty() {
        return Ok(added);
    }
    let by_id: HashMap<OriginId, &Origin> = origins.iter().map(|(origin, id)| (*id, origin)).collect();
    let rows: Vec<(i32, i32, i64)> = sqlx::query_as(INSERT).fetch_all(tx).await?;
    for (origin, day, count) in rows {
        let origin = by_id[&origin.into()];
        *added.by_boot.entry((origin.source.clone(), origin.boot)).or_default() += uint(count);
        *added.by_day.entry(day).or_default() += uint(count);
    }
    Ok(added)
}

/// Adds what arrived of a boot to what was seen of it, and counts the records that the ledger had already: numbers
/// that are new without a row of their own. A number that arrives again counts once.
async fn note_receipt(
    tx: &mut PgConnection,
    (source, boot): &BootKey,
    receipt: &Receipt,
    inserted: u64,
) -> Result<(), LedgerError> {
    let id: i32 = sqlx::query_scalar("SELECT id FROM boot WHERE source = $1 AND boot = $2 FOR UPDATE")
        .bind(&**source)
        .bind(boot.0)
        .fetch_one(&mut *tx)
        .await?;
    let chunks: Vec<i64> = receipt.chunks.keys().map(|&chunk| int(chunk)).collect();
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT chunk, ranges FROM seen WHERE boot = $1 AND chunk = ANY($2)")
            .bind(id)
            .bind(chunks)
            .fetch_all(&mut *tx)
            .await?;
    let mut stored = HashMap::new();
    for (chunk, ranges) in rows {
        stored.insert(uint(chunk), ranges_from_json(&ranges)?);
    }
    let news = receipt.news(stored);
    for (chunk, ranges) in &news.changed {
        sqlx::query(
            "INSERT INTO seen (boot, chunk, ranges) VALUES ($1, $2, $3) \
             ON CONFLICT (boot, chunk) DO UPDATE SET ranges = excluded.ranges",
        )
        .bind(id)
        .bind(int(*chunk))
        .bind(ranges_to_json(ranges)?)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "UPDATE boot SET duplicates = duplicates + $2, \
         rejected = least(rejected::numeric + $3, 9223372036854775807)::bigint, \
         previous_boot = coalesce($4, previous_boot), previous_seq = coalesce($5, previous_seq), \
         first_received = least(first_received, $6), last_received = greatest(last_received, $7) WHERE id = $1",
    )
    .bind(id)
    .bind(int(news.numbers.saturating_sub(inserted)))
    .bind(int(news.rejected))
    .bind(news.previous.map(|previous| previous.boot.0))
    .bind(news.previous.map(|previous| int(previous.last_seq.0)))
    .bind(PgTime(receipt.first_received))
    .bind(PgTime(receipt.last_received))
    .execute(&mut *tx)
    .await?;
    for gap in news.gaps {
        insert_gap(tx, gap).await?;
    }
    for unfinished in news.unfinished {
        insert_unfinished(tx, unfinished).await?;
    }
    Ok(())
}

async fn insert_unfinished(tx: &mut PgConnection, unfinished: &Unfinished) -> Result<(), LedgerError> {
    sqlx::query("INSERT INTO unfinished (received, told) VALUES ($1, $2)")
        .bind(PgTime(unfinished.request.received))
        .bind(told(unfinished)?)
        .execute(tx)
        .await?;
    Ok(())
}

async fn insert_gap(tx: &mut PgConnection, gap: &Gap) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO gap (source, boot, partition, first, last, reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT DO NOTHING",
    )
    .bind(gap.source.as_deref())
    .bind(gap.boot.map(|boot| boot.0))
    .bind(gap.partition)
    .bind(int(gap.first))
    .bind(int(gap.last))
    .bind(gap.reason.replace('\0', "\u{fffd}"))
    .bind(PgTime(gap.at))
    .execute(tx)
    .await?;
    Ok(())
}

async fn add_to_days(tx: &mut PgConnection, added: &BTreeMap<i32, u64>) -> Result<(), LedgerError> {
    let days: Vec<i32> = added.keys().copied().collect();
    let records: Vec<i64> = added.values().map(|&records| int(records)).collect();
    if days.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO day (day, records) \
         SELECT DATE '1970-01-01' + added.day, added.records \
         FROM unnest($1::integer[], $2::bigint[]) AS added (day, records) ORDER BY added.day \
         ON CONFLICT (day) DO UPDATE SET records = day.records + excluded.records",
    )
    .bind(days)
    .bind(records)
    .execute(tx)
    .await?;
    Ok(())
}
