//! The cluster store by itself, SQLite beside etcd: creations and reads a second, and how soon 100 watchers see a write.
//!
//! `eval "$(tests/engines start DIR etcd)" && cargo bench --bench store`; without MUNIMENT_TEST_ETCD only SQLite.

#![allow(clippy::unwrap_used, reason = "what fails ends the benchmark")]
#![allow(clippy::disallowed_methods, reason = "the engine is named in the environment")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::gateway::store::{EtcdOptions, EtcdStore, SqliteStore, Store, WatchHub};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use ingest::time::Clock;
use uuid::Uuid;

/// How long each figure is measured.
const WINDOW: Duration = Duration::from_secs(4);

/// What an object takes in etcd, about.
const VALUE_BYTES: usize = 1500;

/// The key that is read.
const READ: &str = "pods/read/x";

const WATCHERS: usize = 100;
const WRITES: usize = 4000;
const WRITES_A_SECOND: usize = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.sqlite");
        measure("sqlite", Arc::new(SqliteStore::open(&file, Clock::system()).await.unwrap())).await;
        if let Ok(server) = std::env::var("MUNIMENT_TEST_ETCD") {
            let prefix = format!("/bench-{}", Uuid::new_v4().simple());
            let options = EtcdOptions { servers: vec![server], prefix, ..EtcdOptions::default() };
            measure("etcd", Arc::new(EtcdStore::open(&options).await.unwrap())).await;
        }
    });
}

async fn measure(name: &str, store: Arc<dyn Store>) {
    for tasks in [1, 16, 64] {
        let creates = rate(&store, tasks, |store, key| {
            async move {
                store.create(&key, Bytes::from(vec![b'x'; VALUE_BYTES]), None).await.unwrap();
            }
            .boxed()
        })
        .await;
        println!("{name:8} {tasks:3} tasks  {creates:8.0} creates/s");
    }
    store.create(READ, Bytes::from(vec![b'x'; VALUE_BYTES]), None).await.unwrap();
    for tasks in [1, 16, 64] {
        let gets = rate(&store, tasks, |store, _| {
            async move { assert!(store.get(READ).await.unwrap().value.is_some()) }.boxed()
        })
        .await;
        println!("{name:8} {tasks:3} tasks  {gets:8.0} gets/s");
    }
    fan_out(name, store).await;
}

/// Calls a second of so many tasks, each of which makes one after the other.
async fn rate(
    store: &Arc<dyn Store>,
    tasks: usize,
    call: fn(Arc<dyn Store>, String) -> BoxFuture<'static, ()>,
) -> f64 {
    let end = Instant::now() + WINDOW;
    let run = Uuid::new_v4().simple().to_string();
    let works = (0..tasks).map(|task| {
        let (store, run) = (store.clone(), run.clone());
        tokio::spawn(async move {
            let mut calls = 0usize;
            while Instant::now() < end {
                call(store.clone(), format!("pods/{run}/{task}/{calls}")).await;
                calls += 1;
            }
            calls
        })
    });
    let works: Vec<_> = works.collect();
    let calls: usize = futures::future::join_all(works).await.into_iter().map(Result::unwrap).sum();
    calls as f64 / WINDOW.as_secs_f64()
}

/// From the start of a write to each watcher's having it, through the hub.
async fn fan_out(name: &str, store: Arc<dyn Store>) {
    let began = Instant::now();
    let hub = WatchHub::new(store.clone(), |change| change.value);
    let start = store.current().await.unwrap();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| {
            let mut watcher = hub.watch("fan/", "fan/", start);
            tokio::spawn(async move {
                let mut delays = Vec::with_capacity(WRITES);
                while delays.len() < WRITES {
                    for change in watcher.next().await.unwrap() {
                        let sent: [u8; 8] = change.seen.as_ref().unwrap()[..8].try_into().unwrap();
                        let sent = Duration::from_nanos(u64::from_le_bytes(sent));
                        delays.push(began.elapsed().saturating_sub(sent));
                    }
                }
                delays
            })
        })
        .collect();
    let mut tick = tokio::time::interval(Duration::from_secs(1) * 10 / WRITES_A_SECOND as u32);
    let mut writes = Vec::new();
    let first = Instant::now();
    for i in 0..WRITES {
        if i % 10 == 0 {
            tick.tick().await;
        }
        let store = store.clone();
        writes.push(tokio::spawn(async move {
            let mut value = (began.elapsed().as_nanos() as u64).to_le_bytes().to_vec();
            value.resize(VALUE_BYTES, b'x');
            store.create(&format!("fan/{i}"), value.into(), None).await.unwrap();
        }));
    }
    for write in writes {
        write.await.unwrap();
    }
    let written = WRITES as f64 / first.elapsed().as_secs_f64();
    let mut delays = Vec::new();
    for watcher in watchers {
        delays.extend(watcher.await.unwrap());
    }
    delays.sort_unstable();
    let at = |part: f64| delays[((delays.len() - 1) as f64 * part) as usize];
    println!(
        "{name:8} {WATCHERS} watchers, {written:.0} writes/s: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
