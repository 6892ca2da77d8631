//! Laws of watching and of history: each change once and in order, until it is compacted.

use bytes::Bytes;

use super::{AnyStore, changes, end, value};
use crate::gateway::store::{Change, ChangeKind, List, Revision, StoreError, WatchError};

async fn write_many(store: &AnyStore, writers: usize, each: usize) {
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = format!("pods/a/{writer}");
            let mut last = store.create(&key, value("0"), None).await.unwrap();
            for i in 1..each {
                last = store.update(&key, value(i.to_string()), last, None).await.unwrap();
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
}

/// 100 watchers that begin at different moments, 1,000 writes of 20 writers.
pub async fn a_watch_gives_each_change_once_and_in_order_to_each_of_many(store: AnyStore) {
    const WATCHERS: usize = 100;
    let start = store.current().await.unwrap();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(i as u64 * 5)).await;
                changes(&mut store.watch("pods/", start), 1000).await
            })
        })
        .collect();
    write_many(&store, 20, 50).await;
    let mut first: Option<Vec<Change>> = None;
    for watcher in watchers {
        let seen = watcher.await.unwrap();
        assert_eq!(seen.len(), 1000);
        assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision), "in order, each once");
        match &first {
            None => first = Some(seen),
            Some(first) => {
                for (one, other) in first.iter().zip(&seen) {
                    assert_eq!(one, other, "every watcher sees the same");
                }
            }
        }
    }
    let seen = first.unwrap();
    for key in (0..20).map(|writer| format!("pods/a/{writer}")) {
        let values: Vec<_> =
            seen.iter().filter(|c| *c.key == *key).map(|c| c.value.clone().unwrap()).collect();
        let wanted: Vec<_> = (0..50).map(|i| value(i.to_string())).collect();
        assert_eq!(values, wanted, "{key}");
    }
}

/// Wherever a watch stopped, the next one goes on.
pub async fn a_watch_resumes_after_every_revision(store: AnyStore) {
    let start = store.current().await.unwrap();
    write_many(&store, 4, 10).await;
    let all = changes(&mut store.watch("pods/", start), 40).await;
    for (i, change) in all.iter().enumerate().take(39) {
        let rest = changes(&mut store.watch("pods/", change.revision), 39 - i).await;
        assert_eq!(rest, all[i + 1..], "after {}", change.revision);
    }
    let last = all.last().unwrap().revision;
    let mut watch = store.watch("pods/", last);
    let next = store.create("pods/b/x", value("next"), None).await.unwrap();
    assert_eq!(changes(&mut watch, 1).await[0].revision, next);
}

/// What a selector needs to know whether an object came into its view or left it.
pub async fn a_watch_tells_values_before_and_after(store: AnyStore) {
    let start = store.current().await.unwrap();
    let mut live = store.watch("pods/", start);
    let created = store.create("pods/a/x", value("1"), None).await.unwrap();
    let modified = store.update("pods/a/x", value("2"), created, None).await.unwrap();
    let deleted = store.delete("pods/a/x", modified).await.unwrap();
    let again = store.create("pods/a/x", value("3"), None).await.unwrap();
    let change = |revision, kind, value: Option<&'static str>, previous: Option<&'static str>| Change {
        key: "pods/a/x".into(),
        revision,
        kind,
        value: value.map(|v| Bytes::from_static(v.as_bytes())),
        previous: previous.map(|v| Bytes::from_static(v.as_bytes())),
    };
    let wanted = [
        change(created, ChangeKind::Created, Some("1"), None),
        change(modified, ChangeKind::Modified, Some("2"), Some("1")),
        change(deleted, ChangeKind::Deleted, None, Some("2")),
        change(again, ChangeKind::Created, Some("3"), None),
    ];
    assert_eq!(changes(&mut live, 4).await, wanted, "as it happens");
    assert_eq!(changes(&mut store.watch("pods/", start), 4).await, wanted, "from history");
}

/// Neither before nor behind it, nor with a longer name.
pub async fn a_watch_of_a_prefix_sees_no_neighbour(store: AnyStore) {
    let start = store.current().await.unwrap();
    let mut watch = store.watch("pods/a/", start);
    for key in ["pods/a", "pods/a/x", "pods/ab/x", "pods/b/x", "nodes/a", "pods/a/y"] {
        store.create(key, value(key), None).await.unwrap();
    }
    let keys = |seen: Vec<Change>| seen.iter().map(|change| change.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(changes(&mut watch, 2).await), ["pods/a/x", "pods/a/y"]);
    assert_eq!(keys(changes(&mut store.watch("pods/a/", start), 2).await), ["pods/a/x", "pods/a/y"]);
}

/// As a client does that has seen more than a replica.
pub async fn a_watch_after_a_later_revision_begins_there(store: AnyStore) {
    let now = store.create("pods/a/x", value("1"), None).await.unwrap();
    let mut watch = store.watch("pods/", Revision(now.0 + 2));
    for i in 0..4 {
        store.create(&format!("pods/a/{i}"), value("1"), None).await.unwrap();
    }
    let seen = changes(&mut watch, 2).await;
    assert_eq!(seen[0].revision, Revision(now.0 + 3));
}

/// Old states, and watches that begin before, are refused with the oldest revision.
pub async fn compaction_forgets_what_was_replaced_and_keeps_what_is(store: AnyStore) {
    let start = store.current().await.unwrap();
    let mut last = store.create("pods/a/x", value("0"), None).await.unwrap();
    let kept = store.create("pods/a/kept", value("kept"), None).await.unwrap();
    let gone = store.create("pods/a/gone", value("gone"), None).await.unwrap();
    store.delete("pods/a/gone", gone).await.unwrap();
    for i in 1..20 {
        last = store.update("pods/a/x", value(i.to_string()), last, None).await.unwrap();
    }
    let middle = Revision(last.0 - 5);
    store.compact(middle).await.unwrap();
    store.compact(middle).await.unwrap();
    store.compact(start).await.unwrap();

    let refused = store.list(&List { prefix: "pods/", at: Some(kept), ..List::default() }).await.unwrap_err();
    assert!(matches!(refused, StoreError::Compacted { oldest } if oldest == middle), "{refused:?}");
    let refused = end(&mut store.watch("pods/", start)).await;
    assert!(matches!(refused, WatchError::Compacted { oldest } if oldest == middle), "{refused:?}");

    for at in [None, Some(middle), Some(last)] {
        let listing = store.list(&List { prefix: "pods/", at, ..List::default() }).await.unwrap();
        let values: Vec<_> = listing.items.iter().map(|item| item.object.value.clone()).collect();
        let x = if at == Some(middle) { "14" } else { "19" };
        assert_eq!(values, [value("kept"), value(x)], "at {at:?}");
    }
    assert_eq!(store.get("pods/a/kept").await.unwrap().value.unwrap().created, kept);
    let seen = changes(&mut store.watch("pods/", middle), 5).await;
    let values: Vec<_> = seen.iter().map(|change| change.value.clone().unwrap()).collect();
    assert_eq!(values, (15..20).map(|i| value(i.to_string())).collect::<Vec<_>>());
}

/// It is served later, or told that it fell behind.
pub async fn a_watch_that_nobody_reads_misses_nothing_silently(store: AnyStore) {
    let start = store.current().await.unwrap();
    let idle = store.watch("pods/", start);
    let mut started = store.watch("pods/", start);
    let mut last = store.create("pods/a/x", value("0"), None).await.unwrap();
    assert_eq!(changes(&mut started, 1).await[0].revision, last);
    let large = "x".repeat(20_000);
    for i in 0..3000 {
        last = store.update("pods/a/x", value(format!("{i} {large}")), last, None).await.unwrap();
    }
    for (mut watch, mut next) in [(idle, start.next()), (started, start.next().next())] {
        // Revisions without a hole: only this key was written.
        loop {
            match watch.next().await.expect("the watch says why it ends") {
                Ok(batch) => {
                    for change in batch.changes {
                        assert_eq!(change.revision, next);
                        next = next.next();
                    }
                    if batch.reached >= last {
                        assert_eq!(next, last.next());
                        break;
                    }
                }
                Err(WatchError::Behind) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
