//! The recorder between a log that follows a script and a SQLite ledger that fails when told to.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    identity::KeyCheck,
    journal::{Journal, JournalOptions},
    ledger::{Applied, Batch, BootSummary, Gap, SqliteLedger, laws::record},
    log::{Delivery, LogId, Offset, Partition, Poison, Polled, Safety, Subscription, local::LocalLog},
    ranges::Ranges,
    record::{Draft, Envelope, Record, RecordId},
    time::{Day, Timestamp},
};

/// How long a test waits for a condition that is met within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

const NOON: &str = "2026-11-23T12:00:00.000001Z";

/// A log that says what the test tells it to, and notes what it is told.
#[derive(Debug, Default)]
struct Scripted {
    script: Mutex<VecDeque<Polled>>,
    told: Mutex<Told>,
    failures: AtomicUsize,
    fences: AtomicUsize,
    joins: AtomicUsize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    started: Vec<Positions>,
    published: Positions,
    aside: Vec<(Partition, u64, String)>,
}

impl Scripted {
    fn says(&self, polled: impl IntoIterator<Item = Polled>) {
        self.script.lock().unwrap().extend(polled);
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    fn fails(&self) -> Result<(), LogError> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() { Err(LogError::Unavailable("scripted".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Log for Arc<Scripted> {
    async fn id(&self) -> Result<LogId, LogError> {
        Ok(LogId("one".into()))
    }

    async fn append(&self, _: &[Record]) -> Result<Safety, LogError> {
        Err(LogError::Refused("scripted".into()))
    }

    async fn subscribe(&self, _: Reader) -> Result<Box<dyn Subscription>, LogError> {
        self.fails()?;
        self.joins.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(self.clone()))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        Ok([(0, (Offset(0), Offset(1_000)))].into())
    }

    async fn published(&self, _: &str) -> Result<Positions, LogError> {
        Ok(self.told().published)
    }

    async fn set_aside(&self, partition: Partition, offset: Offset, poison: &Poison) -> Result<(), LogError> {
        self.fails()?;
        self.told.lock().unwrap().aside.push((partition, offset.0, poison.reason.clone()));
        Ok(())
    }
}

#[async_trait]
impl Subscription for Arc<Scripted> {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Polled, LogError> {
        self.fails()?;
        let fences = self.fences.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fences.is_ok() {
            return Err(LogError::Fenced);
        }
        let next = self.script.lock().unwrap().pop_front();
        match next {
            Some(Polled::Batch(mut all)) if all.len() > max => {
                let rest = all.split_off(max);
                self.script.lock().unwrap().push_front(Polled::Batch(rest));
                Ok(Polled::Batch(all))
            }
            Some(polled) => Ok(polled),
            None => {
                tokio::time::sleep(wait.min(Duration::from_millis(5))).await;
                Ok(Polled::Idle)
            }
        }
    }

    async fn start(&mut self, positions: &Positions) -> Result<(), LogError> {
        self.told.lock().unwrap().started.push(positions.clone());
        Ok(())
    }

    async fn publish(&mut self, positions: &Positions) -> Result<(), LogError> {
        self.told.lock().unwrap().published.extend(positions);
        Ok(())
    }
}

/// A ledger whose next calls of `apply` fail.
#[derive(Debug)]
struct Faulty {
    ledger: SqliteLedger,
    faults: Mutex<VecDeque<Fault>>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Away,
    /// The batch is applied, but the answer is lost.
    AnswerLost,
    Refused,
}

impl Faulty {
    fn fault(&self) -> Option<Fault> {
        self.faults.lock().unwrap().pop_front()
    }
}

fn away() -> LedgerError {
    LedgerError::Unavailable("scripted".into())
}

#[async_trait]
impl Ledger for Faulty {
    async fn key_check(&self, own: KeyCheck) -> Result<KeyCheck, LedgerError> {
        self.ledger.key_check(own).await
    }

    async fn apply(&self, log: &LogId, batch: &Batch) -> Result<Applied, LedgerError> {
        match self.fault() {
            None => self.ledger.apply(log, batch).await,
            Some(Fault::Away) => Err(away()),
            Some(Fault::Refused) => Err(LedgerError::Refused("scripted".into())),
            Some(Fault::AnswerLost) => {
                self.ledger.apply(log, batch).await?;
                Err(away())
            }
        }
    }

    async fn positions(&self, log: &LogId) -> Result<Positions, LedgerError> {
        self.ledger.positions(log).await
    }

    async fn current_log(&self) -> Result<Option<LogId>, LedgerError> {
        self.ledger.current_log().await
    }

    async fn get(&self, ids: &[RecordId]) -> Result<Vec<Record>, LedgerError> {
        self.ledger.get(ids).await
    }

    async fn scan(
        &self,
        days: Range<Day>,
        after: Option<RecordId>,
        n: usize,
    ) -> Result<Vec<Record>, LedgerError> {
        self.ledger.scan(days, after, n).await
    }

    async fn days(&self) -> Result<Vec<(Day, u64)>, LedgerError> {
        self.ledger.days().await
    }

    async fn expire(&self, first: Day) -> Result<Vec<Day>, LedgerError> {
        self.ledger.expire(first).await
    }

    async fn boots(&self, received: Range<Timestamp>) -> Result<Vec<BootSummary>, LedgerError> {
        self.ledger.boots(received).await
    }

    async fn gaps(&self) -> Result<Vec<Gap>, LedgerError> {
        self.ledger.gaps().await
    }

    async fn unfinished(
        &self,
        received: Range<Timestamp>,
    ) -> Result<Vec<crate::pipeline::Unfinished>, LedgerError> {
        self.ledger.unfinished(received).await
    }
}

/// A recorder that runs.
struct Running {
    log: Arc<Scripted>,
    ledger: Arc<Faulty>,
    status: watch::Receiver<Status>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), RecorderError>>,
    facts: mpsc::Receiver<Fact>,
    folder: tempfile::TempDir,
}

async fn prepared() -> (Arc<Scripted>, Arc<Faulty>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
    let ledger = Arc::new(Faulty { ledger, faults: Mutex::default() });
    (Arc::default(), ledger, folder)
}

fn run((log, ledger, folder): (Arc<Scripted>, Arc<Faulty>, tempfile::TempDir)) -> Running {
    let options = RecorderOptions { max_records: 10, ..RecorderOptions::new("member") };
    let clock = Clock::from_fn(|| NOON.parse().unwrap());
    let (told, facts) = mpsc::channel(8);
    let recorder = Recorder::new(Arc::new(log.clone()), ledger.clone(), options, clock).telling(told);
    let (status, cancel) = (recorder.status(), CancellationToken::new());
    let token = cancel.clone();
    let task = tokio::spawn(async move { recorder.run(token).await });
    Running { log, ledger, status, cancel, task, facts, folder }
}

impl Running {
    async fn until(&mut self, what: impl Fn(&Status) -> bool) {
        let met = tokio::time::timeout(PATIENCE, self.status.wait_for(what)).await.is_ok();
        assert!(met, "{:?}", *self.status.borrow());
    }

    async fn until_at(&mut self, partition: Partition, offset: u64) {
        self.until(|status| status.positions.get(&partition) == Some(&Offset(offset))).await;
    }

    /// What was told until now.
    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.facts.try_recv().ok()).collect()
    }

    /// What the log was told, and the ledger with the folder that it needs.
    async fn stop(self) -> (Told, Arc<Faulty>, tempfile::TempDir) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
        (self.log.told(), self.ledger, self.folder)
    }
}

fn delivery(partition: Partition, offset: u64) -> Delivery {
    let record = Ok(record(offset + 1, offset + 1_000 * partition as u64, NOON));
    Delivery { partition, offset: Offset(offset), record }
}

fn batch(offsets: Range<u64>) -> Polled {
    Polled::Batch(offsets.map(|offset| delivery(0, offset)).collect())
}

fn poison(offset: u64) -> Delivery {
    let poison = Poison { reason: "no envelope".into(), envelope: None, event: Bytes::from_static(b"x") };
    Delivery { partition: 0, offset: Offset(offset), record: Err(poison) }
}

async fn recorded(ledger: &Faulty) -> (u64, Ranges) {
    let records = ledger.days().await.unwrap().iter().map(|day| day.1).sum();
    let always = Timestamp::from_micros(i64::MIN)..Timestamp::from_micros(i64::MAX);
    let boots = ledger.boots(always).await.unwrap();
    assert!(boots.iter().all(|boot| boot.duplicates == 0), "{boots:?}");
    (records, boots.first().map(|boot| boot.seen.clone()).unwrap_or_default())
}

#[tokio::test]
async fn what_the_log_gives_is_recorded_and_then_published() {
    let mut running = run(prepared().await);
    running.log.says([Polled::Assigned(vec![0]), batch(0..25), Polled::Idle, batch(25..30)]);
    running.until_at(0, 30).await;
    running.until(|status| status.lag.records == 970).await;
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started, [[(0, Offset(0))].into()]);
    assert_eq!(told.published, [(0, Offset(30))].into());
    assert_eq!(recorded(&ledger).await, (30, (1..=30).collect()));
}

#[tokio::test]
async fn a_recorder_goes_on_where_the_ledger_is() {
    let parts = prepared().await;
    let before = Batch { moves: [(0, (Offset(0), Offset(7)))].into(), ..Batch::default() };
    parts.1.apply(&LogId("one".into()), &before).await.unwrap();
    let mut running = run(parts);
    running.log.says([Polled::Assigned(vec![0, 1]), batch(5..10)]);
    running.until_at(0, 10).await;
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started, [[(0, Offset(7)), (1, Offset(0))].into()]);
    assert_eq!(recorded(&ledger).await, (3, (8..=10).collect()));
}

#[tokio::test]
async fn an_outage_of_the_ledger_is_waited_out() {
    let parts = prepared().await;
    let mut running = run(parts);
    running.ledger.faults.lock().unwrap().extend([Fault::Away; 4]);
    running.log.says([Polled::Assigned(vec![0]), batch(0..10), batch(10..20), batch(20..30)]);
    running.until(|status| status.ledger_away.is_some()).await;
    running.until_at(0, 30).await;
    assert_eq!(running.status.borrow().ledger_away, None);
    let (_, ledger, _folder) = running.stop().await;
    assert_eq!(recorded(&ledger).await, (30, (1..=30).collect()));
}

#[tokio::test]
async fn an_outage_of_the_log_is_waited_out() {
    let mut running = run(prepared().await);
    running.log.failures.store(3, Ordering::SeqCst);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until(|status| status.log_away.is_some()).await;
    running.until_at(0, 5).await;
    assert_eq!(running.status.borrow().log_away, None);
}

#[tokio::test]
async fn a_recorder_that_lost_its_place_joins_again_and_loses_nothing() {
    let mut running = run(prepared().await);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until_at(0, 5).await;
    running.log.fences.store(FENCES, Ordering::SeqCst);
    running.log.says([Polled::Assigned(vec![0]), batch(0..9)]);
    running.until_at(0, 9).await;
    assert_eq!(running.log.joins.load(Ordering::SeqCst), 1 + FENCES);
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started.last(), Some(&[(0, Offset(5))].into()));
    assert_eq!(recorded(&ledger).await, (9, (1..=9).collect()));
}

#[tokio::test]
async fn a_name_that_another_process_keeps_taking_ends_the_recorder() {
    let running = run(prepared().await);
    running.log.fences.store(FENCES + 1, Ordering::SeqCst);
    running.log.says([Polled::Assigned(vec![0])]);
    let ended = tokio::time::timeout(PATIENCE, running.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RecorderError::Log(LogError::Fenced))), "{ended:?}");
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_not_applied_twice() {
    let mut running = run(prepared().await);
    running.ledger.faults.lock().unwrap().push_back(Fault::AnswerLost);
    running.log.says([Polled::Assigned(vec![0]), batch(0..10)]);
    running.until_at(0, 10).await;
    running.log.says([batch(0..20)]);
    running.until_at(0, 20).await;
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started.last(), Some(&[(0, Offset(10))].into()));
    assert_eq!(recorded(&ledger).await, (20, (1..=20).collect()));
}

#[tokio::test]
async fn a_fenced_recorder_reads_its_positions_anew() {
    let mut running = run(prepared().await);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until_at(0, 5).await;
    let records = (5..9).map(|offset| delivery(0, offset).record.unwrap()).collect();
    let other = Batch { records, moves: [(0, (Offset(5), Offset(9)))].into(), ..Batch::default() };
    running.ledger.apply(&LogId("one".into()), &other).await.unwrap();
    running.log.says([batch(5..12)]);
    running.until_at(0, 9).await;
    running.log.says([batch(9..12)]);
    running.until_at(0, 12).await;
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started.last(), Some(&[(0, Offset(9))].into()));
    assert_eq!(recorded(&ledger).await, (12, (1..=12).collect()));
}

#[tokio::test]
async fn what_was_read_of_a_partition_that_is_revoked_is_dropped() {
    let mut running = run(prepared().await);
    let both = Polled::Batch(vec![delivery(0, 0), delivery(1, 0), delivery(0, 1)]);
    running.log.says([Polled::Assigned(vec![0, 1]), both, Polled::Revoked(vec![1]), batch(0..4)]);
    running.until_at(0, 4).await;
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started.last(), Some(&[(0, Offset(0))].into()));
    assert_eq!(ledger.positions(&LogId("one".into())).await.unwrap(), [(0, Offset(4))].into());
    assert_eq!(recorded(&ledger).await.0, 4);
}

#[tokio::test]
async fn an_entry_that_is_no_record_is_set_aside_before_the_position_moves() {
    let mut running = run(prepared().await);
    let mixed = Polled::Batch(vec![delivery(0, 0), poison(1), delivery(0, 2)]);
    running.log.says([Polled::Assigned(vec![0])]);
    running.until_at(0, 0).await;
    running.log.failures.store(2, Ordering::SeqCst);
    running.log.says([mixed]);
    running.until_at(0, 3).await;
    assert_eq!(running.facts(), [], "it is aside, not lost");
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.aside, [(0, 1, "no envelope".to_owned())]);
    let gaps = ledger.gaps().await.unwrap();
    assert_eq!((gaps[0].partition, gaps[0].first, gaps[0].last), (Some(0), 1, 1));
    assert_eq!(recorded(&ledger).await, (2, [1, 3].into_iter().collect()));
}

#[tokio::test]
async fn a_lost_range_becomes_a_gap_and_reading_goes_on_behind_it() {
    let mut running = run(prepared().await);
    let lost = Polled::Lost { partition: 0, from: Offset(3), to: Offset(8), reason: "retention".into() };
    running.log.says([Polled::Assigned(vec![0]), batch(0..3), lost, batch(8..10)]);
    running.until_at(0, 10).await;
    let facts = running.facts();
    let (_, ledger, _folder) = running.stop().await;
    let gaps = ledger.gaps().await.unwrap();
    assert_eq!(facts, [Fact::Gap { gap: gaps[0].clone() }]);
    assert_eq!((gaps.len(), gaps[0].first, gaps[0].last, &*gaps[0].reason), (1, 3, 7, "retention"));
    assert_eq!(recorded(&ledger).await.0, 5);
}

#[tokio::test]
async fn a_log_that_was_cut_back_is_read_from_its_new_end() {
    let mut running = run(prepared().await);
    let lost = Polled::Lost { partition: 0, from: Offset(5), to: Offset(2), reason: "cut back".into() };
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until_at(0, 5).await;
    let later = (2..4).map(|offset| Delivery { offset: Offset(offset), ..delivery(0, offset + 5) }).collect();
    running.log.says([lost, Polled::Batch(later)]);
    running.until_at(0, 4).await;
    let (_, ledger, _folder) = running.stop().await;
    let gaps = ledger.gaps().await.unwrap();
    assert_eq!((gaps[0].first, gaps[0].last), (2, 4));
    assert_eq!(recorded(&ledger).await.0, 7);
}

#[tokio::test]
async fn a_log_that_was_made_anew_is_read_from_its_start_after_a_gap() {
    let mut running = run(prepared().await);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until_at(0, 5).await;
    let renewed =
        Polled::Renewed { id: LogId("two".into()), read: Positions::new(), reason: "deleted".into() };
    let later =
        (0..3).map(|offset| Delivery { offset: Offset(offset), ..delivery(0, offset + 20) }).collect();
    running.log.says([renewed, Polled::Assigned(vec![0]), Polled::Batch(later)]);
    running.until_at(0, 3).await;
    let anew = Fact::LogRecreated { old: LogId("one".into()), new: LogId("two".into()) };
    assert_eq!(running.facts(), [anew]);
    let (told, ledger, _folder) = running.stop().await;
    assert_eq!(told.started.last(), Some(&[(0, Offset(0))].into()));
    assert_eq!(ledger.current_log().await.unwrap(), Some(LogId("two".into())));
    let gaps = ledger.gaps().await.unwrap();
    assert_eq!((gaps.len(), gaps[0].partition, gaps[0].first, gaps[0].last), (1, Some(0), 5, Gap::OPEN));
    assert!(gaps[0].reason.contains("one") && gaps[0].reason.contains("two"), "{}", gaps[0].reason);
    assert_eq!(recorded(&ledger).await.0, 8);
}

#[tokio::test]
async fn a_ledger_that_refuses_ends_the_recorder_with_the_reason() {
    let running = run(prepared().await);
    running.ledger.faults.lock().unwrap().push_back(Fault::Refused);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    let ended = tokio::time::timeout(PATIENCE, running.task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(ended, RecorderError::Ledger(LedgerError::Refused(_))), "{ended}");
    assert_eq!(running.status.borrow().state, State::Stopped);
    assert_eq!(running.ledger.positions(&LogId("one".into())).await.unwrap(), Positions::new());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_ledger_that_is_away() {
    let mut running = run(prepared().await);
    running.ledger.faults.lock().unwrap().extend([Fault::Away; 1_000]);
    running.log.says([Polled::Assigned(vec![0]), batch(0..5)]);
    running.until(|status| status.ledger_away.is_some()).await;
    let (told, ..) = tokio::time::timeout(PATIENCE, running.stop()).await.unwrap();
    assert_eq!(told.published, Positions::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_is_stopped_at_any_time_leaves_neither_hole_nor_double() {
    let (_, ledger, folder) = prepared().await;
    let options = JournalOptions::new("host-a", Clock::system());
    let (journal, _) = Journal::open(&folder.path().join("journal"), options).unwrap();
    let log = LocalLog::open(journal.clone(), folder.path().join("positions.json"), &[GROUP]).unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..200_u64 {
            let Record { envelope, event } = record(1, n, NOON);
            let Envelope { id, cluster, kind, at, rules, redactions, .. } = envelope;
            journal.append(vec![Draft { id, cluster, kind, at, rules, redactions, event }]).await.unwrap();
        }
        journal.bounds().end
    });
    for stop in 0..20 {
        let options =
            RecorderOptions { linger: Duration::from_millis(stop % 3), ..RecorderOptions::new("one") };
        let recorder = Recorder::new(Arc::new(log.clone()), ledger.clone(), options, Clock::system());
        let cancel = CancellationToken::new();
        let ending = cancel.clone();
        let stopped = async {
            tokio::time::sleep(Duration::from_millis(stop)).await;
            ending.cancel();
        };
        tokio::join!(async { recorder.run(cancel).await.unwrap() }, stopped);
    }
    let end = writing.await.unwrap();
    let last =
        Recorder::new(Arc::new(log.clone()), ledger.clone(), RecorderOptions::new("one"), Clock::system());
    let (mut status, cancel) = (last.status(), CancellationToken::new());
    let reached = async {
        let there = status.wait_for(|status| status.positions.get(&0) == Some(&end));
        tokio::time::timeout(PATIENCE, there).await.unwrap().unwrap();
        cancel.cancel();
    };
    tokio::join!(async { last.run(cancel.clone()).await.unwrap() }, reached);
    let records: u64 = ledger.days().await.unwrap().iter().map(|day| day.1).sum();
    let always = Timestamp::from_micros(i64::MIN)..Timestamp::from_micros(i64::MAX);
    let boots = ledger.boots(always).await.unwrap();
    assert_eq!((boots.len(), boots[0].duplicates), (1, 0));
    let own = boots[0].seen.count() - 200;
    assert_eq!((boots[0].seen.holes(1..=end.0), records), (Vec::new(), 200 + own));
    assert_eq!(log.published(GROUP).await.unwrap(), [(0, end)].into());
}
