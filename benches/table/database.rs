//! A database of its own on the running Postgres, and COPY into the ledger's table without the ledger.

use std::sync::Arc;

use ingest::{
    record::{Record, RecordId},
    time::Day,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::columns::Columns;

/// Columns of a row of `record`.
const FIELDS: i16 = 15;
/// Postgres counts time from 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// What is sent at a time.
const SEND_BYTES: usize = 256 * 1024;

/// Dropped when the row of the table is done.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn create(server: &str) -> anyhow::Result<Self> {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(server).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        Ok(Self { server: server.to_owned(), name })
    }

    /// Its URL: the server's with another path.
    pub(crate) fn url(&self) -> String {
        let (base, parameters) =
            self.server.split_once('?').map_or((self.server.as_str(), None), |(b, p)| (b, Some(p)));
        let host = base.find("://").map_or(0, |at| at + 3);
        let base = base[host..].find('/').map_or(base, |at| &base[..host + at]);
        format!("{base}/{}{}", self.name, parameters.map(|p| format!("?{p}")).unwrap_or_default())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url()).await?)
    }

    /// Bytes of every table and index of the ledger, once its rows have settled.
    pub(crate) async fn bytes(&self) -> anyhow::Result<u64> {
        let mut connection = self.connect().await?;
        sqlx::query("VACUUM ANALYZE").execute(&mut connection).await?;
        let bytes: i64 = sqlx::query_scalar(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok(bytes.unsigned_abs())
    }

    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.server).await?;
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name)))
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}

/// Copies batches into the ledger's own table: one COPY and one transaction for each.
pub(crate) async fn copy_all(
    database: &str,
    batches: impl IntoIterator<Item = Arc<Vec<Record>>>,
) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    let (mut columns, mut days, mut rows) = (Columns::new()?, Vec::new(), Vec::new());
    for mut batch in batches {
        Arc::make_mut(&mut batch).sort_by_key(|record| record.envelope.id);
        for record in batch.iter() {
            let day = record.envelope.id.day();
            if !days.contains(&day) {
                partition(&mut connection, day).await?;
                days.push(day);
            }
        }
        let mut copy = connection.copy_in_raw("COPY record FROM STDIN (FORMAT binary)").await?;
        rows.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        for record in batch.iter() {
            push(&mut columns, record, &mut rows)?;
            if rows.len() >= SEND_BYTES {
                copy.send(rows.as_slice()).await?;
                rows.clear();
            }
        }
        rows.extend_from_slice(&(-1_i16).to_be_bytes());
        copy.send(rows.as_slice()).await?;
        rows.clear();
        copy.finish().await?;
    }
    Ok(())
}

async fn partition(connection: &mut PgConnection, day: Day) -> anyhow::Result<()> {
    let (from, to) = (RecordId::floor(day.start()), RecordId::floor(day.plus(1).start()));
    let name = day.to_string().replace('-', "_");
    let sql = format!("CREATE TABLE bare_{name} PARTITION OF record FOR VALUES FROM ('{from}') TO ('{to}')");
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

fn push(columns: &mut Columns, record: &Record, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let (envelope, row) = (&record.envelope, columns.of(record)?);
    out.extend_from_slice(&FIELDS.to_be_bytes());
    field(out, envelope.id.0.as_bytes());
    field(out, &(envelope.at.micros() - POSTGRES_EPOCH_MICROS).to_be_bytes());
    field(out, &(envelope.received_at.micros() - POSTGRES_EPOCH_MICROS).to_be_bytes());
    field(out, &(envelope.seq.0 as i64).to_be_bytes());
    field(out, &0_i64.to_be_bytes());
    field(out, &1_i32.to_be_bytes());
    field(out, &0_i16.to_be_bytes());
    field(out, &(row.code as i16).to_be_bytes());
    field(out, &row.audit_id);
    for text in [&row.verb, &row.username, &row.resource, &row.namespace, &row.name] {
        field(out, text.as_bytes());
    }
    field(out, &row.event);
    Ok(())
}

fn field(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}
