//! A day whose bodies were shredded is indexed again in its place, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/samples.rs"]
mod samples;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use index::{Index, IndexError, IndexOptions, Indexer, QUERY_TIME, SearchRequest, query};
use ingest::{
    log::Offset,
    record::{Record, RecordId},
    sealed::{self, NoKey, Open, Sealed},
    time::{Day, Timestamp},
};
use memory::{MemoryLedger, MemoryLog};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A machine under load needs its time; a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records of each of two days: several reads of the ledger.
const A_DAY: u64 = 1_300;

/// Opens what is sealed for as long as the key of its day is there.
#[derive(Debug, Default)]
struct Keys(Mutex<BTreeSet<Day>>);

#[async_trait]
impl Open for Keys {
    async fn prepare(&self, _: &[Record]) -> Result<(), NoKey> {
        Ok(())
    }

    fn open(&self, record: &Record) -> Option<Bytes> {
        let is_dropped = self.0.lock().unwrap().contains(&record.envelope.day());
        let opened = sealed::replace(&record.event, |_, body| Sealed::read(body)?.data);
        opened.map(Bytes::from).filter(|_| !is_dropped)
    }
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

/// Records of two days, each with a sealed body that names its day.
fn records() -> Vec<Record> {
    let of_day = |day: &str, first: u64, planted: &'static str| {
        let start: Timestamp = format!("{day}T10:00:00Z").parse().unwrap();
        (first..first + A_DAY).map(move |n| {
            let at = Timestamp::from_micros(start.micros() + n as i64 * 1_000_000);
            let body = Sealed { key: Uuid::nil(), data: Some(format!(r#"{{"a":"{planted}"}}"#).into()) };
            let body = String::from_utf8(body.write()).unwrap();
            samples::record(
                &format!(
                    r#"{{"stageTimestamp":"{at}","verb":"get","requestURI":"/n/{n}","requestObject":{body}}}"#
                ),
                n,
            )
        })
    };
    of_day("2026-11-22", 0, "firstplanted").chain(of_day("2026-11-23", A_DAY, "lastplanted")).collect()
}

async fn found(index: &Index, text: &str) -> Vec<RecordId> {
    let query = query::parse(text, Timestamp::default()).unwrap();
    let page = index.search(&query, SearchRequest::newest(10_000)).await.unwrap();
    page.hits.iter().map(|hit| hit.id).collect()
}

/// The files of a day's folder with their times of change.
fn files(dir: &Path, day: Day) -> BTreeMap<String, SystemTime> {
    let generation = fs::read_to_string(dir.join("CURRENT")).unwrap();
    let entries = fs::read_dir(dir.join(generation.trim()).join(day.to_string())).unwrap();
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().modified().unwrap())
    };
    entries.map(|entry| file(entry.unwrap())).filter(|(name, _)| !name.starts_with('.')).collect()
}

struct Fixture {
    dir: tempfile::TempDir,
    index: Index,
    keys: Arc<Keys>,
    log: MemoryLog,
    ledger: MemoryLedger,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Fixture {
    /// An index of the records, whose bodies are found, with a running indexer.
    async fn new(records: &[Record]) -> Self {
        let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new("a"));
        let (keys, ledger) = (Arc::new(Keys::default()), MemoryLedger::default());
        let index = Index::open(dir.path(), IndexOptions::default()).unwrap();
        index.index_bodies(keys.clone());
        log.push(records);
        ledger.record(&log, log.end());
        let cancel = CancellationToken::new();
        let task =
            tokio::spawn(Indexer::new(Arc::new(log.clone()), index.clone(), "test").run(cancel.clone()));
        let new = Self { dir, index, keys, log, ledger, cancel, task };
        new.caught_up().await;
        new
    }

    async fn caught_up(&self) {
        let mut commits = self.index.commits();
        let wait = async {
            while self.index.standing().positions != self.log.standing().positions {
                commits.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the index does not catch up");
    }

    fn drop_key(&self, day: Day) {
        self.keys.0.lock().unwrap().insert(day);
    }

    async fn renew(&self, day: Day) -> Result<u64, IndexError> {
        self.index.renew_day(day, &self.ledger, &CancellationToken::new(), |_| {}).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shredded_day_is_indexed_again_and_nobody_else_notices() {
    let records = records();
    let fixture = Fixture::new(&records).await;
    let (index, dir) = (&fixture.index, fixture.dir.path());
    let (shredded, kept) = (day("2026-11-22"), day("2026-11-23"));
    assert_eq!(found(index, "firstplanted").await.len() as u64, A_DAY, "the bodies are found before");
    let (before, other) = (files(dir, shredded), files(dir, kept));
    let token = index.tail_from(Timestamp::default());

    fixture.drop_key(shredded);
    let all: BTreeSet<_> = records.iter().map(|record| record.envelope.id).collect();
    let renewing = CancellationToken::new();
    let looking = {
        let (index, all, renewing) = (index.clone(), all.clone(), renewing.clone());
        tokio::spawn(async move {
            while !renewing.is_cancelled() {
                let found = found(&index, "").await;
                assert_eq!(found.len(), all.len(), "each once, all the time");
                assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
            }
        })
    };
    assert_eq!(fixture.renew(shredded).await.unwrap(), A_DAY);
    renewing.cancel();
    looking.await.unwrap();

    assert_eq!(found(index, "firstplanted").await, []);
    assert_eq!(found(index, "lastplanted").await.len() as u64, A_DAY);
    let after = files(dir, shredded);
    let both: Vec<_> = before.keys().filter(|name| after.contains_key(*name)).collect();
    assert_eq!(both, ["meta.json"], "a file of before is left");
    assert_eq!(files(dir, kept), other, "the other day was written");
    let all = query::parse("", Timestamp::default()).unwrap();
    let page = index.tail(&all, token, 10_000, QUERY_TIME).await.unwrap();
    assert!(page.hits.is_empty(), "who follows is given {} records again", page.hits.len());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_lacks_is_not_left_with_its_bodies_and_what_comes_meanwhile_is_kept() {
    let records = records();
    let (lost, rest) = records.split_last().unwrap();
    let (late, rest) = rest.split_last().unwrap();
    let fixture = Fixture::new(rest).await;
    let index = &fixture.index;
    let last = day("2026-11-23");
    // The ledger is past the one that was lost before it read it.
    fixture.log.push(std::slice::from_ref(lost));
    fixture.caught_up().await;
    fixture.ledger.record_at(&fixture.log, fixture.log.end());
    assert_eq!(found(index, "lastplanted").await.len() as u64, A_DAY - 1);

    fixture.drop_key(last);
    // Committed or not when the day begins, and nowhere with a body.
    fixture.log.push(std::slice::from_ref(late));
    fixture.ledger.record(&fixture.log, Offset(rest.len() as u64));
    fixture.ledger.record_at(&fixture.log, fixture.log.end());
    fixture.renew(last).await.unwrap();
    fixture.caught_up().await;
    assert_eq!(found(index, "lastplanted").await, []);
    let found: BTreeSet<_> = found(index, "").await.into_iter().collect();
    assert!(!found.contains(&lost.envelope.id), "nobody could show it");
    assert!(rest.iter().all(|record| found.contains(&record.envelope.id)));
    // A second time it is the same.
    fixture.renew(last).await.unwrap();
    assert_eq!(fixture.renew(day("2020-01-01")).await.unwrap(), 0);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_behind_is_waited_for() {
    let records = records();
    let fixture = Fixture::new(&records).await;
    let day = day("2026-11-22");
    fixture.drop_key(day);
    fixture.ledger.record_at(&fixture.log, Offset(0));
    let cancel = CancellationToken::new();
    let waiting = {
        let (index, ledger, cancel) = (fixture.index.clone(), fixture.ledger.clone(), cancel.clone());
        tokio::spawn(async move { index.renew_day(day, &ledger, &cancel, |_| panic!("it has begun")).await })
    };
    cancel.cancel();
    assert!(matches!(waiting.await.unwrap(), Err(IndexError::Cancelled)));
    fixture.ledger.record_at(&fixture.log, fixture.log.end());
    assert_eq!(fixture.renew(day).await.unwrap(), A_DAY);
    fixture.stop().await;
}
