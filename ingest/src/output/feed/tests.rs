//! Feeds over a real journal, to outputs that fail as they are told.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::*;
use crate::{
    identity,
    journal::JournalOptions,
    record::{Draft, RecordId},
    sealed::{self, NoKey, Sealed},
    time::Timestamp,
};

const BOUND: Duration = Duration::from_secs(60);
const MEBIBYTE: u64 = 1 << 20;

/// What an output got, and what it says to the next tries.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    batches: Vec<Vec<String>>,
    answers: VecDeque<DeliveryError>,
    is_dead: bool,
    /// Events with this text are refused.
    poison: Option<&'static str>,
}

impl Receiver {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn events(&self) -> Vec<String> {
        self.state().batches.concat()
    }

    async fn has(&self, count: usize) {
        let there = async {
            while self.events().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, there).await.expect("the events come");
    }
}

#[async_trait]
impl Output for Receiver {
    fn bounds(&self) -> Bounds {
        Bounds { events: 3, bytes: 1_000_000 }
    }

    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError> {
        assert!(!events.is_empty());
        let mut state = self.state();
        if state.is_dead {
            return Err(dead());
        }
        if let Some(answer) = state.answers.pop_front() {
            return Err(answer);
        }
        let texts: Vec<_> = events.iter().map(|e| String::from_utf8(e.to_vec()).unwrap()).collect();
        if state.poison.is_some_and(|poison| texts.iter().any(|text| text.contains(poison))) {
            return Err(DeliveryError::Refused("400".to_owned()));
        }
        state.batches.push(texts);
        Ok(())
    }
}

fn dead() -> DeliveryError {
    DeliveryError::Unavailable(io::Error::other("dead").into())
}

/// Opens bodies when it has the key of their day.
#[derive(Clone, Debug, Default)]
struct Key(Arc<Mutex<HasKey>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HasKey {
    #[default]
    Yes,
    NotNow,
    Dropped,
}

impl Key {
    fn set(&self, to: HasKey) {
        *self.0.lock().unwrap() = to;
    }
}

#[async_trait]
impl Open for Key {
    async fn prepare(&self, _: &[Record]) -> Result<(), NoKey> {
        if *self.0.lock().unwrap() == HasKey::NotNow { Err(NoKey) } else { Ok(()) }
    }

    fn open(&self, record: &Record) -> Option<Bytes> {
        let opened = sealed::replace(&record.event, |_, body| Sealed::read(body)?.data);
        opened.map(Bytes::from).filter(|_| *self.0.lock().unwrap() == HasKey::Yes)
    }
}

/// The event with its body sealed, and the same open.
fn sealed_event(n: usize, bytes: usize) -> (String, String) {
    let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
    let sealed = Sealed { key: uuid::Uuid::nil(), data: Some(body.clone().into()) };
    let with = |body: &str| format!(r#"{{"kind":"Event","n":"e{n}","requestObject":{body}}}"#);
    (with(std::str::from_utf8(&sealed.write()).unwrap()), with(&body))
}

struct Folder(tempfile::TempDir, Key);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), Key::default())
    }

    fn journal(&self) -> Journal {
        let options =
            JournalOptions { max_bytes: 16 * MEBIBYTE, ..JournalOptions::new("host-a", Clock::system()) };
        Journal::open(&self.0.path().join("journal"), options).unwrap().0
    }

    fn position(&self) -> PathBuf {
        self.0.path().join("position.json")
    }

    /// The position that is kept.
    fn kept(&self) -> u64 {
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.position()).unwrap()).unwrap();
        file["next"].as_u64().unwrap()
    }

    /// A feed that runs until what is returned is cancelled, and then ends.
    fn feed(&self, journal: &Journal, to: &Receiver) -> Running {
        let options = FeedOptions {
            name: "audit-log",
            cluster: "local".into(),
            max_bytes: 3 * MEBIBYTE,
            open: Some(Arc::new(self.1.clone())),
            clock: Clock::system(),
        };
        let feed = Feed::open(options, Box::new(to.clone()), journal.clone(), &self.position()).unwrap();
        let (cancel, failing) = (CancellationToken::new(), feed.failing());
        Running { task: tokio::spawn(feed.run(cancel.clone())), cancel, failing }
    }
}

struct Running {
    task: tokio::task::JoinHandle<Result<(), FeedError>>,
    cancel: CancellationToken,
    failing: watch::Receiver<Option<Failing>>,
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(BOUND, self.task).await.expect("it stops").unwrap().unwrap();
    }
}

fn event(n: usize) -> String {
    format!(r#"{{"kind":"Event","n":"e{n}"}}"#)
}

fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(event).collect()
}

fn draft(cluster: &str, kind: Kind, id: RecordId, event: &str) -> Draft {
    Draft {
        id,
        cluster: cluster.into(),
        kind,
        at: Timestamp::from_micros(1),
        rules: "".into(),
        redactions: 0,
        event: event.to_owned().into(),
    }
}

async fn record(journal: &Journal, events: &[String]) {
    let own = || identity::own_id(Clock::system().now());
    journal.append(events.iter().map(|e| draft("local", Kind::Audit, own(), e)).collect()).await.unwrap();
}

/// The gaps of outputs that the journal tells of.
async fn gaps(journal: &Journal) -> Vec<(u64, u64, String)> {
    let mut next = journal.bounds().start;
    let mut found = Vec::new();
    loop {
        let entries = journal.read(next, 1000).await.unwrap();
        let Some(last) = entries.last() else { return found };
        next = Offset(last.offset.0 + 1);
        let facts = entries.iter().filter_map(|e| Fact::read(&e.record.as_ref().unwrap().event));
        found.extend(facts.filter_map(|fact| match fact {
            Fact::OutputGap { first, last, reason, .. } => Some((first, last, reason)),
            _ => None,
        }));
    }
}

#[tokio::test]
async fn an_output_gets_what_the_gateway_records_and_nothing_else() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    let journal = folder.journal();
    record(&journal, &[event(0)]).await;
    let running = folder.feed(&journal, &receiver);
    let own = identity::own_id(Clock::system().now());
    let received = RecordId(uuid::Uuid::new_v8([7; 16]));
    let others = [
        draft("other", Kind::Audit, own, &event(100)),
        draft("local", Kind::Access, own, &event(101)),
        draft("local", Kind::Audit, received, &event(102)),
        draft("local", Kind::Audit, own, r#"{"kind":"Intent","n":"e103"}"#),
        draft("local", Kind::Audit, own, ""),
    ];
    journal.append(others.to_vec()).await.unwrap();
    record(&journal, &events(1..8)).await;
    receiver.has(7).await;
    running.stop().await;
    assert_eq!(receiver.events(), events(1..8), "what was there before the output was is not for it");
    assert!(receiver.state().batches.iter().all(|batch| batch.len() <= 3));
}

#[tokio::test]
async fn sealed_bodies_are_opened_and_their_key_is_waited_for() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    let journal = folder.journal();
    folder.1.set(HasKey::NotNow);
    let mut running = folder.feed(&journal, &receiver);
    let (sealed, open): (Vec<_>, Vec<_>) = (1..4).map(|n| sealed_event(n, 10)).unzip();
    record(&journal, &[&[event(0)], &sealed[..]].concat()).await;
    let failing = running.failing.wait_for(Option::is_some);
    let reason = tokio::time::timeout(BOUND, failing).await.unwrap().unwrap().clone().unwrap().reason;
    assert!(reason.contains("cannot be had now"), "{reason}");
    folder.1.set(HasKey::Yes);
    receiver.has(4).await;
    assert_eq!(receiver.events()[1..], open);
    // What nobody can open any more is given as it is kept.
    folder.1.set(HasKey::Dropped);
    record(&journal, &sealed).await;
    receiver.has(7).await;
    assert_eq!(receiver.events()[4..], sealed);
    running.stop().await;
}

#[tokio::test]
async fn no_more_is_open_at_once_than_the_output_takes_at_once() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    let journal = folder.journal();
    let running = folder.feed(&journal, &receiver);
    let (sealed, open): (Vec<_>, Vec<_>) = (0..6).map(|n| sealed_event(n, 400_000)).unzip();
    record(&journal, &sealed).await;
    receiver.has(6).await;
    running.stop().await;
    assert_eq!(receiver.events(), open);
    assert!(receiver.state().batches.iter().all(|batch| batch.len() <= 2));
}

#[tokio::test]
async fn it_goes_on_where_it_was() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    for start in [0, 5, 10] {
        let journal = folder.journal();
        let running = folder.feed(&journal, &receiver);
        record(&journal, &events(start..start + 5)).await;
        // What is journaled when it is asked to stop is delivered before it does.
        running.stop().await;
    }
    assert_eq!(receiver.events(), events(0..15));
}

#[tokio::test]
async fn what_an_output_does_not_take_is_given_until_it_does() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    let journal = folder.journal();
    receiver.state().answers = [dead(), dead(), dead()].into();
    let mut running = folder.feed(&journal, &receiver);
    record(&journal, &events(0..5)).await;
    let failing = running.failing.wait_for(Option::is_some);
    let reason = tokio::time::timeout(BOUND, failing).await.unwrap().unwrap().clone().unwrap().reason;
    assert_eq!(reason, "it does not take events: dead");
    receiver.has(5).await;
    assert!(running.failing.borrow().is_none());
    running.stop().await;
    assert_eq!(receiver.events(), events(0..5));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_output_that_is_dead() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    receiver.state().is_dead = true;
    let journal = folder.journal();
    let running = folder.feed(&journal, &receiver);
    record(&journal, &events(0..5)).await;
    running.stop().await;
    receiver.state().is_dead = false;
    let running = folder.feed(&journal, &receiver);
    receiver.has(5).await;
    running.stop().await;
    assert_eq!(receiver.events(), events(0..5));
}

#[tokio::test]
async fn one_event_that_is_refused_does_not_hold_up_the_others_and_is_recorded() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    receiver.state().poison = Some("\"e4\"");
    let journal = folder.journal();
    let running = folder.feed(&journal, &receiver);
    record(&journal, &events(0..9)).await;
    receiver.has(8).await;
    let passed = async {
        while folder.kept() < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, passed).await.expect("it goes on behind the event");
    running.stop().await;
    let mut expected = events(0..9);
    expected.remove(4);
    assert_eq!(receiver.events(), expected);
    assert_eq!(gaps(&journal).await, [(5, 5, "refused 1 events: 400".to_owned())]);
}

#[tokio::test]
async fn past_its_bound_the_gap_is_recorded_while_the_output_is_dead_and_it_goes_on_behind_it() {
    let (folder, receiver) = (Folder::new(), Receiver::default());
    let journal = folder.journal();
    receiver.state().is_dead = true;
    let running = folder.feed(&journal, &receiver);
    record(&journal, &events(0..3)).await;
    let large = format!(r#"{{"kind":"Event","n":"{}"}}"#, "x".repeat(100_000));
    for _ in 0..80 {
        record(&journal, std::slice::from_ref(&large)).await;
    }
    journal.release(journal.bounds().end);
    assert!(journal.bounds().start > Offset(1), "{:?}", journal.bounds());
    let told = async {
        while gaps(&journal).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, told).await.expect("the gap is told of while the output is dead");
    assert!(receiver.events().is_empty());
    receiver.state().is_dead = false;
    record(&journal, &[event(7)]).await;
    let last = async {
        while receiver.events().last() != Some(&event(7)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, last).await.expect("the last event comes");
    running.stop().await;
    let gaps = gaps(&journal).await;
    let (_, last, reason) = &gaps[gaps.len() - 1];
    assert_eq!(reason, "the journal could not keep it any longer");
    let missing = 3 + 80 + 1 - receiver.events().len();
    let passed: u64 = gaps.iter().map(|(first, last, _)| last - first + 1).sum();
    assert!(missing > 0 && passed >= missing as u64, "{missing} are missing, {gaps:?}");
    assert!(Offset(*last) < journal.bounds().end);
}
