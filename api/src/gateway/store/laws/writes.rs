//! Laws of writing: compare and set, whole or not at all, time to live.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{AnyStore, conflict, value};
use crate::gateway::store::{ChangeKind, Revision, StoreError, Versioned, WriteError};

/// Read your writes.
pub async fn what_was_written_is_read(store: AnyStore) {
    let absent = store.get("pods/a/x").await.unwrap();
    assert_eq!(absent.value, None);
    let created = store.create("pods/a/x", value("1"), None).await.unwrap();
    assert!(created > absent.revision);
    let read = store.get("pods/a/x").await.unwrap();
    assert_eq!(read.value, Some(Versioned::new(value("1"), created, created)));
    assert!(read.revision >= created);
    let modified = store.update("pods/a/x", value("2"), created, None).await.unwrap();
    let read = store.get("pods/a/x").await.unwrap();
    assert_eq!(read.value, Some(Versioned::new(value("2"), created, modified)));
    let deleted = store.delete("pods/a/x", modified).await.unwrap();
    let read = store.get("pods/a/x").await.unwrap();
    assert!(read.value.is_none() && read.revision >= deleted && deleted > modified);
    assert_eq!(store.current().await.unwrap(), deleted);
    let again = store.create("pods/a/x", value(""), None).await.unwrap();
    let read = store.get("pods/a/x").await.unwrap();
    let empty = Versioned::new(Bytes::new(), again, again);
    assert_eq!(read.value, Some(empty), "an empty value is not an absent one");
    store.healthy().await.unwrap();
}

/// Updates and deletions need the key.
pub async fn an_absent_key_cannot_be_updated_or_deleted(store: AnyStore) {
    let found = conflict(store.update("pods/a/x", value("1"), Revision(1), None).await);
    assert_eq!(found.value, None);
    let found = conflict(store.delete("pods/a/x", Revision(1)).await);
    assert_eq!(found.value, None);
    assert_eq!(store.get("pods/a/x").await.unwrap().value, None);
}

/// No other read is needed to try again.
pub async fn a_conflict_tells_what_is_there(store: AnyStore) {
    let first = store.create("pods/a/x", value("1"), None).await.unwrap();
    let second = store.update("pods/a/x", value("2"), first, None).await.unwrap();
    let there = Some(Versioned::new(value("2"), first, second));
    for outcome in [
        store.create("pods/a/x", value("3"), None).await,
        store.update("pods/a/x", value("3"), first, None).await,
        store.delete("pods/a/x", first).await,
    ] {
        let found = conflict(outcome);
        assert_eq!(found.value, there);
        assert!(found.revision >= second);
    }
    assert_eq!(store.current().await.unwrap(), second, "a conflict changes nothing");
}

/// 64 writers add one to a number in turn, each as often as it takes.
pub async fn of_many_writers_that_expect_one_state_one_succeeds(store: AnyStore) {
    const WRITERS: usize = 64;
    const EACH: usize = 5;
    let create = (0..WRITERS).map(|i| store.create("counts/x", value(i.to_string()), None));
    let created: Vec<_> =
        futures::future::join_all(create).await.into_iter().filter_map(Result::ok).collect();
    let [created] = created[..] else { panic!("{} creations", created.len()) };
    store.update("counts/x", value("0"), created, None).await.unwrap();
    let tasks = (0..WRITERS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..EACH {
                add_one(&store).await;
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    let total = store.get("counts/x").await.unwrap().value.unwrap();
    assert_eq!(total.value, value((WRITERS * EACH).to_string()));
}

async fn add_one(store: &AnyStore) {
    let mut there = store.get("counts/x").await.unwrap().value.unwrap();
    loop {
        let count: usize = std::str::from_utf8(&there.value).unwrap().parse().unwrap();
        match store.update("counts/x", value((count + 1).to_string()), there.modified, None).await {
            Ok(_) => return,
            Err(WriteError::Conflict(read)) => there = read.value.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// One counter for all keys.
pub async fn revisions_grow_with_every_change_of_any_key(store: AnyStore) {
    let create = (0..50).map(|i| {
        let store = store.clone();
        async move { store.create(&format!("pods/a/{i}"), value("1"), None).await.unwrap() }
    });
    let mut revisions = futures::future::join_all(create).await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 50, "each change has its own");
    assert_eq!(store.current().await.unwrap(), *revisions.last().unwrap());
}

/// Refused, and the next write works.
pub async fn a_value_larger_than_the_engine_takes_changes_nothing(store: AnyStore) {
    let before = store.current().await.unwrap();
    for bytes in [2 << 20, 8 << 20] {
        let large = Bytes::from(vec![b'x'; bytes]);
        let refused = store.create("secrets/a/large", large, None).await.unwrap_err();
        assert!(matches!(refused, WriteError::Store(StoreError::TooLarge)), "{bytes}: {refused:?}");
    }
    assert_eq!(store.get("secrets/a/large").await.unwrap().value, None);
    assert_eq!(store.current().await.unwrap(), before);
    let most = Bytes::from(vec![b'x'; 1_500_000]);
    store.create("secrets/a/large", most.clone(), None).await.unwrap();
    assert_eq!(store.get("secrets/a/large").await.unwrap().value.unwrap().value, most);
}

/// The store deletes it, as a change that watches see, and not before its time.
pub async fn a_value_lives_its_time_and_is_deleted(store: AnyStore) {
    let began = Instant::now();
    let ttl = Duration::from_secs(2);
    let kept = store.create("events/a/kept", value("kept"), None).await.unwrap();
    let mut last = kept;
    for i in 0..3 {
        last = store.create(&format!("events/a/{i}"), value(i.to_string()), Some(ttl)).await.unwrap();
    }
    let mut watch = store.watch("events/", last);
    let gone = super::changes(&mut watch, 3).await;
    assert!(began.elapsed() >= ttl, "gone after {:?}", began.elapsed());
    let mut keys: Vec<_> = gone.iter().map(|change| change.key.to_string()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["events/a/0", "events/a/1", "events/a/2"]);
    assert!(gone.iter().all(|change| change.kind == ChangeKind::Deleted && change.previous.is_some()));
    assert_eq!(store.get("events/a/0").await.unwrap().value, None);
    assert!(store.get("events/a/kept").await.unwrap().value.is_some());
}

/// An update without one makes the key stay; with one the time begins anew.
pub async fn an_update_sets_the_time_to_live_anew(store: AnyStore) {
    let ttl = Some(Duration::from_secs(2));
    let stays = store.create("events/a/stays", value("1"), ttl).await.unwrap();
    let stays = store.update("events/a/stays", value("2"), stays, None).await.unwrap();
    let goes = store.create("events/a/goes", value("1"), None).await.unwrap();
    let goes = store.update("events/a/goes", value("2"), goes, ttl).await.unwrap();
    let mut watch = store.watch("events/", goes);
    let gone = super::changes(&mut watch, 1).await;
    assert_eq!(&*gone[0].key, "events/a/goes");
    let late = tokio::time::timeout(Duration::from_secs(4), super::changes(&mut watch, 1)).await;
    assert!(late.is_err(), "the other one stays: {late:?}");
    assert_eq!(store.get("events/a/stays").await.unwrap().value.unwrap().modified, stays);
}
