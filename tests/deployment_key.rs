//! Instances that share a ledger share a key: the same event has one id, and another key is refused.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{fs, time::Duration};

use engines::{Database, kafka, unique};
use server::{Server, ago, event, eventually};

/// What a start under another key says.
const REFUSED: &str = "the ledger was begun under another deployment key";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_gives_the_same_id_under_the_same_key_and_is_refused_under_another() {
    let database = Database::create().await;
    let (url, kafka, topic) = (database.url(), kafka(), unique("key"));
    // Instances that share a ledger share its log.
    let engines = ["--postgres", &url, "--kafka", &kafka, "--topic", &topic];
    let first = Server::start(&engines).await;
    let body = event("once", &ago(Duration::ZERO));
    assert!(first.call().post("shared", body.clone()).await.status().is_success());
    first.call().until_count("cluster:shared", 1).await;

    let key = first.data().join("deployment.key");
    let key = ["--deployment-key-file", key.to_str().unwrap()];
    let second = Server::start(&[&engines[..], &key].concat()).await;
    assert!(second.call().post("shared", body).await.status().is_success());
    eventually("the duplicate is counted", async || {
        let answer = second.call().json("/v1/completeness").await;
        let duplicates =
            answer["boots"].as_array()?.iter().map(|boot| boot["duplicates"].as_u64().unwrap_or(0));
        (duplicates.sum::<u64>() == 1).then_some(())
    })
    .await;
    let ids = async |server: &Server| {
        server.call().until_count("cluster:shared", 1).await;
        server.call().json("/v1/events?q=cluster:shared").await["items"][0]["id"].clone()
    };
    assert_eq!(ids(&first).await, ids(&second).await);

    let mut other = Server::stopped(&engines);
    other.spawn();
    assert!(!other.ended().await.success());
    let log = other.log();
    assert!(log.contains(REFUSED) && log.contains("--deployment-key-file"), "{log}");
}

#[tokio::test]
async fn a_data_folder_does_not_start_under_another_key() {
    let mut server = Server::start(&[]).await;
    assert!(server.stop().await.success());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    server.set_args(&["--deployment-key-file", key.to_str().unwrap()]);
    server.spawn();
    assert!(!server.ended().await.success());
    assert!(server.log().contains(REFUSED), "{}", server.log());
    server.set_args(&[]);
    server.run().await;
}
