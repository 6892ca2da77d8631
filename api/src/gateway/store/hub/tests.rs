//! What watchers may rely on, over the embedded store.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use ingest::time::Clock;

use super::*;
use crate::gateway::store::{SqliteStore, WatchError, laws::PATIENCE};

struct Bench {
    store: Arc<SqliteStore>,
    hub: WatchHub<Change>,
    decoded: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("cluster.sqlite"), Clock::system()).await.unwrap();
    let (store, decoded) = (Arc::new(store), Arc::new(AtomicUsize::new(0)));
    let count = decoded.clone();
    let hub = WatchHub::new(store.clone(), move |change| {
        count.fetch_add(1, Ordering::Relaxed);
        change
    });
    Bench { store, hub, decoded, _folder: folder }
}

impl Bench {
    async fn create(&self, key: &str, bytes: usize) -> Revision {
        self.store.create(key, Bytes::from(vec![b'x'; bytes]), None).await.unwrap()
    }

    async fn now(&self) -> Revision {
        self.store.current().await.unwrap()
    }
}

async fn next<T: Send + Sync + 'static>(
    watcher: &mut Watcher<T>,
) -> Result<Vec<Arc<Sighting<T>>>, WatchError> {
    tokio::time::timeout(PATIENCE, watcher.next()).await.expect("changes within a minute")
}

async fn keys(watcher: &mut Watcher<Change>, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.len() < count {
        keys.extend(next(watcher).await.unwrap().iter().map(|change| change.key.to_string()));
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_watchers_see_each_change_once_and_it_is_decoded_once() {
    let bench = bench().await;
    let start = bench.now().await;
    let watchers: Vec<_> = (0..100)
        .map(|_| {
            let mut watcher = bench.hub.watch("pods/", "pods/", start);
            tokio::spawn(async move { keys(&mut watcher, 1000).await })
        })
        .collect();
    let names: Vec<String> = (0..1000).map(|i| format!("pods/a/{i:04}")).collect();
    for group in names.chunks(50) {
        futures::future::join_all(group.iter().map(|name| bench.create(name, 10))).await;
    }
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), names);
    }
    assert_eq!(bench.decoded.load(Ordering::Relaxed), 1000);
}

#[tokio::test]
async fn a_watcher_of_one_namespace_sees_no_other_and_knows_how_far_it_is() {
    let bench = bench().await;
    let start = bench.now().await;
    let mut shop = bench.hub.watch("pods/", "pods/shop/", start);
    bench.create("pods/other/x", 1).await;
    let wanted = bench.create("pods/shop/x", 1).await;
    let last = bench.create("pods/shopping/x", 1).await;
    assert_eq!(keys(&mut shop, 1).await, ["pods/shop/x"]);
    assert!(shop.reached() >= wanted);
    tokio::time::timeout(PATIENCE, async {
        while shop.reached() < last {
            // Nothing comes; waiting alone moves the mark.
            assert!(tokio::time::timeout(Duration::from_millis(20), shop.next()).await.is_err());
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn who_begins_before_the_window_is_served_from_history_and_then_from_the_window() {
    let bench = bench().await;
    let start = bench.now().await;
    for i in 0..300 {
        bench.create(&format!("pods/a/{i:03}"), 1).await;
    }
    let mut late = bench.hub.watch("pods/", "pods/", bench.now().await);
    let mut early = bench.hub.watch("pods/", "pods/", start);
    let reader = tokio::spawn(async move { (keys(&mut early, 400).await, early) });
    for i in 300..400 {
        bench.create(&format!("pods/a/{i:03}"), 1).await;
    }
    let all: Vec<String> = (0..400).map(|i| format!("pods/a/{i:03}")).collect();
    assert_eq!(keys(&mut late, 100).await, all[300..]);
    let (seen, mut early) = reader.await.unwrap();
    assert_eq!(seen, all);
    let before = bench.decoded.load(Ordering::Relaxed);
    bench.create("pods/a/last", 1).await;
    assert_eq!(keys(&mut early, 1).await, ["pods/a/last"]);
    assert_eq!(keys(&mut late, 1).await, ["pods/a/last"]);
    assert_eq!(bench.decoded.load(Ordering::Relaxed), before + 1, "both take it from the window");
}

#[tokio::test]
async fn a_watcher_that_is_overtaken_is_told_and_the_window_stays_in_its_bound() {
    let bench = bench().await;
    let start = bench.now().await;
    let mut slow = bench.hub.watch("secrets/", "secrets/", start);
    let mut quick = bench.hub.watch("secrets/", "secrets/", start);
    // The slow one has begun, from the window.
    bench.create("secrets/a/first", 1).await;
    assert_eq!(keys(&mut slow, 1).await.len(), 1);
    assert_eq!(keys(&mut quick, 1).await.len(), 1);
    let large = 1_000_000;
    for i in 0..2 * WINDOW_BYTES / large {
        bench.create(&format!("secrets/a/{i}"), large).await;
        keys(&mut quick, 1).await;
    }
    assert!(matches!(next(&mut slow).await, Err(WatchError::Behind)));
    assert!(matches!(next(&mut slow).await, Err(WatchError::Behind)), "and it stays so");
}

#[tokio::test]
async fn a_revision_that_was_compacted_is_refused() {
    let bench = bench().await;
    let start = bench.now().await;
    let mut running = bench.hub.watch("pods/", "pods/", start);
    for i in 0..10 {
        bench.create(&format!("pods/a/{i}"), 1).await;
    }
    assert_eq!(keys(&mut running, 10).await.len(), 10);
    let now = bench.now().await;
    bench.store.compact(now).await.unwrap();
    drop(running);
    for mut watcher in [bench.hub.watch("pods/", "pods/", start), bench.hub.watch("pods/", "pods/a/", start)]
    {
        let refused = next(&mut watcher).await;
        assert!(matches!(refused, Err(WatchError::Compacted { oldest }) if oldest == now), "{refused:?}");
    }
    // The kind is not spoilt for those who begin at a state that there is.
    let mut watcher = bench.hub.watch("pods/", "pods/", now);
    bench.create("pods/a/new", 1).await;
    assert_eq!(keys(&mut watcher, 1).await, ["pods/a/new"]);
}

#[tokio::test]
async fn a_feed_ends_with_its_last_watcher() {
    let bench = bench().await;
    let start = bench.now().await;
    let one = bench.hub.watch("pods/", "pods/", start);
    let two = bench.hub.watch("pods/", "pods/a/", start);
    let feeds = || bench.hub.feeds.lock().unwrap().values().filter(|feed| feed.strong_count() > 0).count();
    assert_eq!(feeds(), 1);
    drop(one);
    assert_eq!(feeds(), 1);
    drop(two);
    assert_eq!(feeds(), 0);
}
