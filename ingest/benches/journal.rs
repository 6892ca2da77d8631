//! Rate and waiting time of the journal beside `fdatasync` of the same bytes: `cargo bench -p ingest --bench journal -- SECONDS [FOLDER]`.
//!
//! Each row runs for SECONDS on generated events; files are made in FOLDER, whose disk is what is measured.

#[path = "../../benches/generator.rs"]
mod generator;

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ingest::{
    journal::{Journal, JournalOptions},
    record::{Draft, Kind, RecordId},
    time::{Clock, Timestamp},
};
use uuid::Uuid;

/// Events that are made in advance and used in turn.
const EVENTS: usize = 20_000;

/// The events of a large request of an API server's webhook.
const BATCH: usize = 400;

/// How often the rows of a comparison take turns.
const ROUNDS: u32 = 10;

/// How long the raw file gets before it is written from the start again: a segment of the journal.
const SEGMENT: u64 = 64 * 1024 * 1024;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(seconds) = words.first().and_then(|word| word.parse().ok()) else { return Ok(()) };
    let time = Duration::from_secs_f64(seconds);
    let base = words.get(1).map_or(Path::new("."), Path::new);
    let dir = tempfile::tempdir_in(base)?;
    let drafts = Arc::new(drafts());
    let mean = drafts.iter().map(|d| d.event.len()).sum::<usize>() / drafts.len();
    println!("events of {mean} bytes on average, {seconds} s for each row\n");
    println!("{:34} {:>9} {:>9} {:>9} {:>8}", "", "events/s", "p50 ms", "p99 ms", "p99/raw");
    for (producers, batch) in [(1, 1), (64, 1), (1, BATCH), (4, BATCH)] {
        let together = (producers * batch).min(BATCH);
        let (mut raw, mut ours) = (Run::default(), Run::default());
        let journal = open(dir.path(), producers, batch);
        // In turns, as the disk is not the same from one second to the next.
        for _ in 0..ROUNDS {
            raw.extend(synced(dir.path(), &drafts, together, time / ROUNDS, |bytes, out| {
                out.extend_from_slice(bytes);
            })?);
            ours.extend(appended(&journal, &drafts, producers, batch, time / ROUNDS).await);
        }
        print(&format!("raw fdatasync of {together}"), &raw, together, None);
        print(&format!("journal, {producers} producers of {batch}"), &ours, batch, Some(&raw));
    }
    let (mut runs, levels) = ([Run::default(), Run::default(), Run::default()], [None, Some(1), Some(-5)]);
    for _ in 0..ROUNDS {
        for (run, level) in runs.iter_mut().zip(levels) {
            let mut zstd = level.map(zstd::bulk::Compressor::new).transpose()?;
            run.extend(synced(dir.path(), &drafts, BATCH, time / ROUNDS, |bytes, out| match &mut zstd {
                Some(zstd) => out.extend(zstd.compress(bytes).unwrap_or_default()),
                None => out.extend_from_slice(bytes),
            })?);
        }
    }
    for (run, level) in runs.iter().zip(["as they are", "zstd 1", "zstd -5"]) {
        print(&format!("raw fdatasync of {BATCH}, {level}"), run, BATCH, Some(&runs[0]));
    }
    Ok(())
}

fn drafts() -> Vec<Draft> {
    let mut generator = generator::Generator::new(11, 1_795_392_000_000_000);
    let mut event = Vec::new();
    let (cluster, rules): (Arc<str>, Arc<str>) = ("demo".into(), "5".repeat(64).into());
    let draft = |n: usize| {
        event.clear();
        generator.event(generator::Form::Line, &mut event);
        Draft {
            id: RecordId(Uuid::from_u128((n as u128) << 64)),
            cluster: cluster.clone(),
            kind: Kind::Audit,
            at: Timestamp::from_micros(1_795_392_000_000_000 + n as i64),
            rules: rules.clone(),
            redactions: 0,
            event: Bytes::copy_from_slice(&event),
        }
    };
    (0..EVENTS).map(draft).collect()
}

/// How long each call took, and how long all.
#[derive(Default)]
struct Run {
    calls: Vec<Duration>,
    took: Duration,
}

impl Run {
    fn extend(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.took += other.took;
    }
}

/// Writes `together` events as `pack` leaves them to a file with its space reserved, and syncs it, again and again.
fn synced(
    dir: &Path,
    drafts: &[Draft],
    together: usize,
    time: Duration,
    mut pack: impl FnMut(&[u8], &mut Vec<u8>),
) -> std::io::Result<Run> {
    use std::os::unix::fs::FileExt;
    let file = File::create(dir.join("raw"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT)?;
    let (mut calls, mut at, mut next) = (Vec::new(), 0, 0);
    let started = Instant::now();
    while started.elapsed() < time {
        let call = Instant::now();
        let (mut bytes, mut packed) = (Vec::new(), Vec::new());
        for n in next..next + together {
            bytes.write_all(&drafts[n % drafts.len()].event)?;
        }
        next += together;
        pack(&bytes, &mut packed);
        if at + packed.len() as u64 > SEGMENT {
            at = 0;
        }
        file.write_all_at(&packed, at)?;
        file.sync_data()?;
        at += packed.len() as u64;
        calls.push(call.elapsed());
    }
    Ok(Run { calls, took: started.elapsed() })
}

fn open(dir: &Path, producers: usize, batch: usize) -> Journal {
    let folder = dir.join(format!("journal-{producers}-{batch}"));
    let options = JournalOptions::new("bench", Clock::system());
    Journal::open(&folder, options).unwrap_or_else(|e| panic!("{e}")).0
}

async fn appended(
    journal: &Journal,
    drafts: &Arc<Vec<Draft>>,
    producers: usize,
    batch: usize,
    time: Duration,
) -> Run {
    let started = Instant::now();
    let producer = |p: usize| {
        let (journal, drafts) = (journal.clone(), drafts.clone());
        tokio::spawn(async move {
            let (mut calls, mut next) = (Vec::new(), p * 97);
            while started.elapsed() < time {
                let some = (next..next + batch).map(|n| drafts[n % drafts.len()].clone()).collect();
                next += batch;
                let call = Instant::now();
                let receipt = journal.append(some).await.unwrap_or_else(|e| panic!("{e}"));
                calls.push(call.elapsed());
                // Nobody reads: what is behind is forgotten, so that the journal does not fill.
                if p == 0 && journal.bounds().start.0 + 200_000 < receipt.next.0 {
                    journal.release(receipt.next);
                }
            }
            calls
        })
    };
    let tasks: Vec<_> = (0..producers).map(producer).collect();
    let calls = futures::future::try_join_all(tasks).await.unwrap_or_else(|e| panic!("{e}"));
    Run { calls: calls.into_iter().flatten().collect(), took: started.elapsed() }
}

fn print(what: &str, run: &Run, batch: usize, raw: Option<&Run>) {
    let at = |run: &Run, part: f64| {
        let mut calls = run.calls.clone();
        calls.sort_unstable();
        calls.get((calls.len() as f64 * part) as usize).map_or(0.0, |call| call.as_secs_f64() * 1000.0)
    };
    let rate = (run.calls.len() * batch) as f64 / run.took.as_secs_f64();
    let ratio = raw.map(|raw| format!("{:.1}", at(run, 0.99) / at(raw, 0.99))).unwrap_or_default();
    println!("{what:34} {rate:>9.0} {:>9.3} {:>9.3} {ratio:>8}", at(run, 0.5), at(run, 0.99));
}
