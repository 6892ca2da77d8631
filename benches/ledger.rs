//! Rate and size of the ledgers beside a bare loop over the same table: `cargo bench --bench ledger -- [EVENTS] [FILE]`.
//!
//! Events are generated, or the lines of FILE, repeated with ids and audit ids of their own. Postgres is the one of
//! `MUNIMENT_TEST_POSTGRES`; without it only SQLite is measured.

#![allow(clippy::unwrap_used, reason = "what fails in the engines' helpers ends the measurement")]

#[path = "../tests/support/engines.rs"]
mod engines;
mod generator;

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use ingest::{
    event::EventView,
    ledger::{Batch, Ledger, PostgresLedger, SqliteLedger},
    log::{LogId, Offset},
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use uuid::Uuid;

/// Records of one transaction: the recorder's default.
const BATCH: usize = 4_096;

const COLUMNS: &str = "id, origin, seq, at, received_at, kind, redactions, code, audit_id, verb, username, resource, \
                       namespace, name, event";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(count) = words.first().and_then(|word| word.parse().ok()) else { return Ok(()) };
    let records = match words.get(1) {
        Some(file) => repeated(&std::fs::read(file)?, count),
        None => generated(count),
    };
    let raw: usize = records.iter().map(|record| record.event.len()).sum();
    println!("{} events of {} bytes on average, batches of {BATCH}", records.len(), raw / records.len());
    sqlite(&records, raw).await?;
    if postgres_is_given() {
        postgres(&records, raw).await?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the tests' engines are named in the environment")]
fn postgres_is_given() -> bool {
    std::env::var_os("MUNIMENT_TEST_POSTGRES").is_some()
}

fn generated(count: usize) -> Vec<Record> {
    let mut generator = generator::Generator::new(11, 1_795_392_000_000_000);
    let mut event = Vec::new();
    let event_of = |n| {
        event.clear();
        generator.event(generator::Form::Line, &mut event);
        record(n, Bytes::copy_from_slice(&event))
    };
    (0..count).map(event_of).collect()
}

fn repeated(lines: &[u8], count: usize) -> Vec<Record> {
    let lines: Vec<&str> = std::str::from_utf8(lines).unwrap_or_default().lines().collect();
    let event_of = |n: usize| {
        let line = lines[n % lines.len()];
        let own = Uuid::new_v8(mixed(n as u64 / 2).to_be_bytes()).to_string();
        let audit_id = EventView::parse(line.as_bytes()).ok().and_then(|event| event.audit_id());
        let event = audit_id.map_or_else(|| line.to_owned(), |id| line.replace(&*id, &own));
        record(n, event.into())
    };
    (0..count).map(event_of).collect()
}

/// As good as random, and the same each time.
fn mixed(n: u64) -> u128 {
    let mut z = u128::from(n).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    z ^= z >> 67;
    z = z.wrapping_mul(0xDA94_2042_E4DD_58B5_2545_F491_4F6C_DD1D);
    z ^ z >> 59
}

fn record(n: usize, event: Bytes) -> Record {
    // One event each 0.5 ms.
    let at = Timestamp::from_micros(1_795_392_000_000_000 + n as i64 * 500);
    let id = RecordId::floor(at).0.as_u128() | mixed(n as u64) >> 48;
    let envelope = Envelope {
        v: Envelope::VERSION,
        id: RecordId(Uuid::from_u128(id)),
        cluster: "demo".into(),
        source: "host-a".into(),
        boot: Boot(Uuid::from_u128(7)),
        seq: Seq(n as u64 + 1),
        received_at: Timestamp::from_micros(at.micros() + 800),
        kind: Kind::Audit,
        at,
        rules: "5f3c".into(),
        redactions: 0,
    };
    Record { envelope, event }
}

fn batches(records: &[Record]) -> Vec<Batch> {
    let mut from = 0;
    let batch = |some: &[Record]| {
        let to = from + some.len() as u64;
        let moves = BTreeMap::from([(0, (Offset(from), Offset(to)))]);
        from = to;
        Batch { records: some.to_vec(), moves, gaps: Vec::new() }
    };
    records.chunks(BATCH).map(batch).collect()
}

async fn apply_all(ledger: &impl Ledger, records: &[Record]) -> anyhow::Result<f64> {
    let batches = batches(records);
    let begun = Instant::now();
    for batch in &batches {
        ledger.apply(&LogId("bench".into()), batch).await?;
    }
    Ok(records.len() as f64 / begun.elapsed().as_secs_f64())
}

fn report(what: &str, ours: f64, bare: f64, bytes: u64, raw: usize) {
    println!(
        "{what}: {ours:.0} rows/s, bare loop {bare:.0} rows/s, ratio {:.2}; {bytes} bytes on disk, {:.3} of raw",
        ours / bare,
        bytes as f64 / raw as f64
    );
}

async fn sqlite(records: &[Record], raw: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let bare = SqliteLedger::open(&folder.path().join("bare.sqlite")).await?;
    let bare_rate = bare_sqlite(bare.pool(), records).await?;
    bare.close().await;
    let file = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open(&file).await?;
    let rate = apply_all(&ledger, records).await?;
    ledger.close().await;
    report("SQLite", rate, bare_rate, std::fs::metadata(file)?.len(), raw);
    Ok(())
}

/// What any program would do that keeps these rows: parse, pack, insert 64 rows at a time.
async fn bare_sqlite(pool: &SqlitePool, records: &[Record]) -> anyhow::Result<f64> {
    const ROWS: usize = 64;
    let row = format!("({})", ["?"; 15].join(","));
    let sql = |rows| {
        format!(
            "INSERT INTO record ({COLUMNS}) VALUES {} ON CONFLICT DO NOTHING",
            vec![&*row; rows].join(",")
        )
    };
    let (many, mut packer) = (sql(ROWS).leak() as &'static str, packer()?);
    let begun = Instant::now();
    for batch in records.chunks(BATCH) {
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        for group in batch.chunks(ROWS) {
            let mut query = if group.len() == ROWS {
                sqlx::query(many)
            } else {
                sqlx::query(AssertSqlSafe(sql(group.len())))
            };
            for record in group {
                let (envelope, row) = (&record.envelope, Row::of(record, &mut packer)?);
                query = query
                    .bind(envelope.id.0)
                    .bind(1_i64)
                    .bind(envelope.seq.0 as i64)
                    .bind(envelope.at.micros());
                query = query.bind(envelope.received_at.micros()).bind(0_i64).bind(0_i64).bind(row.code);
                query = query.bind(row.audit_id).bind(row.verb).bind(row.username).bind(row.resource);
                query = query.bind(row.namespace).bind(row.name).bind(row.event);
            }
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(records.len() as f64 / begun.elapsed().as_secs_f64())
}

async fn postgres(records: &[Record], raw: usize) -> anyhow::Result<()> {
    let (bare, own) = (engines::Database::create().await, engines::Database::create().await);
    let bare_ledger = PostgresLedger::connect(&bare.url()).await?;
    // One batch makes the partition; its rows are the bare loop's to insert.
    bare_ledger
        .apply(&LogId("bench".into()), &Batch { records: records[..1].to_vec(), ..Batch::default() })
        .await?;
    sqlx::query("TRUNCATE record").execute(bare_ledger.pool()).await?;
    let bare_rate = bare_postgres(bare_ledger.pool(), records).await?;
    bare_ledger.close().await;
    let ledger = PostgresLedger::connect(&own.url()).await?;
    let rate = apply_all(&ledger, records).await?;
    let bytes: i64 = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'record'::regclass",
    )
    .fetch_one(ledger.pool())
    .await?;
    ledger.close().await;
    report("Postgres", rate, bare_rate, bytes as u64, raw);
    Ok(())
}

/// What any program would do that keeps these rows: parse, pack, COPY into a staging table, insert what is new.
async fn bare_postgres(pool: &PgPool, records: &[Record]) -> anyhow::Result<f64> {
    let mut connection = pool.acquire().await?;
    sqlx::query("CREATE TEMPORARY TABLE staging (LIKE record) ON COMMIT DELETE ROWS")
        .execute(&mut *connection)
        .await?;
    let mut packer = packer()?;
    let begun = Instant::now();
    for batch in records.chunks(BATCH) {
        let mut tx = sqlx::Connection::begin(&mut *connection).await?;
        let mut copy =
            tx.copy_in_raw(&format!("COPY staging ({COLUMNS}) FROM STDIN (FORMAT binary)")).await?;
        copy.send(copy_rows(batch, &mut packer)?).await?;
        copy.finish().await?;
        sqlx::query("INSERT INTO record SELECT * FROM staging ON CONFLICT DO NOTHING")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(records.len() as f64 / begun.elapsed().as_secs_f64())
}

fn copy_rows(records: &[Record], packer: &mut zstd::bulk::Compressor<'_>) -> anyhow::Result<Vec<u8>> {
    fn value(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    let time = |t: Timestamp| (t.micros() - 946_684_800_000_000).to_be_bytes();
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for record in records {
        let (envelope, row) = (&record.envelope, Row::of(record, packer)?);
        out.extend_from_slice(&15_i16.to_be_bytes());
        value(&mut out, envelope.id.0.as_bytes());
        value(&mut out, &1_i32.to_be_bytes());
        value(&mut out, &envelope.seq.0.to_be_bytes());
        value(&mut out, &time(envelope.at));
        value(&mut out, &time(envelope.received_at));
        value(&mut out, &0_i16.to_be_bytes());
        value(&mut out, &0_i64.to_be_bytes());
        value(&mut out, &row.code.to_be_bytes());
        value(&mut out, &row.audit_id);
        for text in [&row.verb, &row.username, &row.resource, &row.namespace, &row.name] {
            value(&mut out, text.as_bytes());
        }
        value(&mut out, &row.event);
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    Ok(out)
}

fn packer() -> std::io::Result<zstd::bulk::Compressor<'static>> {
    zstd::bulk::Compressor::with_dictionary(3, include_bytes!("../ingest/src/ledger/codec/1.dict"))
}

/// A record's columns.
struct Row {
    code: i16,
    audit_id: Vec<u8>,
    verb: String,
    username: String,
    resource: String,
    namespace: String,
    name: String,
    event: Vec<u8>,
}

impl Row {
    fn of(record: &Record, packer: &mut zstd::bulk::Compressor<'_>) -> anyhow::Result<Self> {
        let event = EventView::parse(&record.event)?;
        let text = |text: Option<std::borrow::Cow<'_, str>>| text.unwrap_or_default().into_owned();
        let object = event.object_ref().unwrap_or_default();
        let audit_id: Uuid = event.audit_id().unwrap_or_default().parse()?;
        Ok(Self {
            code: event.response_status().and_then(|status| status.code).unwrap_or(0) as i16,
            audit_id: [&[1][..], audit_id.as_bytes()].concat(),
            verb: text(event.verb()),
            username: text(event.user().and_then(|user| user.username)),
            resource: text(object.resource),
            namespace: text(object.namespace),
            name: text(object.name),
            event: packer.compress(&record.event)?,
        })
    }
}
