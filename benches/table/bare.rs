//! The bare loops: events straight into the same table and the same tantivy schema, with nothing around them.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use index::bare::Bare;
use ingest::record::Record;
use sqlx::{Arguments, Connection, SqliteConnection, sqlite::SqliteArguments};
use tantivy::IndexWriter;

use crate::{columns::Columns, database, input, topic::Topic};

/// Records of one transaction, and of one step between reading and writing: as many as Muniment's recorder takes at
/// most into one.
const BATCH: usize = 4_096;
/// Rows of one INSERT statement.
const ROWS: usize = 50;
/// Batches that may wait for a writer.
const WAITING: usize = 4;
/// What the indexer of Muniment has too: two threads and 20 MB for each.
const INDEX_THREADS: usize = 2;
const INDEX_BYTES: usize = INDEX_THREADS * 20_000_000;
/// Events between two commits of tantivy: about as often as an indexer with a backlog commits.
const COMMIT_EVERY: u64 = 40_000;

type Shared = Arc<Vec<Record>>;

/// A loop that reads an audit log into SQLite and tantivy; seconds until both have committed it.
pub(crate) fn embedded(log: &Path, ledger: &Path, index: &Path) -> anyhow::Result<f64> {
    both(
        |batches| {
            let mut lines = BufReader::with_capacity(1 << 20, File::open(log)?);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line)? > 0 {
                batches.push(line.trim_ascii_end())?;
                line.clear();
            }
            Ok(())
        },
        |batches| into_sqlite(ledger, batches),
        index,
    )
}

/// A loop that reads a topic into Postgres and tantivy; seconds until both have committed it.
pub(crate) fn networked(topic: &Topic, entries: u64, database: &str, index: &Path) -> anyhow::Result<f64> {
    both(
        |batches| topic.read(entries, |event| if is_own(event) { Ok(()) } else { batches.push(event) }),
        |batches| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(database::copy_all(database, batches))
        },
        index,
    )
}

/// Facts about the pipeline and uses of its interface are no audit events: a handful, which the loop leaves out.
fn is_own(event: &[u8]) -> bool {
    [&br#"{"kind":"Fact""#[..], br#"{"kind":"Access""#].iter().any(|start| event.starts_with(start))
}

/// Reads with one thread, and writes with one for the ledger and those of tantivy; seconds until both have made their
/// last commit. Merges of segments may be under way then, as they may be when Muniment's index has everything.
fn both(
    read: impl FnOnce(&mut Batches) -> anyhow::Result<()>,
    write: impl FnOnce(Receiver<Shared>) -> anyhow::Result<()> + Send,
    index: &Path,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let (seconds, writer) = thread::scope(|scope| {
        let (to_ledger, for_ledger) = sync_channel::<Shared>(WAITING);
        let (to_index, for_index) = sync_channel::<Shared>(WAITING);
        let ledger = scope.spawn(move || write(for_ledger));
        let index = scope.spawn(move || into_tantivy(index, for_index));
        let mut batches =
            Batches { batch: Vec::new(), seq: 0, cluster: "bench".into(), to: [to_ledger, to_index] };
        read(&mut batches)?;
        batches.send()?;
        drop(batches);
        ledger.join().map_err(|_| anyhow::anyhow!("the ledger's thread panicked"))??;
        let writer = index.join().map_err(|_| anyhow::anyhow!("the index's thread panicked"))??;
        anyhow::Ok((began.elapsed().as_secs_f64(), writer))
    })?;
    writer.wait_merging_threads()?;
    Ok(seconds)
}

/// Puts events together and hands them to both writers.
struct Batches {
    batch: Vec<Record>,
    seq: u64,
    cluster: Arc<str>,
    to: [SyncSender<Shared>; 2],
}

impl Batches {
    fn push(&mut self, event: &[u8]) -> anyhow::Result<()> {
        self.seq += 1;
        self.batch.push(input::record(event, self.seq, &self.cluster));
        if self.batch.len() == BATCH { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let batch = Arc::new(std::mem::take(&mut self.batch));
        for to in &self.to {
            to.send(Arc::clone(&batch))
                .map_err(|_| anyhow::anyhow!("a writer of the bare loop has ended early"))?;
        }
        Ok(())
    }
}

/// Adds everything and commits it; the writer, whose merges may be under way.
fn into_tantivy(
    folder: &Path,
    batches: impl IntoIterator<Item = Arc<Vec<Record>>>,
) -> anyhow::Result<IndexWriter> {
    let index = Bare::create(folder)?;
    let mut writer = index.writer(INDEX_THREADS, INDEX_BYTES)?;
    let (mut added, mut committed) = (0, 0);
    for batch in batches {
        for record in batch.iter() {
            index.add(&writer, record, added)?;
            added += 1;
        }
        if added - committed >= COMMIT_EVERY {
            writer.commit()?;
            committed = added;
        }
    }
    writer.commit()?;
    Ok(writer)
}

fn into_sqlite(file: &Path, batches: impl IntoIterator<Item = Arc<Vec<Record>>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // The ledger makes its own table; after that it is left alone.
        ingest::ledger::SqliteLedger::open(file).await?.close().await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).foreign_keys(true);
        let options =
            options.synchronous(sqlx::sqlite::SqliteSynchronous::Full).pragma("wal_autocheckpoint", "4096");
        let mut db = SqliteConnection::connect_with(&options).await?;
        let mut columns = Columns::new()?;
        for mut batch in batches {
            // Neighbours in the table are written together, as any ledger would.
            Arc::make_mut(&mut batch).sort_by_key(|record| record.envelope.id);
            let mut transaction = db.begin().await?;
            for rows in batch.chunks(ROWS) {
                let mut arguments = SqliteArguments::default();
                for record in rows {
                    columns.bind(record, &mut arguments)?;
                }
                sqlx::query_with(sqlx::AssertSqlSafe(insert(rows.len())), arguments)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
        }
        anyhow::Ok(())
    })
}

fn insert(rows: usize) -> String {
    let row = format!("({})", ["?"; 15].join(","));
    format!(
        "INSERT INTO record (id, origin, seq, at, received_at, kind, redactions, code, audit_id, verb, username, \
         resource, namespace, name, event) VALUES {} ON CONFLICT DO NOTHING",
        vec![row; rows].join(",")
    )
}

impl Columns {
    fn bind(&mut self, record: &Record, arguments: &mut SqliteArguments) -> anyhow::Result<()> {
        let envelope = &record.envelope;
        let row = self.of(record)?;
        let bound = (|| {
            arguments.add(envelope.id.0)?;
            arguments.add(1_i64)?;
            arguments.add(envelope.seq.0 as i64)?;
            arguments.add(envelope.at.micros())?;
            arguments.add(envelope.received_at.micros())?;
            arguments.add(0_i64)?;
            arguments.add(0_i64)?;
            arguments.add(row.code)?;
            arguments.add(row.audit_id)?;
            arguments.add(row.verb)?;
            arguments.add(row.username)?;
            arguments.add(row.resource)?;
            arguments.add(row.namespace)?;
            arguments.add(row.name)?;
            arguments.add(row.event)
        })();
        bound.map_err(|e: sqlx::error::BoxDynError| anyhow::anyhow!(e))
    }
}
