//! Roles in processes of their own, which meet in Kafka and Postgres.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use engines::{Database, kafka, unique};
use reqwest::StatusCode;
use server::{Figures, Server, ago, event, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_takes_in_another_one_records_indexes_and_finds() {
    let (database, topic, kafka) = (Database::create().await, unique("roles"), kafka());
    let url = database.url();
    let engines = ["--kafka", &kafka, "--topic", &topic, "--postgres", &url];
    let with = |roles: &'static str| [&engines[..], &["--roles", roles]].concat();
    let mut intake = Server::start(&with("intake")).await;
    let mut query = Server::start(&with("recorder,indexer,query")).await;

    let at = ago(Duration::ZERO);
    let body = |ids: std::ops::Range<u32>| {
        ids.map(|id| event(&format!("id-{id}"), &at)).collect::<Vec<_>>().join("\n")
    };
    assert!(intake.call().post("split", body(0..50)).await.status().is_success());
    query.call().until_count("cluster:split", 50).await;
    eventually("all that was journaled is delivered", async || {
        let page = Figures::of(&intake.call()).await;
        let delivered = page.get("muniment_delivered_records_total")?;
        let is_all = page.get("muniment_journaled_records_total") == Some(delivered) && delivered >= 50.0;
        let is_behind = ["muniment_relay_lag_records", "muniment_relay_lag_seconds"]
            .iter()
            .any(|name| page.get(name) != Some(0.0));
        (is_all && !is_behind).then_some(())
    })
    .await;

    // Each answers for its own roles alone.
    assert_eq!(query.call().post("split", body(0..1)).await.status(), StatusCode::NOT_FOUND);
    let refused = intake.call().get("/v1/events").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);

    // Intake goes on while the other one is away, and after each was killed.
    query.kill();
    assert!(intake.call().post("split", body(50..100)).await.status().is_success());
    intake.kill();
    intake.run().await;
    query.run().await;
    query.call().until_count("cluster:split", 100).await;
    let completeness = eventually("every boot is complete", async || {
        let answer = query.call().json("/v1/completeness").await;
        let boots = answer["boots"].as_array().unwrap();
        (boots.len() == 4 && answer["complete"] == true).then_some(answer)
    })
    .await;
    assert_ne!(completeness["boots"][0]["source"], completeness["boots"][3]["source"], "{completeness}");
    assert!(query.stop().await.success());
    assert!(intake.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_of_one_process_is_found_by_another_while_the_first_is_away() {
    let (database, topic, kafka) = (Database::create().await, unique("stop"), kafka());
    let url = database.url();
    let engines = ["--kafka", &kafka, "--topic", &topic, "--postgres", &url];
    let query = Server::start(&[&engines[..], &["--roles", "recorder,indexer,query"]].concat()).await;
    let mut intake = Server::start(&[&engines[..], &["--roles", "intake"]].concat()).await;
    let at = ago(Duration::ZERO);
    assert!(intake.call().post("stop", event("last", &at)).await.status().is_success());
    assert!(intake.stop().await.success());
    query.call().until_count("kind:pipeline event.type:stop", 1).await;
    query.call().until_count("cluster:stop", 1).await;

    // Without Kafka it ends in order too. What it acknowledged and its stop are found once Kafka is there again.
    intake.set_args(&["--kafka", "127.0.0.1:1", "--topic", &topic, "--postgres", &url, "--roles", "intake"]);
    intake.forget_address();
    intake.spawn();
    assert!(intake.answering().await.post("stop", event("alone", &at)).await.status().is_success());
    assert!(intake.stop().await.success());
    intake.set_args(&[&engines[..], &["--roles", "intake"]].concat());
    intake.run().await;
    query.call().until_count("kind:pipeline event.type:stop", 2).await;
    query.call().until_count("cluster:stop", 2).await;
}

/// Each part on the way has bounds of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_ten_mebibytes_comes_through_whole() {
    let (database, topic, kafka) = (Database::create().await, unique("large"), kafka());
    let url = database.url();
    let server = Server::start(&["--kafka", &kafka, "--topic", &topic, "--postgres", &url]).await;
    let mut large: serde_json::Value = serde_json::from_str(&event("large", &ago(Duration::ZERO))).unwrap();
    large["requestObject"] = serde_json::json!({ "data": { "text": "x".repeat(10 << 20) } });
    let large = large.to_string();
    assert_eq!(server.call().post("large", large.clone()).await.status(), StatusCode::OK);
    let caller = server.call();
    let id = eventually("the event is found", async || {
        let page = caller.get("/v1/events?q=cluster:large").send().await.ok()?;
        let page: serde_json::Value = page.json().await.ok()?;
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let raw = caller.get(&format!("/v1/events/{id}?raw=true")).send().await.unwrap().text().await.unwrap();
    assert!(raw == large, "{} bytes of {}", raw.len(), large.len());
}
