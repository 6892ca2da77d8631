//! Journal append beside fdatasync of the same bytes, and beside SQLite.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ingest::{
    journal::{Journal, JournalOptions},
    record::{Draft, Record},
    time::Clock,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinSet;

use crate::{
    Args,
    figures::{Figure, Goal, Line, Times, median},
    input,
};

/// Different events in a run; they are appended again and again.
const EVENTS: usize = 20_000;
/// Room for what one run appends, so that no measurement waits for space.
const JOURNAL_BYTES: u64 = 8 << 30;

/// How the events arrive.
#[derive(Clone, Copy)]
struct Load {
    producers: usize,
    batch: usize,
}

impl Load {
    fn name(self) -> String {
        match self.batch {
            1 => format!(
                "journal append, {} producer{}",
                self.producers,
                if self.producers == 1 { "" } else { "s" }
            ),
            n => format!("journal append, batches of {n}"),
        }
    }
}

/// Throughput and waiting times of one run.
struct Run {
    rate: f64,
    times: Times,
}

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let drafts = Arc::new(input::drafts(EVENTS));
    let records = Arc::new(input::records(&drafts));
    let time = args.full_or_quick(Duration::from_secs(5), Duration::from_secs(1));
    let mut lines = Vec::new();
    for load in
        [Load { producers: 1, batch: 1 }, Load { producers: 64, batch: 1 }, Load { producers: 1, batch: 400 }]
    {
        let (mut ours, mut raw, mut sqlite) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.rounds() {
            ours.push(journal(args, &drafts, load, time).await?);
            raw.push(fdatasync(args, &records, load, time).await?);
            sqlite.push(in_sqlite(args, &records, load, time).await?);
        }
        let mut rate = Line::new(load.name(), rate_of(&ours)).beside("fdatasync", rate_of(&raw));
        if let Some(goal) = least(load) {
            rate = rate.goal(Goal::AtLeast(Figure::PerSecond(goal)));
        }
        lines.push(rate);
        lines.push(
            Line::new(format!("{}: p99", load.name()), p99_of(ours.iter()))
                .beside("fdatasync", p99_of(raw.iter()))
                .goal(Goal::RatioAtMost(3.0)),
        );
        lines.push(Line::new(load.name(), rate_of(&ours)).beside("SQLite", rate_of(&sqlite)));
    }
    Ok(lines)
}

fn least(load: Load) -> Option<f64> {
    match (load.producers, load.batch) {
        (64, _) => Some(30_000.0),
        (_, 400) => Some(100_000.0),
        _ => None,
    }
}

fn rate_of(runs: &[Run]) -> Figure {
    Figure::PerSecond(median(runs.iter().map(|run| run.rate).collect()))
}

fn p99_of<'a>(runs: impl Iterator<Item = &'a Run>) -> Figure {
    let p99 = runs.map(|run| run.times.quantile(0.99).as_secs_f64()).collect();
    Figure::Time(Duration::from_secs_f64(median(p99)))
}

async fn journal(args: &Args, drafts: &Arc<Vec<Draft>>, load: Load, time: Duration) -> anyhow::Result<Run> {
    let folder = args.folder()?;
    let options =
        JournalOptions { max_bytes: JOURNAL_BYTES, ..JournalOptions::new("bench", Clock::system()) };
    let (journal, _) = Journal::open(folder.path(), options)?;
    let began = Instant::now();
    let mut producers = JoinSet::new();
    for producer in 0..load.producers {
        let (journal, drafts) = (journal.clone(), Arc::clone(drafts));
        producers.spawn(async move {
            let (mut times, mut appended) = (Times::default(), 0);
            let mut at = producer * drafts.len() / load.producers;
            while began.elapsed() < time {
                let batch = (at..at + load.batch).map(|n| drafts[n % drafts.len()].clone()).collect();
                at += load.batch;
                let asked = Instant::now();
                journal.append(batch).await?;
                times.push(asked.elapsed());
                appended += load.batch;
            }
            anyhow::Ok((times, appended))
        });
    }
    let (mut times, mut appended) = (Times::default(), 0);
    while let Some(done) = producers.join_next().await {
        let (theirs, count) = done??;
        times.extend(theirs);
        appended += count;
    }
    Ok(Run { rate: appended as f64 / began.elapsed().as_secs_f64(), times })
}

/// What the disk alone gives: blocks of as many records as arrive together, written and synced one after the other.
async fn fdatasync(
    args: &Args,
    records: &Arc<Vec<Record>>,
    load: Load,
    time: Duration,
) -> anyhow::Result<Run> {
    let folder = args.folder()?;
    let records = Arc::clone(records);
    tokio::task::spawn_blocking(move || synced_writes(folder.path(), &records, load, time)).await?
}

fn synced_writes(folder: &Path, records: &[Record], load: Load, time: Duration) -> anyhow::Result<Run> {
    /// As a journal does it: space is set aside first, so that a write changes no metadata.
    const SEGMENT: u64 = 256 << 20;
    let mut file = segment(folder, SEGMENT)?;
    let group = load.producers.max(load.batch);
    let (mut times, mut written, mut in_segment, mut block) = (Times::default(), 0usize, 0u64, Vec::new());
    let began = Instant::now();
    while began.elapsed() < time {
        block.clear();
        (written..written + group).for_each(|n| records[n % records.len()].encode_into(&mut block));
        if in_segment + block.len() as u64 > SEGMENT {
            (file, in_segment) = (segment(folder, SEGMENT)?, 0);
        }
        let asked = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(asked.elapsed());
        in_segment += block.len() as u64;
        written += group;
    }
    Ok(Run { rate: written as f64 / began.elapsed().as_secs_f64(), times })
}

fn segment(folder: &Path, bytes: u64) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("raw"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// A table of ids and stored records, one transaction for as many as arrive together.
async fn in_sqlite(args: &Args, records: &[Record], load: Load, time: Duration) -> anyhow::Result<Run> {
    let folder = args.folder()?;
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("journal.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut db = SqliteConnection::connect_with(&options).await?;
    sqlx::query("CREATE TABLE journal (seq INTEGER PRIMARY KEY, record BLOB NOT NULL)")
        .execute(&mut db)
        .await?;
    let group = load.producers.max(load.batch);
    let (mut times, mut written, mut stored) = (Times::default(), 0usize, Vec::new());
    let began = Instant::now();
    while began.elapsed() < time {
        let asked = Instant::now();
        let mut transaction = db.begin().await?;
        for n in written..written + group {
            stored.clear();
            records[n % records.len()].encode_into(&mut stored);
            sqlx::query("INSERT INTO journal (record) VALUES (?)")
                .bind(&stored[..])
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        times.push(asked.elapsed());
        written += group;
    }
    Ok(Run { rate: written as f64 / began.elapsed().as_secs_f64(), times })
}
