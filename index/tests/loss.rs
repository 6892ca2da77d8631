//! What the log lost before it was indexed comes from the ledger.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/samples.rs"]
mod samples;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use index::{Index, IndexError, IndexOptions, Indexer, Lacking, SearchRequest, query};
use ingest::{
    log::Offset,
    record::{Record, RecordId},
    time::Timestamp,
};
use memory::{MemoryLedger, MemoryLog};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A machine under load needs its time; a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> Index {
    Index::open(dir, IndexOptions::default()).unwrap()
}

/// One that lacks nothing because there was nothing.
fn open_new(dir: &Path) -> Index {
    let index = open(dir);
    index.accept_new().unwrap();
    index
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

async fn has_exactly(index: &Index, records: &[Record]) {
    let all = query::parse("", Timestamp::default()).unwrap();
    let page = index.search(&all, SearchRequest::newest(10_000)).await.unwrap();
    assert_eq!(page.hits.len(), ids(records).len(), "each once");
    assert_eq!(page.hits.iter().map(|hit| hit.id).collect::<BTreeSet<_>>(), ids(records));
}

/// An indexer at work.
struct Running {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(index: &Index, log: &MemoryLog) -> Self {
        let cancel = CancellationToken::new();
        let indexer = Indexer::new(Arc::new(log.clone()), index.clone(), "test");
        Self { task: tokio::spawn(indexer.run(cancel.clone())), cancel }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// Waits for a commit after which `done` holds.
async fn until(index: &Index, done: impl Fn(&Index) -> bool) {
    let mut commits = index.commits();
    let wait = async {
        while !done(index) {
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the index does not get there");
}

async fn caught_up(index: &Index, log: &MemoryLog) {
    until(index, |index| {
        let (is, wanted) = (index.standing(), log.standing());
        (is.log, is.positions) == (wanted.log, wanted.positions)
    })
    .await;
}

fn is_whole(index: &Index) -> bool {
    index.standing().lacking.is_none()
}

async fn rebuild(index: &Index, ledger: &MemoryLedger) -> Result<u64, IndexError> {
    index.rebuild(ledger, &CancellationToken::new(), |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_only_the_ledger_read_in_time_comes_by_a_rebuild_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open_new(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 100));
    let running = Running::start(&index, &log);
    caught_up(&index, &log).await;
    running.stop().await;

    log.push(&records(100, 60));
    ledger.record(&log, log.end());
    log.forget_before(150);
    let running = Running::start(&index, &log);
    caught_up(&index, &log).await;
    let lacking = index.standing().lacking;
    assert!(
        matches!(&lacking, Some(Lacking::Range { reason }) if reason.contains("offsets 100 to 150 of partition 0")),
        "{lacking:?}"
    );
    has_exactly(&index, &[records(0, 100), records(150, 10)].concat()).await;
    running.stop().await;
    drop(index);

    let index = open(dir.path());
    assert_eq!(index.standing().lacking, lacking, "a restart does not forget it");
    let running = Running::start(&index, &log);
    rebuild(&index, &ledger).await.unwrap();
    assert!(is_whole(&index));
    has_exactly(&index, &records(0, 160)).await;
    log.push(&records(160, 5));
    caught_up(&index, &log).await;
    has_exactly(&index, &records(0, 165)).await;
    running.stop().await;
    drop(index);
    assert!(is_whole(&open(dir.path())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_made_anew_under_the_indexer_leaves_index_and_ledger_in_agreement() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open_new(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 100));
    // What the ledger has not read of the former log it will never have.
    ledger.record(&log, Offset(90));
    let running = Running::start(&index, &log);
    caught_up(&index, &log).await;

    log.renew("b");
    log.push(&records(200, 30));
    caught_up(&index, &log).await;
    assert!(matches!(index.standing().lacking, Some(Lacking::Log { .. })), "{:?}", index.standing());
    // The rebuild waits for the ledger to be done with the former log.
    let (waits, of) = (index.clone(), ledger.clone());
    let rebuilding = tokio::spawn(async move { rebuild(&waits, &of).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!rebuilding.is_finished());
    ledger.record(&log, log.end());
    rebuilding.await.unwrap().unwrap();
    assert!(is_whole(&index));
    has_exactly(&index, &[records(0, 90), records(200, 30)].concat()).await;
    log.push(&records(230, 5));
    caught_up(&index, &log).await;
    has_exactly(&index, &[records(0, 90), records(200, 35)].concat()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_lost_during_a_rebuild_asks_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open_new(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 50));
    ledger.record(&log, log.end());
    let running = Running::start(&index, &log);
    caught_up(&index, &log).await;

    let losing = log.clone();
    let lose = move |_| {
        if losing.end() == Offset(50) {
            losing.push_and_lose(&records(50, 20), 65);
        }
    };
    index.rebuild(&ledger, &CancellationToken::new(), lose).await.unwrap();
    caught_up(&index, &log).await;
    until(&index, |index| !is_whole(index)).await;
    ledger.record(&log, log.end());
    rebuild(&index, &ledger).await.unwrap();
    assert!(is_whole(&index));
    has_exactly(&index, &records(0, 70)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_index_beside_a_log_without_its_beginning_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, ledger) = (MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 300));
    ledger.record(&log, log.end());
    log.forget_before(280);
    let index = open(dir.path());
    let (index_of, of) = (index.clone(), ledger.clone());
    let running = Running::start(&index, &log);
    // Asked for before the indexer knows that the beginning is gone.
    tokio::spawn(async move { rebuild(&index_of, &of).await }).await.unwrap().unwrap();
    caught_up(&index, &log).await;
    assert!(is_whole(&index));
    has_exactly(&index, &records(0, 300)).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_index_read_in_time_is_found_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (index, log, ledger) = (open_new(dir.path()), MemoryLog::new("a"), MemoryLedger::default());
    log.push(&records(0, 100));
    let running = Running::start(&index, &log);
    caught_up(&index, &log).await;
    index.compare_gaps(&ledger).await.unwrap();
    ledger.lose(7, 7, "set aside, it is no record: no envelope");
    index.compare_gaps(&ledger).await.unwrap();
    assert!(is_whole(&index), "an entry that is no record is in no index");

    // The ledger's reader was stopped until 40 to 60 were gone.
    let kept = [records(0, 40), records(60, 40)].concat();
    let reads = MemoryLog::new("a");
    reads.push(&kept);
    ledger.record(&reads, reads.end());
    ledger.record_at(&log, log.end());
    ledger.lose(40, 59, "retention");
    index.compare_gaps(&ledger).await.unwrap();
    assert_eq!(index.standing().lacking, Some(Lacking::Gap { reason: "retention".into() }));
    rebuild(&index, &ledger).await.unwrap();
    index.compare_gaps(&ledger).await.unwrap();
    assert!(is_whole(&index));
    has_exactly(&index, &kept).await;
    running.stop().await;
    drop(index);
    let index = open(dir.path());
    index.compare_gaps(&ledger).await.unwrap();
    assert!(is_whole(&index), "what it was compared with is kept");
}
