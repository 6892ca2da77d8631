//! The laws on the embedded store, and what is its own.

use super::*;
use crate::gateway::store::{ChangeKind, laws};

async fn fresh() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open(&folder).await, folder)
}

async fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("cluster.sqlite"), Clock::system()).await.unwrap()
}

laws::tests!(fresh);

/// On the writer's own connection.
async fn run(store: &SqliteStore, statement: &'static str) {
    let (answer, answered) = oneshot::channel();
    assert!(store.jobs.send(Job::Run { statement, answer }).await.is_ok());
    answered.await.unwrap();
}

async fn count(store: &SqliteStore) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM revisions").fetch_one(&store.readers).await.unwrap()
}

#[tokio::test]
async fn compaction_removes_rows_and_goes_on_after_a_restart() {
    let (store, folder) = fresh().await;
    let mut last = store.create("a/x", Bytes::from_static(b"0"), None).await.unwrap();
    for _ in 0..2500 {
        last = store.update("a/x", Bytes::from_static(b"1"), last, None).await.unwrap();
    }
    let gone = store.create("a/gone", Bytes::new(), None).await.unwrap();
    let last = store.delete("a/gone", gone).await.unwrap();
    assert_eq!(count(&store).await, 2503);
    store.compact(last).await.unwrap();
    store.close().await;
    let store = open(&folder).await;
    tokio::time::timeout(laws::PATIENCE, async {
        while count(&store).await > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(store.current().await.unwrap(), last, "the deletion's own row is gone, its number is not");
    assert!(store.create("a/y", Bytes::new(), None).await.unwrap() > last);
}

#[tokio::test]
async fn a_write_that_found_the_disk_full_works_once_there_is_room() {
    let (store, _folder) = fresh().await;
    let created = store.create("a/x", Bytes::from_static(b"0"), None).await.unwrap();
    let mut watch = store.watch("a/", created);
    run(&store, "PRAGMA max_page_count = 1").await;
    let noise = Bytes::from(vec![b'x'; 1_000_000]);
    let full = store.create("a/y", noise.clone(), None).await.unwrap_err();
    assert!(matches!(full, WriteError::Store(StoreError::Unavailable(_))), "{full:?}");
    // The limit went with its connection, as if the disk had room again.
    let written = store.create("a/y", noise, None).await.unwrap();
    assert_eq!(written, created.next(), "the failed write took no number");
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!((batch.changes[0].revision, batch.changes[0].kind), (written, ChangeKind::Created));
}

#[tokio::test]
async fn writes_that_wait_share_a_transaction() {
    let (store, _folder) = fresh().await;
    let mut commits = store.feed.commits.upgrade().unwrap().subscribe();
    let keys: Vec<String> = (0..200).map(|i| format!("a/{i}")).collect();
    let writes = keys.iter().map(|key| store.create(key, Bytes::new(), None));
    for written in futures::future::join_all(writes).await {
        written.unwrap();
    }
    let (mut transactions, mut changes) = (0, 0);
    while changes < 200 {
        transactions += 1;
        changes += commits.recv().await.unwrap().changes.len();
    }
    assert!(transactions <= 20, "{transactions} transactions for 200 writes at once");
}

#[tokio::test]
async fn a_closed_store_refuses_and_its_watches_end() {
    let (store, _folder) = fresh().await;
    let mut watch = store.watch("a/", Revision(1));
    store.close().await;
    let refused = store.create("a/x", Bytes::new(), None).await.unwrap_err();
    assert!(matches!(refused, WriteError::Store(StoreError::Unavailable(_))));
    assert!(matches!(store.get("a/x").await, Err(StoreError::Unavailable(_))));
    assert!(store.healthy().await.is_err());
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_file_of_a_newer_program_and_one_that_is_no_store_are_refused() {
    let (store, folder) = fresh().await;
    run(&store, "INSERT INTO _sqlx_migrations VALUES (9000, 'later', 0, TRUE, x'00', 0)").await;
    store.close().await;
    let file = folder.path().join("cluster.sqlite");
    let refused = SqliteStore::open(&file, Clock::system()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 9000, .. }), "{refused}");
    let other = folder.path().join("other.sqlite");
    std::fs::write(&other, vec![b'x'; 4096]).unwrap();
    assert!(matches!(SqliteStore::open(&other, Clock::system()).await, Err(OpenError::File(_))));
}
