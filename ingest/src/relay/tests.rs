//! The relay between a journal and a log that does what it is told.

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::{
    journal::JournalOptions,
    log::{Partition, Reader, Subscription},
    record::{Draft, Kind, RecordId},
    time::{Clock, Timestamp},
};

const BOUND: Duration = Duration::from_secs(20);

/// How often the relay looks: fast, as nothing but the looks is waited for.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(2));

#[derive(Debug)]
struct Script {
    appended: Vec<Record>,
    failures: u32,
    safety: Safety,
    published: u64,
    /// Whether every question finds one more entry, which the recorders have.
    busy: bool,
    id: &'static str,
    /// How often the id was asked for.
    looks: u32,
}

#[derive(Debug)]
struct Scripted(watch::Sender<Script>);

impl Scripted {
    fn new(safety: Safety) -> Arc<Self> {
        let script = Script {
            appended: Vec::new(),
            failures: 0,
            safety,
            published: 0,
            busy: false,
            id: "first",
            looks: 0,
        };
        Arc::new(Self(watch::Sender::new(script)))
    }

    fn set<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let mut changed = None;
        self.0.send_modify(|script| changed = Some(change(script)));
        changed.unwrap()
    }

    async fn wait_for(&self, condition: impl FnMut(&Script) -> bool) {
        let mut follow = self.0.subscribe();
        tokio::time::timeout(BOUND, follow.wait_for(condition)).await.unwrap().unwrap();
    }

    /// Waits until the relay has looked twice more, the second time after all that was before the call.
    async fn looked_at(&self) {
        let now = self.0.borrow().looks;
        self.wait_for(|script| script.looks >= now + 2).await;
    }

    /// Time passes between two questions.
    fn passes(&self) {
        self.set(|script| script.published += u64::from(script.busy));
    }

    fn events(&self) -> Vec<String> {
        events(&self.0.borrow())
    }
}

fn events(script: &Script) -> Vec<String> {
    let audit = script.appended.iter().filter(|r| r.envelope.kind == Kind::Audit);
    audit.map(|r| String::from_utf8(r.event.to_vec()).unwrap()).collect()
}

#[async_trait]
impl Log for Scripted {
    async fn id(&self) -> Result<LogId, LogError> {
        self.set(|script| {
            script.looks += 1;
            Ok(LogId(script.id.into()))
        })
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        self.set(|script| {
            if script.failures > 0 {
                script.failures -= 1;
                return Err(LogError::Unavailable("told to fail".into()));
            }
            script.appended.extend_from_slice(records);
            Ok(script.safety)
        })
    }

    async fn subscribe(&self, _: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Err(LogError::Refused("nobody reads it".into()))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        self.passes();
        let script = self.0.borrow();
        let end = if script.busy { script.published } else { script.appended.len() as u64 };
        Ok([(0, (Offset(0), Offset(end)))].into())
    }

    async fn published(&self, _: &str) -> Result<Positions, LogError> {
        self.passes();
        Ok([(0, Offset(self.0.borrow().published))].into())
    }

    async fn set_aside(&self, _: Partition, _: Offset, _: &Poison) -> Result<(), LogError> {
        Ok(())
    }
}

/// A journal with one segment per boot, so that releasing shows: two boots, three events.
async fn journal(dir: &Path) -> Journal {
    for event in ["a", "b"] {
        append(&open(dir), event).await;
    }
    let journal = open(dir);
    append(&journal, "c").await;
    journal
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, JournalOptions::new("host-a", Clock::system())).unwrap().0
}

async fn append(journal: &Journal, event: &str) {
    let draft = Draft {
        id: RecordId(Uuid::from_u128(1)),
        cluster: "demo".into(),
        kind: Kind::Audit,
        at: Timestamp::from_micros(1),
        rules: "".into(),
        redactions: 0,
        event: event.to_owned().into(),
    };
    journal.append(vec![draft]).await.unwrap();
}

struct Running {
    journal: Journal,
    delivered: watch::Receiver<Delivered>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RelayError>>,
}

impl Running {
    fn start(journal: &Journal, log: &Arc<Scripted>) -> Self {
        let mut relay = Relay::new(journal.clone(), log.clone(), "recorders");
        relay.looks = LOOKS;
        let (delivered, cancel) = (relay.delivered(), CancellationToken::new());
        let task = tokio::spawn(relay.run(cancel.clone()));
        Self { journal: journal.clone(), delivered, cancel, task }
    }

    async fn all_delivered(&mut self) -> Delivered {
        let end = self.journal.bounds().end;
        let all = self.delivered.wait_for(|d| d.next >= end);
        *tokio::time::timeout(BOUND, all).await.unwrap().unwrap()
    }

    async fn released(&self) {
        let released = async {
            while self.journal.stats().segments > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(BOUND, released).await.unwrap();
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(BOUND, self.task).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn records_move_in_order_and_a_safe_log_lets_the_journal_forget_them() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::Safe));
    let mut relay = Running::start(&journal, &log);
    let safety = relay.all_delivered().await.safety;
    assert_eq!((safety, log.events()), (Some(Safety::Safe), vec!["a".into(), "b".into(), "c".into()]));
    relay.released().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_log_that_fails_for_a_while_gets_everything_once_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::Safe));
    log.set(|script| script.failures = 3);
    let mut relay = Running::start(&journal, &log);
    relay.all_delivered().await;
    assert_eq!(log.events(), ["a", "b", "c"]);
    relay.stop().await;
}

#[tokio::test]
async fn with_one_replica_the_journal_keeps_a_record_until_the_recorders_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::OneReplica));
    let mut relay = Running::start(&journal, &log);
    relay.all_delivered().await;
    log.looked_at().await;
    assert_eq!(journal.stats().segments, 3);
    log.set(|script| script.published = script.appended.len() as u64);
    relay.released().await;
    relay.stop().await;
}

#[tokio::test]
async fn no_position_is_behind_the_ends_of_a_log_that_grows_while_it_is_asked() {
    let log = Scripted::new(Safety::OneReplica);
    log.set(|script| script.busy = true);
    let (_, positions) = ask(&*log, Some("recorders".to_owned())).await.unwrap();
    let (ends, published) = positions.unwrap();
    assert!(published[&0] <= ends[&0], "{published:?} {ends:?}");
}

#[tokio::test]
async fn a_log_that_is_made_anew_gets_again_what_the_journal_still_has() {
    for safety in [Safety::OneReplica, Safety::Safe] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, log) = (journal(dir.path()).await, Scripted::new(safety));
        let mut relay = Running::start(&journal, &log);
        relay.all_delivered().await;
        log.looked_at().await;
        let kept = if safety == Safety::Safe { vec!["c"] } else { vec!["a", "b", "c"] };
        if safety == Safety::Safe {
            relay.released().await;
        }
        log.set(|script| (script.id, script.appended) = ("second", Vec::new()));
        log.wait_for(|script| events(script) == kept).await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_log_that_is_made_anew_before_a_look_loses_nothing_of_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::Safe));
    let mut relay = Relay::new(journal.clone(), log.clone(), "recorders");
    let cancel = CancellationToken::new();
    relay.look(&cancel).await;
    relay.forward(journal.bounds(), &cancel, Patience::Endless).await.unwrap();
    log.set(|script| (script.id, script.appended) = ("second", Vec::new()));
    relay.look(&cancel).await;
    assert_eq!(journal.stats().segments, 3, "nothing is forgotten on the word of a log that is gone");
    assert_eq!(relay.delivered.borrow().next, Offset(0));
}

#[tokio::test]
async fn a_log_that_fails_is_told_with_its_reason_until_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::Safe));
    log.set(|script| script.failures = u32::MAX);
    let relay = Relay::new(journal, log.clone(), "recorders");
    let (mut failing, cancel) = (relay.failing(), CancellationToken::new());
    assert!(failing.borrow().is_none());
    let task = tokio::spawn(relay.run(cancel.clone()));
    let told = tokio::time::timeout(BOUND, failing.wait_for(Option::is_some)).await.unwrap();
    assert_eq!(told.unwrap().as_ref().unwrap().reason, "the log is unavailable: told to fail");
    log.set(|script| script.failures = 0);
    tokio::time::timeout(BOUND, failing.wait_for(Option::is_none)).await.unwrap().unwrap();
    cancel.cancel();
    tokio::time::timeout(BOUND, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_restarted_relay_begins_with_what_the_journal_still_has() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::OneReplica));
    for _ in 0..2 {
        let mut relay = Running::start(&journal, &log);
        relay.all_delivered().await;
        relay.stop().await;
    }
    assert_eq!(log.events(), ["a", "b", "c", "a", "b", "c"]);
}

#[tokio::test]
async fn a_relay_that_is_stopped_moves_what_is_journaled_unless_the_log_fails() {
    for (failures, moved) in [(0, vec!["a", "b", "c"]), (u32::MAX, vec![])] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::Safe));
        log.set(|script| script.failures = failures);
        let (relay, cancel) = (Relay::new(journal, log.clone(), "recorders"), CancellationToken::new());
        cancel.cancel();
        tokio::time::timeout(DRAIN / 2, relay.run(cancel)).await.expect("it ends at once").unwrap();
        assert_eq!(log.events(), moved);
    }
}
