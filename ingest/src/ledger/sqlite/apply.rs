//! One batch, one transaction: positions, records, what was seen, gaps.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use sqlx::{Arguments, SqliteConnection, sqlite::SqliteArguments};

use super::SqliteLedger;
use crate::{
    ledger::{
        Applied, Batch, Gap, LedgerError,
        codec::Packer,
        fields::Fields,
        origin::{Origin, OriginCache, OriginId, same_origin},
        receipts::{BootKey, Receipt, receipts},
        stored::{int, kind_number, packing, ranges_from_json, ranges_to_json, told, uint},
    },
    log::{LogId, Offset},
    pipeline::Unfinished,
    record::{Envelope, Record, RecordId},
    time::Day,
};

/// Rows of one INSERT statement: as many as go into the largest, the rest of a group by the smaller ones.
const ROWS: [usize; 3] = [64, 8, 1];

const COLUMNS: usize = 15;

/// Records that one transaction of [`SqliteLedger::remove_days`] removes, so that batches get their turn.
const REMOVED_AT_ONCE: i64 = 20_000;

static INSERTS: LazyLock<[&'static str; 3]> = LazyLock::new(|| ROWS.map(insert_statement));

/// The statement for so many rows. There are three in a program's life, and a static text is not copied at each use.
fn insert_statement(rows: usize) -> &'static str {
    let row = format!("({})", ["?"; COLUMNS].join(","));
    let sql = format!(
        "INSERT INTO record (id, origin, seq, at, received_at, kind, redactions, code, audit_id, verb, username, \
         resource, namespace, name, event) VALUES {} ON CONFLICT DO NOTHING",
        vec![row; rows].join(",")
    );
    sql.leak()
}

impl SqliteLedger {
    pub(super) async fn apply_batch(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        move_positions(&mut tx, log, batch).await?;
        let receipts = receipts(&batch.records);
        let mut boots = BTreeMap::new();
        for (key, receipt) in &receipts {
            boots.insert(key.clone(), boot_id(&mut tx, key, receipt).await?);
        }
        let mut inserter = Inserter::new(&mut tx, &self.origins, &boots)?;
        inserter.insert(&batch.records).await?;
        let Inserter { added, learnt, .. } = inserter;
        for (key, receipt) in &receipts {
            let inserted = added.by_boot.get(key).copied().unwrap_or(0);
            note_receipt(&mut tx, boots[key], receipt, inserted).await?;
        }
        add_to_days(&mut tx, &added.by_day).await?;
        for gap in &batch.gaps {
            insert_gap(&mut tx, gap).await?;
        }
        tx.commit().await?;
        self.origins.remember(learnt);
        let inserted = added.by_day.values().sum();
        Ok(Applied { inserted, duplicates: batch.records.len() as u64 - inserted })
    }

    /// Removes the days before `first`, the oldest first, each in steps. A removal that was interrupted goes on with
    /// the next call.
    pub(super) async fn remove_days(&self, first: Day) -> Result<Vec<Day>, LedgerError> {
        let days: Vec<i32> = sqlx::query_scalar("SELECT day FROM day WHERE day < ? ORDER BY day")
            .bind(first.number())
            .fetch_all(&self.pool)
            .await?;
        let days: Vec<Day> = days.into_iter().map(Day::from_number).collect();
        for &day in &days {
            while !self.remove_part_of_day(day).await? {}
        }
        Ok(days)
    }

    /// Whether the day is empty now.
    async fn remove_part_of_day(&self, day: Day) -> Result<bool, LedgerError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let removed = sqlx::query(
            "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE id >= ? AND id < ? LIMIT ?)",
        )
        .bind(RecordId::floor(day.start()).0)
        .bind(RecordId::floor(day.plus(1).start()).0)
        .bind(REMOVED_AT_ONCE)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        sqlx::query("UPDATE day SET records = records - ? WHERE day = ?")
            .bind(int(removed))
            .bind(day.number())
            .execute(&mut *tx)
            .await?;
        let empty = sqlx::query("DELETE FROM day WHERE day = ? AND records <= 0")
            .bind(day.number())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(empty > 0 || int(removed) < REMOVED_AT_ONCE)
    }
}

/// Moves every partition from where the batch expects it, or fails.
async fn move_positions(tx: &mut SqliteConnection, log: &LogId, batch: &Batch) -> Result<(), LedgerError> {
    for (&partition, &(expected, next)) in &batch.moves {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT next FROM position WHERE log = ? AND partition = ?")
                .bind(&*log.0)
                .bind(partition)
                .fetch_optional(&mut *tx)
                .await?;
        let found = found.map(|next| Offset(uint(next)));
        if found.unwrap_or_default() != expected {
            return Err(LedgerError::Fenced { partition, expected, found });
        }
        sqlx::query(
            "INSERT INTO position (log, partition, next) VALUES (?, ?, ?) \
             ON CONFLICT (log, partition) DO UPDATE SET next = excluded.next",
        )
        .bind(&*log.0)
        .bind(partition)
        .bind(int(next.0))
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "INSERT INTO current_log (one, log) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET log = excluded.log",
    )
    .bind(&*log.0)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn boot_id(
    tx: &mut SqliteConnection,
    (source, boot): &BootKey,
    receipt: &Receipt,
) -> Result<i64, LedgerError> {
    let id = sqlx::query_scalar(
        "INSERT INTO boot (source, boot, first_received, last_received) VALUES (?, ?, ?, ?) \
         ON CONFLICT (source, boot) DO UPDATE SET \
         first_received = min(first_received, excluded.first_received), \
         last_received = max(last_received, excluded.last_received) RETURNING id",
    )
    .bind(&**source)
    .bind(boot.0)
    .bind(receipt.first_received.micros())
    .bind(receipt.last_received.micros())
    .fetch_one(tx)
    .await?;
    Ok(id)
}

/// Puts the records of one batch into the table.
struct Inserter<'a> {
    tx: &'a mut SqliteConnection,
    origins: &'a OriginCache,
    boots: &'a BTreeMap<BootKey, i64>,
    packer: Packer,
    added: Added,
    learnt: Vec<(Origin, OriginId)>,
}

/// How many of a batch's records were new.
#[derive(Default)]
struct Added {
    by_boot: BTreeMap<BootKey, u64>,
    by_day: BTreeMap<Day, u64>,
}

impl<'a> Inserter<'a> {
    fn new(
        tx: &'a mut SqliteConnection,
        origins: &'a OriginCache,
        boots: &'a BTreeMap<BootKey, i64>,
    ) -> Result<Self, LedgerError> {
        let packer = Packer::new().map_err(packing)?;
        Ok(Self { tx, origins, boots, packer, added: Added::default(), learnt: Vec::new() })
    }

    /// Inserts what is not there yet, by origin and in the order of ids, so that neighbours in the file are written
    /// together and each statement's count belongs to one boot and one day.
    async fn insert(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let mut sorted: Vec<&Record> = records.iter().collect();
        sorted.sort_by_key(|record| {
            let envelope = &record.envelope;
            (&envelope.source, envelope.boot, &envelope.cluster, &envelope.rules, envelope.id)
        });
        for group in sorted.chunk_by(|a, b| a.envelope.id.day() == b.envelope.id.day() && same_origin(a, b)) {
            let origin = self.origin_id(&group[0].envelope).await?;
            let inserted = self.insert_group(origin, group).await?;
            let envelope = &group[0].envelope;
            *self.added.by_boot.entry((envelope.source.clone(), envelope.boot)).or_default() += inserted;
            *self.added.by_day.entry(envelope.id.day()).or_default() += inserted;
        }
        Ok(())
    }

    async fn origin_id(&mut self, envelope: &Envelope) -> Result<OriginId, LedgerError> {
        let origin = Origin::of(envelope);
        let learnt = self.learnt.iter().find(|(known, _)| *known == origin).map(|(_, id)| *id);
        if let Some(id) = learnt.or_else(|| self.origins.id(&origin)) {
            return Ok(id);
        }
        let id = sqlx::query_scalar(
            "INSERT INTO origin (boot, cluster, rules) VALUES (?, ?, ?) \
             ON CONFLICT (boot, cluster, rules) DO UPDATE SET rules = excluded.rules RETURNING id",
        )
        .bind(self.boots[&(origin.source.clone(), origin.boot)])
        .bind(&*origin.cluster)
        .bind(&*origin.rules)
        .fetch_one(&mut *self.tx)
        .await?;
        self.learnt.push((origin, id));
        Ok(id)
    }

    async fn insert_group(&mut self, origin: OriginId, group: &[&Record]) -> Result<u64, LedgerError> {
        let mut inserted = 0;
        let mut rest = group;
        while let Some((rows, sql)) = ROWS.iter().zip(&*INSERTS).find(|(rows, _)| **rows <= rest.len()) {
            let (now, later) = rest.split_at(*rows);
            let mut arguments = SqliteArguments::default();
            arguments.reserve(rows * COLUMNS, 0);
            for record in now {
                bind(&mut arguments, &mut self.packer, origin, record)?;
            }
            inserted += sqlx::query_with(*sql, arguments).execute(&mut *self.tx).await?.rows_affected();
            rest = later;
        }
        Ok(inserted)
    }
}

fn bind(
    arguments: &mut SqliteArguments,
    packer: &mut Packer,
    origin: OriginId,
    record: &Record,
) -> Result<(), LedgerError> {
    let envelope = &record.envelope;
    let fields = Fields::of(record);
    let mut event = Vec::with_capacity(record.event.len() / 4);
    packer.pack_into(&record.event, &mut event).map_err(packing)?;
    let bound = (|| {
        arguments.add(envelope.id.0)?;
        arguments.add(origin)?;
        arguments.add(int(envelope.seq.0))?;
        arguments.add(envelope.at.micros())?;
        arguments.add(envelope.received_at.micros())?;
        arguments.add(kind_number(envelope.kind))?;
        arguments.add(i64::from(envelope.redactions))?;
        arguments.add(fields.code)?;
        arguments.add(fields.audit_id)?;
        arguments.add(fields.verb)?;
        arguments.add(fields.username)?;
        arguments.add(fields.resource)?;
        arguments.add(fields.namespace)?;
        arguments.add(fields.name)?;
        arguments.add(event)
    })();
    bound.map_err(LedgerError::Refused)
}

/// Adds what arrived of a boot to what was seen of it, and counts the records that the ledger had already: numbers
/// that are new without a row of their own. A number that arrives again counts once.
async fn note_receipt(
    tx: &mut SqliteConnection,
    boot: i64,
    receipt: &Receipt,
    inserted: u64,
) -> Result<(), LedgerError> {
    let mut stored = HashMap::new();
    for &chunk in receipt.chunks.keys() {
        let ranges: Option<String> =
            sqlx::query_scalar("SELECT ranges FROM seen WHERE boot = ? AND chunk = ?")
                .bind(boot)
                .bind(int(chunk))
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(ranges) = ranges {
            stored.insert(chunk, ranges_from_json(&ranges)?);
        }
    }
    let news = receipt.news(stored);
    for (chunk, ranges) in &news.changed {
        sqlx::query(
            "INSERT INTO seen (boot, chunk, ranges) VALUES (?, ?, ?) \
             ON CONFLICT (boot, chunk) DO UPDATE SET ranges = excluded.ranges",
        )
        .bind(boot)
        .bind(int(*chunk))
        .bind(ranges_to_json(ranges)?)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "UPDATE boot SET duplicates = duplicates + ?, rejected = min(rejected + ?, 9223372036854775807), \
         previous_boot = coalesce(?, previous_boot), previous_seq = coalesce(?, previous_seq) WHERE id = ?",
    )
    .bind(int(news.numbers.saturating_sub(inserted)))
    .bind(int(news.rejected))
    .bind(news.previous.map(|previous| previous.boot.0))
    .bind(news.previous.map(|previous| int(previous.last_seq.0)))
    .bind(boot)
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

async fn insert_unfinished(tx: &mut SqliteConnection, unfinished: &Unfinished) -> Result<(), LedgerError> {
    sqlx::query("INSERT INTO unfinished (received, told) VALUES (?, ?)")
        .bind(unfinished.request.received.micros())
        .bind(told(unfinished)?)
        .execute(tx)
        .await?;
    Ok(())
}

async fn add_to_days(tx: &mut SqliteConnection, added: &BTreeMap<Day, u64>) -> Result<(), LedgerError> {
    for (day, records) in added.iter().filter(|(_, records)| **records > 0) {
        sqlx::query(
            "INSERT INTO day (day, records) VALUES (?, ?) \
             ON CONFLICT (day) DO UPDATE SET records = records + excluded.records",
        )
        .bind(day.number())
        .bind(int(*records))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn insert_gap(tx: &mut SqliteConnection, gap: &Gap) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO gap (source, boot, partition, first, last, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(gap.source.as_deref())
    .bind(gap.boot.map(|boot| boot.0))
    .bind(gap.partition)
    .bind(int(gap.first))
    .bind(int(gap.last))
    .bind(&gap.reason)
    .bind(gap.at.micros())
    .execute(tx)
    .await?;
    Ok(())
}
