//! The relay between a journal and a log that does what it is told.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::{
    journal::JournalOptions,
    log::{Partition, Positions, Reader, Subscription},
    record::{Draft, Kind, RecordId},
    time::{Clock, Timestamp},
};

const BOUND: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Script {
    appended: Vec<Record>,
    failures: u32,
    safety: Safety,
    published: u64,
    id: &'static str,
}

#[derive(Debug)]
struct Scripted(Mutex<Script>);

impl Scripted {
    fn new(safety: Safety) -> Arc<Self> {
        let script = Script { appended: Vec::new(), failures: 0, safety, published: 0, id: "first" };
        Arc::new(Self(Mutex::new(script)))
    }

    fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.0.lock().unwrap());
    }

    fn events(&self) -> Vec<String> {
        let script = self.0.lock().unwrap();
        let audit = script.appended.iter().filter(|r| r.envelope.kind == Kind::Audit);
        audit.map(|r| String::from_utf8(r.event.to_vec()).unwrap()).collect()
    }
}

#[async_trait]
impl Log for Scripted {
    async fn id(&self) -> Result<LogId, LogError> {
        Ok(LogId(self.0.lock().unwrap().id.into()))
    }

    async fn append(&self, records: &[Record]) -> Result<Safety, LogError> {
        let mut script = self.0.lock().unwrap();
        if script.failures > 0 {
            script.failures -= 1;
            return Err(LogError::Unavailable("told to fail".into()));
        }
        script.appended.extend_from_slice(records);
        Ok(script.safety)
    }

    async fn subscribe(&self, _: Reader) -> Result<Box<dyn Subscription>, LogError> {
        Err(LogError::Refused("nobody reads it".into()))
    }

    async fn bounds(&self) -> Result<BTreeMap<Partition, (Offset, Offset)>, LogError> {
        Ok([(0, (Offset(0), Offset(self.0.lock().unwrap().appended.len() as u64)))].into())
    }

    async fn published(&self, _: &str) -> Result<Positions, LogError> {
        Ok([(0, Offset(self.0.lock().unwrap().published))].into())
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
        let relay = Relay::new(journal.clone(), log.clone(), "recorders");
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
    tokio::time::sleep(ASK + ASK / 2).await;
    assert_eq!(journal.stats().segments, 3);
    log.set(|script| script.published = script.appended.len() as u64);
    relay.released().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_log_that_is_made_anew_gets_again_what_the_journal_still_has() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, log) = (journal(dir.path()).await, Scripted::new(Safety::OneReplica));
    let mut relay = Running::start(&journal, &log);
    relay.all_delivered().await;
    // The first look at the log's ends comes at once; the next finds another log.
    tokio::time::sleep(ASK / 2).await;
    log.set(|script| (script.id, script.appended) = ("second", Vec::new()));
    let again = async {
        while log.events().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, again).await.unwrap();
    assert_eq!(journal.stats().segments, 3);
    relay.stop().await;
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
