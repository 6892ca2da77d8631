//! Kafka goes away under load, then Postgres: nothing is lost, memory stays bounded, `/readyz` says which it is.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use engines::{Own, unique};
use load::{Load, no_holes};
use reqwest::StatusCode;
use serde_json::Value;
use server::{Caller, Server, eventually};

/// Events that are acknowledged while an engine is away.
const DURING: u64 = 4_000;
/// What the process may hold of its own at any time (RssAnon), in KiB: the index's writers are the largest part.
const MEMORY_KIB: u64 = 512 * 1024;

/// The names of the checks that are not well; none when the server is ready.
async fn unwell(caller: &Caller) -> Vec<String> {
    let response = caller.with_token("").get("/readyz").send().await.unwrap();
    let status = response.status();
    let answer: Value = response.json().await.unwrap();
    let checks = answer["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    let names: Vec<_> = checks.map(|check| check["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(status == StatusCode::OK, names.is_empty(), "{answer}");
    names
}

async fn unwell_names(caller: &Caller, name: &str) {
    eventually(&format!("/readyz names {name}"), async || {
        unwell(caller).await.iter().any(|unwell| unwell == name).then_some(())
    })
    .await;
}

async fn ready(caller: &Caller) {
    eventually("ready again", async || unwell(caller).await.is_empty().then_some(())).await;
}

/// A figure of the metrics' page; nothing before it was measured.
async fn figure(caller: &Caller, name: &str) -> Option<f64> {
    let page = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// One engine is stopped under load, named by `/readyz`, and started again; intake goes on all the while.
async fn away(own: &mut Own, engine: &str, check: &str, load: &Load, server: &Server) {
    let caller = server.call();
    load.beyond(load.count()).await;
    own.stop(&[engine]);
    unwell_names(&caller, check).await;
    load.beyond(load.count() + DURING).await;
    if engine == "kafka" {
        let waiting = figure(&caller, "muniment_relay_lag_records").await.unwrap();
        assert!(waiting >= DURING as f64 / 2.0, "{waiting} records wait for Kafka");
        assert!(figure(&caller, "muniment_relay_lag_seconds").await.unwrap() > 0.0);
    }
    let memory = server.anonymous_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB while {engine} was away");
    own.begin_again(&[engine]);
    ready(&caller).await;
    if engine == "kafka" {
        eventually("the relay has caught up", async || {
            let seconds = figure(&caller, "muniment_relay_lag_seconds").await?;
            (seconds < 2.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_kafka_and_then_postgres_are_away() {
    let mut own = Own::start(&["kafka", "postgres"]);
    let (kafka, topic, postgres) = (own.kafka().to_owned(), unique("outage"), own.postgres().to_owned());
    let server = Server::start(&["--kafka", &kafka, "--topic", &topic, "--postgres", &postgres]).await;
    let load = Load::default();
    load.send_to(Some(server.call()));
    let senders = load.start(2);
    away(&mut own, "kafka", "log", &load, &server).await;
    away(&mut own, "postgres", "ledger", &load, &server).await;
    load.stop();
    for sender in senders {
        sender.await.unwrap();
    }
    load.is_there_once(&server.call()).await;
    no_holes(&server.call()).await;
}
