//! Instances with an embedded log each cannot share a ledger: the second one keeps what it takes in, says why it waits,
//! and goes on by itself when the first has ended.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use engines::Database;
use server::{Server, ago, event, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_log_waits_for_the_ledger_and_loses_nothing() {
    let database = Database::create().await;
    let url = database.url();
    let mut first = Server::start(&["--postgres", &url]).await;
    let call = first.call();
    assert!(call.post("first", event("a", &ago(Duration::ZERO))).await.status().is_success());
    call.until_count("cluster:first", 1).await;

    let key = first.data().join("deployment.key");
    let mut second = Server::stopped(&["--postgres", &url, "--deployment-key-file", key.to_str().unwrap()]);
    second.spawn();
    eventually("the second says why it waits", async || {
        let told = second.client()?.get("/readyz").send().await.ok()?;
        let told = (told.status().as_u16(), told.text().await.ok()?);
        (told.0 == 503 && told.1.contains("from another log: stop that one")).then_some(())
    })
    .await;
    let call = second.call();
    assert!(call.post("second", event("b", &ago(Duration::ZERO))).await.status().is_success());
    // The first was not disturbed.
    assert!(first.call().get("/readyz").send().await.unwrap().status().is_success());
    let gaps = first.call().json("/v1/completeness").await["gaps"].clone();
    assert!(gaps.as_array().is_none_or(Vec::is_empty), "{gaps}");

    assert!(first.stop().await.success());
    second.ready().await;
    second.call().until_count("cluster:second", 1).await;
    second.call().until_count("cluster:first", 1).await;
}
