//! The journal on a disk that loses, tears and refuses, against a model of what it promised.

mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;
use proptest::prelude::*;

use self::disk::Disk;
use super::{
    tests::{all, drafts, events, options},
    *,
};
use crate::{pipeline::Fact, record::Kind};

/// Small, so that a few events fill one.
const SEGMENT: u64 = 4096;

fn open(disk: &Disk, accept_gap: bool) -> Result<(Journal, Opened), OpenError> {
    Journal::open_in(Arc::new(disk.clone()), JournalOptions { accept_gap, ..options() }, SEGMENT)
}

/// What happens to a journal.
#[derive(Clone, Debug)]
enum Step {
    /// Tasks append at once, this many events of this length each.
    Append { tasks: usize, events: usize, len: usize },
    /// The process ends and starts again.
    Restart,
    /// The power fails and the process starts again.
    Crash,
    /// The power fails after so many more operations.
    LosePowerAfter(u32),
    /// A sync fails after so many that work.
    FailSyncAfter(u32),
    /// So much more fits on the disk.
    Free(u64),
    /// Everything up to this part (of 8) of what is there may be forgotten.
    Release(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1usize..4, 1usize..4, 0usize..1500).prop_map(|(tasks, events, len)| Step::Append { tasks, events, len }),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => (0u32..24).prop_map(Step::LosePowerAfter),
        1 => (0u32..6).prop_map(Step::FailSyncAfter),
        1 => prop_oneof![Just(0), 0u64..3 * SEGMENT, Just(u64::MAX)].prop_map(Step::Free),
        1 => (0u64..=8).prop_map(Step::Release),
    ]
}

/// What the journal was told and what it promised.
#[derive(Default)]
struct Model {
    told: u64,
    /// By the text that is unique to each event.
    unanswered: BTreeSet<String>,
    promised: BTreeMap<Offset, (Boot, Seq, String)>,
    released: Offset,
}

impl Model {
    fn events(&mut self, count: usize, len: usize) -> Vec<String> {
        let event = |n: u64| format!("{n:08}{}", "x".repeat(len));
        self.told += count as u64;
        (self.told - count as u64..self.told).map(event).collect()
    }

    fn answered(&mut self, events: Vec<String>, answer: Result<Receipt, AppendError>) {
        let Ok(receipt) = answer else {
            self.unanswered.extend(events);
            return;
        };
        assert_eq!(receipt.last.0 - receipt.first.0 + 1, events.len() as u64);
        let offset = receipt.next.0 - events.len() as u64;
        for (event, n) in events.into_iter().zip(0..) {
            let place = (receipt.boot, Seq(receipt.first.0 + n), event);
            assert_eq!(self.promised.insert(Offset(offset + n), place), None, "an offset was given twice");
        }
    }

    /// Holds what the journal gives against what it promised.
    fn check(&mut self, first: Offset, entries: &[(Offset, Record)]) {
        assert!(first <= self.released, "{first:?} was not to be forgotten");
        assert!(
            entries.iter().map(|(o, _)| o.0).eq((first.0..).take(entries.len())),
            "offsets have no holes"
        );
        let there: BTreeMap<_, _> = entries.iter().map(|(offset, record)| (*offset, record)).collect();
        for (offset, (boot, seq, event)) in self.promised.range(first..) {
            let record = there.get(offset).unwrap_or_else(|| panic!("{offset:?} is gone: {event:.8}"));
            assert_eq!((record.envelope.boot, record.envelope.seq), (*boot, *seq));
            assert_eq!(record.event, event.as_bytes());
        }
        for (offset, record) in entries.iter().filter(|(_, r)| r.envelope.kind == Kind::Audit) {
            let event = String::from_utf8(record.event.to_vec()).unwrap();
            // What nobody was told of may be there, but from now on it stays, and is there once.
            if !self.promised.contains_key(offset) {
                assert!(self.unanswered.remove(&event), "{event:.8} was never told, or is there twice");
                self.promised.insert(*offset, (record.envelope.boot, record.envelope.seq, event));
            }
        }
        entries.windows(2).for_each(|pair| follows(&pair[0].1, &pair[1].1));
    }
}

/// Numbers have no holes, and each boot names the end of the one before it.
fn follows(before: &Record, after: &Record) {
    let (b, a) = (&before.envelope, &after.envelope);
    if b.boot == a.boot {
        assert_eq!(a.seq.0, b.seq.0 + 1);
        return;
    }
    let fact: serde_json::Value = serde_json::from_slice(&after.event).unwrap();
    assert!(a.boot > b.boot && a.seq == Seq(1));
    assert_eq!(fact["previous"]["boot"], b.boot.to_string());
    assert_eq!(fact["previous"]["last_seq"], b.seq.0);
}

/// A disk, what runs on it, and the model.
struct World {
    disk: Disk,
    journal: Option<Journal>,
    model: Model,
}

impl World {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Append { tasks, events, len } => self.append(tasks, events, len).await,
            Step::Restart => self.restart(false).await,
            Step::Crash => self.restart(true).await,
            Step::LosePowerAfter(operations) => self.disk.lose_power_after(operations),
            Step::FailSyncAfter(syncs) => self.disk.fail_sync_after(syncs),
            Step::Free(free) => self.disk.set_free(free),
            Step::Release(eighths) => self.release(eighths),
        }
    }

    async fn append(&mut self, tasks: usize, events: usize, len: usize) {
        let Some(journal) = &self.journal else { return };
        let told: Vec<_> = (0..tasks).map(|_| self.model.events(events, len)).collect();
        let answers = join_all(told.iter().map(|events| journal.append(drafts(events.clone())))).await;
        told.into_iter().zip(answers).for_each(|(events, answer)| self.model.answered(events, answer));
    }

    fn release(&mut self, eighths: u64) {
        let Some(journal) = &self.journal else { return };
        let bounds = journal.bounds();
        let to = Offset(bounds.start.0 + (bounds.end.0 - bounds.start.0) * eighths / 8);
        self.model.released = self.model.released.max(to);
        journal.release(to);
    }

    /// Opens again, with and without the power having failed, until the disk lets it.
    async fn restart(&mut self, crash: bool) {
        self.journal = None;
        let mut crash = crash;
        for _ in 0..8 {
            if crash {
                self.disk.crash();
            }
            match open(&self.disk, false) {
                Ok((journal, opened)) => {
                    assert_eq!(opened.lost, []);
                    return self.check(journal).await;
                }
                // Power and syncs fail while it opens, too: the next start goes on.
                Err(OpenError::Io { .. }) => crash = true,
                Err(e) => panic!("{e:?}"),
            }
        }
        panic!("no start worked");
    }

    async fn check(&mut self, journal: Journal) {
        if let Ok(entries) = read(&journal).await {
            self.model.check(journal.bounds().start, &entries);
        }
        self.journal = Some(journal);
    }
}

/// Everything that is there, unless the power is gone.
async fn read(journal: &Journal) -> Result<Vec<(Offset, Record)>, ReadError> {
    let mut entries = Vec::new();
    let mut at = journal.bounds().start;
    loop {
        let read = journal.read(at, 5).await?;
        let Some(last) = read.last() else { return Ok(entries) };
        at = Offset(last.offset.0 + 1);
        entries.extend(read.into_iter().map(|e| (e.offset, e.record.unwrap())));
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn what_was_acknowledged_is_there_whatever_the_disk_does(
        seed: u64, reserves: bool, steps in prop::collection::vec(step(), 1..40),
    ) {
        run(async {
            let disk = Disk::new(seed);
            disk.set_reserves(reserves);
            let mut world = World { disk, journal: None, model: Model::default() };
            world.restart(false).await;
            for step in steps {
                world.step(step).await;
            }
            world.disk.set_free(u64::MAX);
            world.restart(true).await;
            world.restart(false).await;
            world.append(1, 1, 1).await;
            let world = &world.model;
            let events: BTreeSet<_> = world.promised.values().map(|(_, _, event)| event).collect();
            assert_eq!(events.len(), world.promised.len(), "an event is there twice");
        });
    }

    #[test]
    fn a_flipped_bit_of_what_was_durable_stops_the_start_with_its_place_and_is_accepted_as_a_gap(
        seed: u64, lengths in prop::collection::vec(0usize..1500, 4..24), place: prop::sample::Index, bit: prop::sample::Index,
    ) {
        run(async {
            let disk = Disk::new(seed);
            let mut journal = open(&disk, false).unwrap().0;
            for (n, len) in lengths.into_iter().enumerate() {
                if n % 7 == 6 {
                    drop(journal);
                    journal = open(&disk, false).unwrap().0;
                }
                journal.append(drafts([format!("{n:08}{}", "x".repeat(len))])).await.unwrap();
            }
            let parts = parts(&journal);
            let before = read(&journal).await.unwrap();
            drop(journal);
            let hit = place.get(&parts);
            disk.flip(&hit.file, hit.at * 8 + bit.index((hit.len * 8) as usize) as u64);
            rotten(&disk, hit, hit == parts.last().unwrap(), &before).await;
        });
    }
}

/// A part of a segment that is sound or not as a whole: its header, or a block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    file: String,
    at: u64,
    len: u64,
    offsets: Range<Offset>,
}

fn parts(journal: &Journal) -> Vec<Part> {
    let catalog = journal.0.shared.catalog();
    let mut parts = Vec::new();
    for (i, segment) in catalog.segments.iter().enumerate() {
        let file = segment::name(segment.first);
        let end = catalog.segments.get(i + 1).map_or(catalog.next, |s| s.first);
        let ends = segment.blocks.iter().skip(1).map(|b| (b.at, b.first)).chain([(segment.bytes, end)]);
        let header = Part {
            file: file.clone(),
            at: 0,
            len: segment::HEADER as u64,
            offsets: segment.first..segment.first,
        };
        parts.push(header);
        parts.extend(segment.blocks.iter().zip(ends).map(|(b, (end, next))| Part {
            file: file.clone(),
            at: b.at,
            len: end - b.at,
            offsets: b.first..next,
        }));
    }
    parts
}

/// What must come of damage to `hit`, which is the last part of all or not.
async fn rotten(disk: &Disk, hit: &Part, is_last: bool, before: &[(Offset, Record)]) {
    let kept: Vec<_> = before.iter().filter(|(offset, _)| !hit.offsets.contains(offset)).cloned().collect();
    if is_last {
        // Nothing behind it tells it from a write that a crash cut short; but it is never silent.
        let (journal, opened) = open(disk, false).unwrap();
        let torn = opened.torn.unwrap();
        assert_eq!((&torn.file, torn.at, opened.next), (&hit.file, hit.at, hit.offsets.start));
        assert_eq!(read(&journal).await.unwrap()[..kept.len()], kept);
        return;
    }
    match open(disk, false) {
        Err(OpenError::Corrupt { file, at, lost }) => {
            assert_eq!((file, at), (hit.file.clone(), hit.at));
            assert_eq!(lost, hit.offsets.end.0 - hit.offsets.start.0);
        }
        other => panic!("{other:?}"),
    }
    let (journal, opened) = open(disk, true).unwrap();
    let missing: Vec<_> = before.iter().filter(|(offset, _)| hit.offsets.contains(offset)).collect();
    let lost = opened.lost.iter().map(|l| (l.offsets.clone(), l.boot, l.first..=l.last));
    let expected = missing.first().map(|(_, first)| {
        let last = &missing[missing.len() - 1].1.envelope;
        (hit.offsets.clone(), first.envelope.boot, first.envelope.seq..=last.seq)
    });
    assert!(lost.eq(expected.clone()), "{:?}", opened.lost);
    assert_eq!(read(&journal).await.unwrap()[..kept.len()], kept);
    let told = all(&journal, opened.next).await;
    let gaps = told.iter().filter_map(|(_, r)| match serde_json::from_slice(&r.event).unwrap() {
        Fact::Gap { gap } => Some((hit.offsets.clone(), gap.boot.unwrap(), Seq(gap.first)..=Seq(gap.last))),
        _ => None,
    });
    assert!(gaps.eq(expected), "the gap is recorded in the journal");
    drop(journal);
    assert_eq!(open(disk, false).unwrap().1.lost, []);
}

#[tokio::test]
async fn a_failed_sync_ends_the_boot_and_the_next_start_goes_on() {
    let disk = Disk::new(1);
    let (journal, _) = open(&disk, false).unwrap();
    journal.append(drafts(["a"])).await.unwrap();
    disk.fail_sync_after(0);
    assert_eq!(journal.append(drafts(["b"])).await, Err(AppendError::Ended));
    tokio::time::timeout(std::time::Duration::from_secs(5), journal.ended()).await.unwrap();
    assert_eq!(
        journal.append(drafts(["c"])).await,
        Err(AppendError::Ended),
        "the disk works again, this boot does not"
    );
    assert_eq!(journal.stats().state, State::Ended);
    drop(journal);
    let (journal, _) = open(&disk, false).unwrap();
    journal.append(drafts(["d"])).await.unwrap();
    // The system showed "b" as written although it was not: the start made it so, or it is gone, for good.
    let shown = events(&journal).await;
    drop(journal);
    disk.crash();
    assert_eq!(events(&open(&disk, false).unwrap().0).await, shown);
}

#[tokio::test]
async fn the_end_of_a_boot_is_known_when_nothing_of_it_is_left_and_the_power_fails_at_the_next_start() {
    for (seed, operations) in (0..16).flat_map(|seed| (0..24).map(move |operations| (seed, operations))) {
        let disk = Disk::new(seed);
        let (journal, _) = open(&disk, false).unwrap();
        let boot = journal.boot();
        journal.append(drafts(["x".repeat(3000)])).await.unwrap();
        // It makes a segment and does not come to write in it; then all before it is forgotten.
        disk.fail_sync_after(1);
        assert_eq!(journal.append(drafts(["x".repeat(3000)])).await, Err(AppendError::Ended));
        journal.release(journal.bounds().end);
        assert_eq!(journal.stats().segments, 1);
        drop(journal);
        disk.lose_power_after(operations);
        drop(open(&disk, false));
        disk.crash();
        let previous = open(&disk, false).unwrap().1.previous.unwrap();
        assert!(
            previous.boot > boot || previous.boot == boot && previous.last_seq >= Seq(2),
            "{seed} {operations}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_takes_nothing_until_there_is_room_and_does_not_claim_otherwise() {
    for reserves in [true, false] {
        let disk = Disk::new(1);
        disk.set_reserves(reserves);
        let (journal, _) = open(&disk, false).unwrap();
        disk.set_free(0);
        let event = "x".repeat(3000);
        let mut taken = 0;
        while journal.append(drafts([&event])).await.is_ok() {
            taken += 1;
            assert!(taken < 10, "nothing was refused");
        }
        assert_eq!(journal.append(drafts([&event])).await, Err(AppendError::NoSpace));
        assert_eq!(journal.stats().state, State::NoSpace);
        disk.set_free(u64::MAX);
        journal.append(drafts([&event])).await.unwrap();
        assert_eq!(journal.stats().state, State::Writable);
        assert_eq!(events(&journal).await.len(), taken + 1);
    }
}

#[test]
fn looking_for_room_looks_for_a_whole_segment() {
    let disk = Disk::new(1);
    let catalog = scan::scan(&disk, false).unwrap().0;
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let shared = Arc::new(Shared::new(catalog, Arc::downgrade(&storage)));
    let mut tail = Tail::new(storage, shared, SEGMENT);
    let header = segment::Header { first: Offset(0), previous: None };
    disk.set_free(SEGMENT - 1);
    for _ in 0..3 {
        assert!(matches!(tail.probe(header), Err(WriteError::NoSpace)));
    }
    disk.set_free(u64::MAX);
    assert!(tail.probe(header).is_ok());
}
