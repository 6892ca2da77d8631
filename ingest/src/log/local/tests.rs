//! The laws, and what only the local log promises.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{journal::JournalOptions, log::Polled, log_law_tests, time::Clock};

const WAIT: Duration = Duration::from_secs(5);

fn journal(dir: &Path) -> Journal {
    let options =
        JournalOptions { max_bytes: 64 * 1024 * 1024, ..JournalOptions::new("host-a", Clock::system()) };
    Journal::open(&dir.join("journal"), options).unwrap().0
}

fn open(dir: &Path, groups: &[&str]) -> LocalLog {
    LocalLog::open(journal(dir), dir.join("log-positions.json"), groups).unwrap()
}

/// A log whose boot record lies behind what the laws read: they count from an empty log.
async fn fresh() -> (LocalLog, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(dir.path(), &[]), dir)
}

log_law_tests!(fresh);

async fn reading(log: &LocalLog, at: Offset) -> Box<dyn Subscription> {
    let mut reading = log.subscribe(Reader::Whole { group: "one".into() }).await.unwrap();
    assert!(matches!(reading.poll(1, WAIT).await.unwrap(), Polled::Assigned(_)));
    reading.start(&[(PARTITION, at)].into()).await.unwrap();
    reading
}

#[tokio::test]
async fn a_record_is_released_when_all_groups_have_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &["one", "two"]));
    let log = open(dir.path(), &["one", "two"]);
    log.publish("one", Offset(2)).await.unwrap();
    assert_eq!(log.bounds().await.unwrap()[&PARTITION].0, Offset(0));
    log.publish("two", Offset(1)).await.unwrap();
    assert_eq!(log.bounds().await.unwrap()[&PARTITION].0, Offset(1));
    let lost = reading(&log, Offset(0)).await.poll(1, WAIT).await.unwrap();
    assert!(matches!(lost, Polled::Lost { from: Offset(0), to: Offset(1), .. }), "{lost:?}");
}

#[tokio::test]
async fn published_positions_and_the_id_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &["one"]);
    let id = log.id().await.unwrap();
    log.publish("one", Offset(1)).await.unwrap();
    drop(log);
    let log = open(dir.path(), &["one"]);
    assert_eq!(log.id().await.unwrap(), id);
    assert_eq!(log.published("one").await.unwrap(), [(PARTITION, Offset(1))].into());
}

#[tokio::test]
async fn a_journal_that_lost_its_end_is_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &["one"]);
    let id = log.id().await.unwrap();
    log.publish("one", Offset(9)).await.unwrap();
    drop(log);
    let log = open(dir.path(), &["one"]);
    assert_ne!(log.id().await.unwrap(), id);
    assert_eq!(log.published("one").await.unwrap(), Positions::new());
}

#[tokio::test]
async fn a_position_behind_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &["one"]);
    let mut reading = reading(&log, Offset(0)).await;
    let refused = reading.start(&[(PARTITION, Offset(9))].into()).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_second_member_waits_and_one_of_the_same_name_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &["shared"]);
    let member = |name: &str| Reader::Member { group: "shared".into(), member: name.into() };
    let mut a = log.subscribe(member("a")).await.unwrap();
    let mut b = log.subscribe(member("b")).await.unwrap();
    assert!(matches!(a.poll(1, WAIT).await.unwrap(), Polled::Assigned(_)));
    assert!(matches!(b.poll(1, Duration::from_millis(20)).await.unwrap(), Polled::Idle));
    let mut again = log.subscribe(member("a")).await.unwrap();
    assert!(matches!(a.poll(1, WAIT).await.unwrap(), Polled::Revoked(_)));
    assert!(matches!(again.poll(1, WAIT).await.unwrap(), Polled::Assigned(_)));
    drop(a);
    let (b_polled, ()) = tokio::join!(b.poll(1, WAIT), async { drop(again) });
    assert!(matches!(b_polled.unwrap(), Polled::Assigned(_)));
}

#[tokio::test]
async fn what_is_no_record_is_kept_beside_the_positions_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), &["one"]);
    let poison = |event: &'static [u8], envelope| Poison {
        reason: "no envelope".into(),
        envelope,
        event: Bytes::from_static(event),
    };
    log.set_aside(PARTITION, Offset(7), &poison(b"\xff\0\n", Some(Bytes::from_static(b"{")))).await.unwrap();
    log.set_aside(PARTITION, Offset(8), &poison(b"x", None)).await.unwrap();
    // A reader that was killed before its position moved sets the same entry aside again.
    log.set_aside(PARTITION, Offset(8), &poison(b"x", None)).await.unwrap();
    let kept = |offset: u64| fs::read(dir.path().join(format!("set-aside-{offset}"))).unwrap();
    assert_eq!(kept(7), b"no envelope\n{\xff\0\n");
    assert_eq!(kept(8), b"no envelope\nx");
    assert_eq!(log.published("one").await.unwrap(), Positions::new(), "no position moved by that");
}
