//! The journal on a real file system.

use std::{fs, path::PathBuf, time::Duration};

use super::*;
use crate::{
    record::{Kind, RecordId},
    time::Timestamp,
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn options() -> JournalOptions {
    JournalOptions::new("host-a", Clock::system())
}

fn open(dir: &Path) -> (Journal, Opened) {
    Journal::open(dir, options()).unwrap()
}

/// Drafts whose events are these texts.
pub(super) fn drafts(events: impl IntoIterator<Item = impl Into<String>>) -> Vec<Draft> {
    let draft = |event: String| Draft {
        id: RecordId(Uuid::from_u128(1)),
        cluster: "demo".into(),
        kind: Kind::Audit,
        at: Timestamp::from_micros(1),
        rules: "".into(),
        redactions: 0,
        event: event.into(),
    };
    events.into_iter().map(|e| draft(e.into())).collect()
}

/// Every record from `from` on.
pub(super) async fn all(journal: &Journal, from: Offset) -> Vec<(Offset, Record)> {
    let mut all = Vec::new();
    let mut at = from;
    loop {
        let read = journal.read(at, 3).await.unwrap();
        let Some(last) = read.last() else { return all };
        at = Offset(last.offset.0 + 1);
        all.extend(read.into_iter().map(|e| (e.offset, e.record.unwrap())));
    }
}

pub(super) async fn events(journal: &Journal) -> Vec<String> {
    let all = all(journal, journal.bounds().start).await;
    let event = |(_, r): (Offset, Record)| String::from_utf8(r.event.to_vec()).unwrap();
    all.into_iter().filter(|(_, r)| r.envelope.kind == Kind::Audit).map(event).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_with_numbers_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, opened) = open(dir.path());
    assert_eq!(opened, Opened::default());
    let receipt = journal.append(drafts(["a", "b"])).await.unwrap();
    assert_eq!((receipt.first, receipt.last, receipt.next), (Seq(2), Seq(3), Offset(3)));
    journal.append(drafts(["c"])).await.unwrap();
    let all = all(&journal, Offset(0)).await;
    let seqs: Vec<_> = all.iter().map(|(o, r)| (o.0, r.envelope.seq.0)).collect();
    assert_eq!(seqs, [(0, 1), (1, 2), (2, 3), (3, 4)]);
    assert_eq!(all[0].1.envelope.kind, Kind::Pipeline);
    assert_eq!(all[3].1.event, "c");
    assert!(all.iter().all(|(_, r)| r.envelope.boot == journal.boot() && &*r.envelope.source == "host-a"));
    assert!(journal.read(Offset(4), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_boot_names_the_boot_before_it_and_offsets_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    first.append(drafts(["a"])).await.unwrap();
    let boot = first.boot();
    drop(first);
    let (second, opened) = open(dir.path());
    assert_eq!(opened.previous, Some(Previous { boot, last_seq: Seq(2) }));
    assert!(second.boot() > boot);
    let all = all(&second, Offset(2)).await;
    let fact: serde_json::Value = serde_json::from_slice(&all[0].1.event).unwrap();
    assert_eq!(fact["previous"]["boot"], boot.to_string());
    assert_eq!(all[0].1.envelope.seq, Seq(1));
    assert_eq!(events(&second).await, ["a"]);
}

#[tokio::test]
async fn released_segments_are_removed_and_the_previous_boot_is_still_known() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    first.append(drafts(["a"])).await.unwrap();
    let boot = first.boot();
    drop(first);
    let (second, _) = open(dir.path());
    let end = second.bounds().end;
    second.release(end);
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(second.bounds(), Offset(2)..end);
    assert!(matches!(second.read(Offset(0), 1).await, Err(ReadError::Released { first: Offset(2) })));
    drop(second);
    // Even the newest segment's only block may be torn away: its header still tells.
    let file = fs::OpenOptions::new().write(true).open(&segments(dir.path())[0]).unwrap();
    file.set_len(segment::HEADER as u64).unwrap();
    let (_third, opened) = open(dir.path());
    assert_eq!(opened.previous, Some(Previous { boot, last_seq: Seq(2) }));
    assert_eq!(opened.next, Offset(2));
}

/// Keeps the gauge of what the journal holds.
#[derive(Default)]
struct HeldBytes(Arc<std::sync::atomic::AtomicU64>);

impl metrics::Recorder for HeldBytes {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        assert_eq!(key.name(), "muniment_journal_bytes");
        metrics::Gauge::from_arc(self.0.clone())
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn the_gauge_of_what_the_journal_holds_falls_with_a_release() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let (journal, _) = open(dir.path());
    let before = journal.stats();
    assert_eq!(before.segments, 2);
    let gauge = HeldBytes::default();
    metrics::with_local_recorder(&gauge, || journal.release(journal.bounds().end));
    let after = journal.stats();
    assert!(after.bytes < before.bytes, "{before:?} {after:?}");
    let told = f64::from_bits(gauge.0.load(std::sync::atomic::Ordering::Acquire));
    assert_eq!(told, after.bytes as f64);
}

#[tokio::test]
async fn a_full_journal_refuses_until_something_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_bytes: 3 * 1024 * 1024, ..options() };
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let event = "x".repeat(100_000);
    let mut taken = 0;
    let refused = loop {
        match journal.append(drafts([event.as_str()])).await {
            Ok(_) => taken += 1,
            Err(e) => break e,
        }
        assert!(taken < 100, "nothing was refused");
    };
    assert_eq!(refused, AppendError::Full);
    assert!(taken > 25, "{taken} events of 100 kB in 3 MiB");
    assert_eq!(journal.stats().state, State::Writable, "a smaller one still fits");
    journal.release(journal.bounds().end);
    journal.append(drafts([event.as_str()])).await.unwrap();
}

#[tokio::test]
async fn a_folder_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    assert!(matches!(Journal::open(dir.path(), options()), Err(OpenError::InUse(_))));
    drop(journal);
    open(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_share_group_commits_and_all_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let producer = |p: usize| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                journal.append(drafts([format!("{p}-{i}")])).await.unwrap();
            }
        })
    };
    futures::future::try_join_all((0..16).map(producer)).await.unwrap();
    drop(journal);
    let (journal, opened) = open(dir.path());
    assert_eq!((opened.next, opened.torn), (Offset(801), None));
    let events = events(&journal).await;
    for p in 0..16 {
        let prefix = format!("{p}-");
        let own: Vec<_> = events.iter().filter_map(|e| e.strip_prefix(&prefix)).collect();
        assert!(own.iter().map(|i| i.parse::<usize>().unwrap()).eq(0..50), "producer {p}: {own:?}");
    }
}

#[tokio::test]
async fn readers_wait_for_what_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut next = journal.changed();
    assert_eq!(*next.borrow_and_update(), Offset(1));
    let appended = journal.append(drafts(["a"]));
    let (waited, _) = tokio::join!(tokio::time::timeout(SECOND, next.wait_for(|n| *n > Offset(1))), appended);
    waited.unwrap().unwrap();
}

#[tokio::test]
async fn a_closed_journal_has_written_what_was_queued_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let queued: Vec<_> = (0..20).map(|i| journal.append(drafts([i.to_string()]))).collect();
    let (answers, ()) = tokio::join!(futures::future::join_all(queued), journal.close());
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(journal.append(drafts(["late"])).await, Err(AppendError::Ended));
    assert_eq!(journal.stats().state, State::Ended);
    assert_eq!(events(&journal).await.len(), 20);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.append(drafts(["a"])).await.unwrap();
    let whole = journal.stats().bytes;
    journal.append(drafts(["torn"])).await.unwrap();
    drop(journal);
    let file = fs::OpenOptions::new().write(true).open(&segments(dir.path())[0]).unwrap();
    file.set_len(whole + 74).unwrap();
    let (journal, opened) = open(dir.path());
    let torn = opened.torn.unwrap();
    assert_eq!((torn.at, torn.bytes), (whole, 74));
    assert_eq!(opened.previous.unwrap().last_seq, Seq(2));
    assert_eq!(events(&journal).await, ["a"]);
}

/// Makes a journal of three appends and flips a byte of the second.
async fn damaged(dir: &Path) -> u64 {
    let (journal, _) = open(dir);
    journal.append(drafts(["a"])).await.unwrap();
    let at = journal.stats().bytes;
    journal.append(drafts(["b", "c"])).await.unwrap();
    journal.append(drafts(["d"])).await.unwrap();
    drop(journal);
    let path = &segments(dir)[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize + 80] ^= 1;
    fs::write(path, bytes).unwrap();
    at
}

#[tokio::test]
async fn damage_with_sound_records_behind_it_stops_the_start_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = damaged(dir.path()).await;
    for _ in 0..2 {
        let error = Journal::open(dir.path(), options()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the journal's file 00000000000000000000.journal is damaged at byte {at} (2 records are lost); --accept-gap goes on and records the gap"
            )
        );
    }
}

#[tokio::test]
async fn accepted_damage_becomes_a_gap_record_and_is_accepted_once() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path()).await;
    let (journal, opened) =
        Journal::open(dir.path(), JournalOptions { accept_gap: true, ..options() }).unwrap();
    let lost = &opened.lost[0];
    assert_eq!((lost.offsets.clone(), lost.first, lost.last), (Offset(2)..Offset(4), Seq(3), Seq(4)));
    assert_eq!(opened.previous.unwrap().last_seq, Seq(5));
    assert_eq!(events(&journal).await, ["a", "d"]);
    let facts = all(&journal, opened.next).await;
    let gap: serde_json::Value = serde_json::from_slice(&facts[1].1.event).unwrap();
    assert_eq!(
        (&gap["type"], &gap["gap"]["first"], &gap["gap"]["last"]),
        (&"gap".into(), &3.into(), &4.into())
    );
    drop(journal);
    let (journal, opened) = open(dir.path());
    assert_eq!(opened.lost, []);
    assert_eq!(events(&journal).await, ["a", "d"]);
}

#[tokio::test]
async fn a_missing_segment_between_others_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    for event in ["a", "b", "c"] {
        open(dir.path()).0.append(drafts([event])).await.unwrap();
    }
    fs::remove_file(&segments(dir.path())[1]).unwrap();
    let error = Journal::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { lost: 2, .. }), "{error:?}");
    let (journal, opened) =
        Journal::open(dir.path(), JournalOptions { accept_gap: true, ..options() }).unwrap();
    assert_eq!(opened.lost[0].offsets, Offset(2)..Offset(4));
    assert_eq!(events(&journal).await, ["a", "c"]);
    drop(journal);
    assert_eq!(open(dir.path()).1.lost, []);
}

#[tokio::test]
async fn a_segment_of_a_newer_version_is_refused_by_number() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    segment::set_version(bytes.first_chunk_mut().unwrap(), 9);
    fs::write(path, bytes).unwrap();
    assert!(matches!(Journal::open(dir.path(), options()), Err(OpenError::Newer { version: 9, .. })));
}

/// A segment of version 1, as it was first written: a boot's first record, two events, damage that was accepted as a
/// gap of one record, one event. It must read for ever.
const SEGMENT_V1: &[u8] = include_bytes!("v1.journal");

#[tokio::test]
async fn version_one_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(segment::name(Offset(2))), SEGMENT_V1).unwrap();
    let (journal, opened) = open(dir.path());
    assert_eq!((opened.torn, opened.lost, opened.next), (None, vec![], Offset(7)));
    assert_eq!(opened.previous.unwrap().last_seq, Seq(5));
    let all = all(&journal, Offset(2)).await;
    let found: Vec<_> = all.iter().map(|(o, r)| (o.0, r.envelope.seq.0, r.event.as_ref())).collect();
    let first: serde_json::Value = serde_json::from_slice(found[0].2).unwrap();
    assert_eq!((found[0].0, found[0].1, &first["previous"]["last_seq"]), (2, 1, &2.into()));
    let events: [(u64, u64, &[u8]); 3] =
        [(3, 2, br#"{"n":1}"#), (4, 3, br#"{"n":2}"#), (6, 5, br#"{"n":3}"#)];
    assert_eq!(found[1..4], events);
    let envelope = &all[1].1.envelope;
    assert_eq!(envelope.boot.to_string(), "01a205b3-d001-70ba-b8c6-d4114bec90de");
    assert_eq!(envelope.received_at.to_string(), "2026-11-23T00:00:00.000002Z");
}
