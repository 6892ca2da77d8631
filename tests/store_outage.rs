//! The cluster store while its engine, or the process that has it open, is killed, frozen and started again.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]
#![allow(clippy::disallowed_methods, reason = "a test that starts itself again says so in the environment")]

#[path = "support/engines.rs"]
mod engines;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use api::gateway::store::{
    EtcdOptions, EtcdStore, List, Revision, SqliteStore, Store, StoreError, WriteError, laws::PATIENCE,
};
use bytes::Bytes;
use engines::Own;
use ingest::time::Clock;
use tokio_util::sync::CancellationToken;

/// How long a call may take while etcd is away: its own time, once more to settle a write, and a machine that is busy.
const BOUND: Duration = Duration::from_secs(9);

/// Names the file to the child that writes into it.
const CHILD: &str = "MUNIMENT_TEST_STORE_CHILD";

async fn etcd() -> (Arc<EtcdStore>, Own) {
    let own = tokio::task::spawn_blocking(|| Own::start(&["etcd"])).await.unwrap();
    let options = EtcdOptions { servers: vec![own.etcd().to_owned()], ..EtcdOptions::default() };
    (Arc::new(EtcdStore::open(&options).await.unwrap()), own)
}

/// What one writer knows of its key: the changes that were acknowledged, and whether the last one is uncertain.
#[derive(Debug, Default)]
struct Known {
    acknowledged: Vec<(Revision, String)>,
    uncertain: Vec<String>,
    slowest: Duration,
    failed: usize,
}

/// Counts in one key until it is stopped, whatever fails.
async fn count(store: Arc<dyn Store>, key: String, stop: CancellationToken) -> Known {
    let mut known = Known::default();
    let mut last: Option<Revision> = None;
    for i in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let value = format!("{key} {i}");
        let began = Instant::now();
        let outcome = match last {
            None => store.create(&key, Bytes::from(value.clone()), None).await,
            Some(last) => store.update(&key, Bytes::from(value.clone()), last, None).await,
        };
        known.slowest = known.slowest.max(began.elapsed());
        match outcome {
            Ok(revision) => {
                known.acknowledged.push((revision, value));
                last = Some(revision);
            }
            Err(WriteError::Store(StoreError::Unavailable(_))) => known.failed += 1,
            Err(WriteError::Store(StoreError::Ambiguous(_))) => {
                known.failed += 1;
                known.uncertain.push(value);
            }
            // What was uncertain did happen.
            Err(WriteError::Conflict(found)) => {
                let found = found.value.unwrap();
                let text = String::from_utf8(found.value.to_vec()).unwrap();
                assert!(known.uncertain.contains(&text), "{key} has {text}, which nobody was uncertain of");
                last = Some(found.modified);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    known
}

/// Every change that a watch gives from `start`, until each of `wanted` was seen; each once and in order.
async fn watch_until(
    store: Arc<dyn Store>,
    start: Revision,
    last: CancellationToken,
) -> BTreeMap<Revision, String> {
    let mut watch = store.watch("counts/", start);
    let (mut seen, mut reached) = (BTreeMap::new(), start);
    loop {
        let batch = tokio::select! {
            batch = watch.next() => batch.expect("an outage is no end").unwrap(),
            () = async { last.cancelled().await; tokio::time::sleep(Duration::from_secs(2)).await } => return seen,
        };
        for change in batch.changes {
            assert!(change.revision > reached, "each once and in order");
            reached = change.revision;
            seen.insert(change.revision, String::from_utf8(change.value.unwrap().to_vec()).unwrap());
        }
        reached = reached.max(batch.reached);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_killed_under_load_and_nothing_is_lost_doubled_or_half_written() {
    let (store, mut own) = etcd().await;
    let start = store.current().await.unwrap();
    let (stop, last) = (CancellationToken::new(), CancellationToken::new());
    let watcher = tokio::spawn(watch_until(store.clone(), start, last.clone()));
    let writers: Vec<_> =
        (0..8).map(|i| tokio::spawn(count(store.clone(), format!("counts/{i}"), stop.clone()))).collect();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        own.kill("etcd");
        tokio::time::sleep(Duration::from_millis(300)).await;
        own = tokio::task::spawn_blocking(move || {
            own.begin_again(&["etcd"]);
            own
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.cancel();
    let mut known = Vec::new();
    for writer in writers {
        known.push(writer.await.unwrap());
    }
    last.cancel();
    let seen = watcher.await.unwrap();
    let listing = store.list(&List { prefix: "counts/", ..List::default() }).await.unwrap();
    let there: BTreeMap<_, _> = listing
        .items
        .iter()
        .map(|i| (i.key.to_string(), (i.object.modified, i.object.value.clone())))
        .collect();
    let acknowledged: usize = known.iter().map(|known| known.acknowledged.len()).sum();
    assert!(acknowledged > 100, "{acknowledged} writes were acknowledged");
    assert!(known.iter().map(|known| known.failed).sum::<usize>() > 0, "no write met the outage");
    for (i, known) in known.iter().enumerate() {
        assert!(known.slowest < BOUND, "a write took {:?}", known.slowest);
        for (revision, value) in &known.acknowledged {
            assert_eq!(seen.get(revision), Some(value), "acknowledged and not seen");
        }
        let key = format!("counts/{i}");
        let ours: Vec<_> = seen.values().filter(|value| value.starts_with(&format!("{key} "))).collect();
        for value in &ours {
            let told = known.acknowledged.iter().any(|(_, v)| v == *value) || known.uncertain.contains(value);
            assert!(told, "{value} was refused and happened");
        }
        let (modified, value) = &there[&key];
        assert_eq!(
            seen.get(modified).map(|v| v.as_bytes()),
            Some(&value[..]),
            "the last change is the state"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_etcd_fails_every_call_in_bounded_time_and_comes_back() {
    let (store, own) = etcd().await;
    let created = store.create("pods/a/x", Bytes::from_static(b"1"), None).await.unwrap();
    own.pause("etcd");
    let timed = async |call: std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>| {
        let began = Instant::now();
        let error = call.await.unwrap_err();
        assert!(began.elapsed() < BOUND, "{error:?} took {:?}", began.elapsed());
        error
    };
    let (s, t, u) = (store.clone(), store.clone(), store.clone());
    let get = timed(Box::pin(async move { s.get("pods/a/x").await.map(drop) }));
    let list = timed(Box::pin(async move { t.list(&List::default()).await.map(drop) }));
    let update = timed(Box::pin(async move {
        match u.update("pods/a/x", Bytes::from_static(b"2"), created, None).await {
            Err(WriteError::Store(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }));
    let (get, list, update) = tokio::join!(get, list, update);
    assert!(
        matches!((&get, &list), (StoreError::Unavailable(_), StoreError::Unavailable(_))),
        "{get:?} {list:?}"
    );
    assert!(matches!(update, StoreError::Ambiguous(_)), "{update:?}");
    own.unpause("etcd");
    tokio::time::timeout(PATIENCE, async { while store.healthy().await.is_err() {} }).await.unwrap();
    let there = store.get("pods/a/x").await.unwrap().value.unwrap();
    let value = if there.modified == created { "1" } else { "2" };
    assert_eq!(there.value, value);
    store.update("pods/a/x", Bytes::from_static(b"3"), there.modified, None).await.unwrap();
}

/// Runs in a child that [`a_killed_process_loses_no_write_that_was_acknowledged`] starts: it does nothing by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(file) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(SqliteStore::open(Path::new(&file), Clock::system()).await.unwrap());
    let writers = (0..16).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = format!("counts/{i}");
            let mut last = store.get(&key).await.unwrap().value.map(|value| value.modified);
            for n in 0.. {
                let value = Bytes::from(format!("{key} {n}"));
                let revision = match last {
                    None => store.create(&key, value.clone(), None).await.unwrap(),
                    Some(last) => store.update(&key, value.clone(), last, None).await.unwrap(),
                };
                // One write to the pipe: a line is there as a whole or not at all.
                println!("{revision} {}", String::from_utf8_lossy(&value));
                last = Some(revision);
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_no_write_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.sqlite");
    let mut acknowledged = BTreeMap::new();
    for round in 0..5 {
        acknowledged.extend(write_and_kill(&file, 200));
        let store = SqliteStore::open(&file, Clock::system()).await.unwrap();
        let now = store.current().await.unwrap();
        let mut watch = store.watch("", Revision(1));
        let mut seen = BTreeMap::new();
        let mut next = Revision(2);
        while next <= now {
            let batch = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
            for change in batch.changes {
                assert_eq!(change.revision, next, "revisions have no hole");
                next = next.next();
                seen.insert(change.revision, String::from_utf8(change.value.unwrap().to_vec()).unwrap());
            }
        }
        for (revision, value) in &acknowledged {
            assert_eq!(seen.get(revision), Some(value), "round {round}: {revision} was acknowledged");
        }
        store.close().await;
    }
}

fn write_and_kill(file: &Path, lines: usize) -> Vec<(Revision, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut killed = false;
    // What the pipe still holds after the kill was acknowledged as well.
    while let Some(Ok(line)) = output.next() {
        if let Some((revision, value)) = line.split_once(' ')
            && value.starts_with("counts/")
            && let Ok(revision) = revision.parse()
        {
            told.push((Revision(revision), value.to_owned()));
        }
        if told.len() >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(told.len() >= lines, "the child wrote {} lines", told.len());
    told
}
