//! An index keeps up with its log, survives crashes, is rebuilt under load and forgets what has expired.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/samples.rs"]
mod samples;
#[path = "support/writers.rs"]
mod writers;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use index::{Index, IndexError, IndexOptions, Indexer, Lacking, SearchRequest, Standing, query};
use ingest::{
    record::{Record, RecordId},
    time::{Day, Timestamp},
};
use memory::{MemoryLedger, MemoryLog};
use tokio_util::sync::CancellationToken;
use writers::Watch;

/// A machine under load needs its time; a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> Index {
    Index::open(dir, IndexOptions::default()).unwrap()
}

/// `count` records, one per second, numbered from `first`.
fn records(first: u64, count: u64) -> Vec<Record> {
    let start: Timestamp = "2026-11-22T23:59:00Z".parse().unwrap();
    (first..first + count)
        .map(|n| {
            let at = Timestamp::from_micros(start.micros() + n as i64 * 1_000_000);
            samples::record(&format!(r#"{{"stageTimestamp":"{at}","verb":"get","requestURI":"/n/{n}"}}"#), n)
        })
        .collect()
}

fn ids(records: &[Record]) -> BTreeSet<RecordId> {
    records.iter().map(|record| record.envelope.id).collect()
}

async fn found(index: &Index) -> Vec<RecordId> {
    let all = query::parse("", Timestamp::default()).unwrap();
    let page = index.search(&all, SearchRequest::newest(10_000)).await.unwrap();
    page.hits.iter().map(|hit| hit.id).collect()
}

async fn has_exactly(index: &Index, records: &[Record]) {
    let found = found(index).await;
    assert_eq!(found.len(), ids(records).len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids(records));
}

/// Waits until the index has committed everything of the log.
async fn caught_up(index: &Index, log: &MemoryLog) {
    let mut commits = index.commits();
    let wait = async {
        while index.standing().positions != log.standing().positions {
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the index does not catch up");
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(index: &Index, log: &MemoryLog) -> Running {
    let cancel = CancellationToken::new();
    let indexer = Indexer::new(std::sync::Arc::new(log.clone()), index.clone(), "test");
    Running { task: tokio::spawn(indexer.run(cancel.clone())), cancel }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_found_once_although_the_log_has_it_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log) = (open(dir.path()), MemoryLog::new("a"));
    let running = run(&index, &log);
    log.push(&records(0, 300));
    caught_up(&index, &log).await;
    log.push(&records(200, 200));
    log.push(&records(200, 10));
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 400)).await;
    running.stop().await;
    assert_eq!(ingest::log::Log::published(&log, "").await.unwrap(), log.standing().positions);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_it_goes_on_at_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("a");
    log.push(&records(0, 100));
    {
        let index = open(dir.path());
        index.add(&records(0, 100)).unwrap();
        index.commit(&log.standing()).unwrap();
        index.add(&records(100, 50)).unwrap();
    }
    log.push(&records(100, 80));
    let index = open(dir.path());
    assert_eq!(index.standing().positions[&0].0, 100);
    has_exactly(&index, &records(0, 100)).await;
    let running = run(&index, &log);
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 180)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_days_and_the_position_replays_into_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("a");
    log.push(&records(0, 100));
    let positions = dir.path().join("1/positions.json");
    {
        let index = open(dir.path());
        index.add(&records(0, 60)).unwrap();
        index
            .commit(&Standing::at(log.standing().log.unwrap(), [(0, ingest::log::Offset(60))].into()))
            .unwrap();
        let before = fs::read(&positions).unwrap();
        index.add(&records(60, 40)).unwrap();
        index.commit(&log.standing()).unwrap();
        fs::write(&positions, before).unwrap();
    }
    let index = open(dir.path());
    has_exactly(&index, &records(0, 100)).await;
    assert_eq!(index.standing().positions[&0].0, 60);
    let running = run(&index, &log);
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 100)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_made_anew_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let first = MemoryLog::new("a");
    first.push(&records(0, 50));
    let running = run(&index, &first);
    caught_up(&index, &first).await;
    running.stop().await;
    let second = MemoryLog::new("b");
    second.push(&records(50, 20));
    let running = run(&index, &second);
    caught_up(&index, &second).await;
    has_exactly(&index, &records(0, 70)).await;
    assert_eq!(index.standing().log, second.standing().log);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_load_loses_nothing_and_removes_the_old_index() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    // What only the ledger has: the log has forgotten it.
    let old = MemoryLog::new("a");
    old.push(&records(5_000, 700));
    ledger.record(&old, old.end());
    log.push(&records(0, 1_000));
    let running = run(&index, &log);
    caught_up(&index, &log).await;
    let load = {
        let (log, ledger) = (log.clone(), ledger.clone());
        tokio::spawn(async move {
            for part in 0..40 {
                log.push(&records(1_000 + part * 25, 25));
                tokio::time::sleep(Duration::from_millis(20)).await;
                // The recorder is always a little behind.
                ledger.record(&log, ingest::log::Offset(log.end().0 - 10));
            }
            ledger.record(&log, log.end());
        })
    };
    // Who asks meanwhile, and while the new index takes the place of the old one, finds all that was there before.
    let asked = {
        let (index, before, ended) = (index.clone(), ids(&records(0, 1_000)), CancellationToken::new());
        let until = ended.clone();
        let asking = tokio::spawn(async move {
            let mut times = 0;
            while !until.is_cancelled() {
                let found: BTreeSet<_> = found(&index).await.into_iter().collect();
                assert!(found.is_superset(&before), "{} of {} are left", found.len(), before.len());
                times += 1;
            }
            times
        });
        (asking, ended)
    };
    let done = index.rebuild(&ledger, &CancellationToken::new(), |_| {}).await.unwrap();
    assert!(done >= 700, "{done}");
    load.await.unwrap();
    caught_up(&index, &log).await;
    asked.1.cancel();
    let times = asked.0.await.unwrap();
    assert!(times >= 3, "asked {times} times only");
    running.stop().await;
    let expected: Vec<_> = records(0, 2_000).into_iter().chain(records(5_000, 700)).collect();
    has_exactly(&index, &expected).await;
    assert!(!dir.path().join("1").exists(), "the old generation is gone");
    drop(index);
    let index = open(dir.path());
    has_exactly(&index, &expected).await;
    assert_eq!(index.standing().positions, log.standing().positions);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_without_an_indexer_ends_at_the_ledger_s_position() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 900));
    ledger.record(&log, ingest::log::Offset(600));
    let mut days = Vec::new();
    index
        .rebuild(&ledger, &CancellationToken::new(), |progress| days.push((progress.done, progress.total)))
        .await
        .unwrap();
    assert_eq!(days.last(), Some(&(600, 600)));
    has_exactly(&index, &records(0, 600)).await;
    assert_eq!(index.standing().positions[&0].0, 600);
    let running = run(&index, &log);
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 900)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_rebuild_leaves_the_index_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 2_000));
    ledger.record(&log, log.end());
    index.add(&records(0, 10)).unwrap();
    index.commit(&Standing::default()).unwrap();
    let cancel = CancellationToken::new();
    let rebuilt = index.rebuild(&ledger, &cancel, |_| cancel.cancel()).await;
    assert!(matches!(rebuilt, Err(IndexError::Cancelled)), "{rebuilt:?}");
    has_exactly(&index, &records(0, 10)).await;
    assert!(!dir.path().join("2").exists(), "what was begun is gone");
    index.rebuild(&ledger, &CancellationToken::new(), |_| {}).await.unwrap();
    has_exactly(&index, &records(0, 2_000)).await;
}

#[tokio::test]
async fn an_index_of_another_version_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    assert_eq!(index.standing().lacking, Some(Lacking::New));
    index.accept_new().unwrap();
    index.add(&records(0, 10)).unwrap();
    index.commit(&Standing::default()).unwrap();
    drop(index);
    let index = open(dir.path());
    assert_eq!((index.standing().lacking, found(&index).await.len()), (None, 10));
    drop(index);
    fs::write(dir.path().join("1/version"), "0").unwrap();
    let index = open(dir.path());
    let lacking = Some(Lacking::OtherVersion { found: 0 });
    assert_eq!((&index.standing().lacking, found(&index).await.len()), (&lacking, 0));
    index.accept_new().unwrap();
    assert_eq!(index.standing().lacking, lacking, "it has to be rebuilt, now and after a restart");
    drop(index);
    assert_eq!(open(dir.path()).standing().lacking, lacking);
    assert!(!dir.path().join("1").exists());
}

#[tokio::test]
async fn expired_days_go_with_their_folders() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    index.add(&records(0, 100)).unwrap();
    index.commit(&Standing::default()).unwrap();
    let first: Day = "2026-11-23".parse().unwrap();
    assert_eq!(index.expire(first).unwrap(), [first.plus(-1)]);
    assert!(!dir.path().join("1/2026-11-22").exists());
    has_exactly(&index, &records(60, 40)).await;
    index.add(&records(100, 5)).unwrap();
    index.commit(&Standing::default()).unwrap();
    has_exactly(&index, &records(60, 45)).await;
}

#[tokio::test]
async fn records_of_four_hundred_days_take_few_files_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let day = |n: u64| {
        let at = Timestamp::from_micros(1_760_000_000_000_000 + n as i64 * 86_400_000_000);
        samples::record(&format!(r#"{{"stageTimestamp":"{at}"}}"#), n)
    };
    let spread: Vec<Record> = (0..400).map(day).collect();
    index.add(&spread).unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    let files = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(threads < 100 && files < 200, "{threads} threads, {files} files");
    index.commit(&Standing::default()).unwrap();
    has_exactly(&index, &spread).await;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let days: BTreeSet<_> = maps
        .lines()
        .filter_map(|line| line.split(dir.path().to_str().unwrap()).nth(1)?.split('/').nth(2))
        .collect();
    assert!(days.len() < 40, "{} days are mapped", days.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_four_hundred_days_has_at_most_four_writers_open() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, watch) = (open(dir.path()), MemoryLog::new("a"), Watch::start(dir.path()));
    let running = run(&index, &log);
    // Days of a few records, and days of so many that they are kept open.
    log.push(&spread(0, 400, 400));
    log.push(&spread(400, 6_500, 5));
    caught_up(&index, &log).await;
    log.push(&spread(6_900, 60, 60));
    caught_up(&index, &log).await;
    running.stop().await;
    assert_eq!(watch.most().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_beside_live_indexing_has_at_most_four_writers_open() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&spread(0, 4_000, 40));
    let running = run(&index, &log);
    caught_up(&index, &log).await;
    ledger.record(&log, log.end());
    let watch = Watch::start(dir.path());
    let mut sent = 4_000;
    // Uncommitted records of four days are open when it begins, and more days come while it goes on.
    let push = |_| {
        log.push(&spread(sent, 60, 30));
        sent += 60;
    };
    index.rebuild(&ledger, &CancellationToken::new(), push).await.unwrap();
    log.push(&spread(sent, 60, 60));
    sent += 60;
    caught_up(&index, &log).await;
    running.stop().await;
    assert_eq!(watch.most().await, 4, "four during the rebuild, and four again after it");
    let everything = [spread(0, 4_000, 40), spread(4_000, sent - 4_060, 30), spread(sent - 60, 60, 60)];
    has_exactly(&index, &everything.concat()).await;
}

#[tokio::test]
async fn a_rebuild_that_begins_amid_uncommitted_days_closes_some_first() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&spread(0, 400, 8));
    ledger.record(&log, log.end());
    index.add(&spread(0, 400, 8)).unwrap();
    let watch = Watch::start(dir.path());
    index.rebuild(&ledger, &CancellationToken::new(), |_| {}).await.unwrap();
    assert_eq!(watch.most().await, 4);
    has_exactly(&index, &spread(0, 400, 8)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_although_no_other_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log) = (open(dir.path()), MemoryLog::new("a"));
    let running = run(&index, &log);
    log.push(&records(0, 1));
    caught_up(&index, &log).await;
    log.push(&records(1, 1));
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 2)).await;
    running.stop().await;
}

/// `count` records, each on the day after the one before, over `days` days.
fn spread(first: u64, count: u64, days: u64) -> Vec<Record> {
    let start: Timestamp = "2025-10-01T10:00:00Z".parse().unwrap();
    (first..first + count)
        .map(|n| {
            let at = start.micros() + (n % days) as i64 * 86_400_000_000 + n as i64;
            let at = Timestamp::from_micros(at);
            samples::record(&format!(r#"{{"stageTimestamp":"{at}","verb":"get","requestURI":"/n/{n}"}}"#), n)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_many_days_in_any_order_is_found_soon() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log) = (open(dir.path()), MemoryLog::new("a"));
    let running = run(&index, &log);
    let began = Instant::now();
    for batch in 0..20 {
        log.push(&spread(batch * 100, 100, 100));
    }
    // Some are there twice, as after a crash.
    log.push(&spread(50, 100, 100));
    caught_up(&index, &log).await;
    println!("2000 records of 100 days: {:?}", began.elapsed());
    has_exactly(&index, &spread(0, 2_000, 100)).await;
    running.stop().await;
    drop(index);
    has_exactly(&open(dir.path()), &spread(0, 2_000, 100)).await;
}

#[tokio::test]
async fn free_text_finds_what_the_pipeline_says_about_itself() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let fact = r#"{"kind":"Fact","type":"rejected","stageTimestamp":"2026-11-22T10:00:00.000000Z","cluster":"mixed","message":"refused 2 items for cluster mixed: malformed 2"}"#;
    index.add(&[samples::record(fact, 1), records(0, 1).remove(0)]).unwrap();
    index.commit(&MemoryLog::new("a").standing()).unwrap();
    for text in ["refused", r#""for cluster mixed""#, "malf*"] {
        let query = query::parse(text, Timestamp::default()).unwrap();
        let page = index.search(&query, SearchRequest::newest(10)).await.unwrap();
        assert_eq!(page.hits.len(), 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_received_again_a_day_later_stays_one_in_the_day_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path());
    let first = records(0, 1);
    let mut again = first.clone();
    again[0].envelope.received_at = Timestamp::from_micros(first[0].envelope.at.micros() + 86_400_000_000);
    assert_ne!(again[0].envelope.received_at.day(), first[0].envelope.at.day());
    for records in [&first, &again] {
        index.add(records).unwrap();
        index.commit(&Standing::default()).unwrap();
    }
    has_exactly(&index, &first).await;
}
