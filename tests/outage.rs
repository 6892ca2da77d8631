//! Kafka goes away under load, then Postgres: nothing is lost, memory stays bounded, `/readyz` says which it is.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/ballast.rs"]
mod ballast;
#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/peak.rs"]
mod peak;
#[path = "support/server.rs"]
mod server;
#[path = "support/stores.rs"]
mod stores;

use std::time::Instant;

use ballast::Ballast;
use engines::{Own, unique};
use load::{Load, no_holes};
use peak::Peak;
use reqwest::StatusCode;
use serde_json::Value;
use server::{Caller, Figures, Server, eventually};
use stores::Stores;

/// How much more of its own (RssAnon) the process that takes in, relays and records may hold at any moment of both
/// outages than before them, in KiB: what the recorder holds of two batches and a poll (40 MiB), what was fetched ahead
/// (10 MiB), what waits for Kafka (40 MiB) and bodies under way, and a third of that for the allocator, which rounds sizes
/// up and gives back after a second. 73 to 98 MiB were seen.
const MORE_KIB: u64 = 128 * 1024;
/// Events of the ballast that are acknowledged while each engine is away. What waited in memory would show: while
/// Kafka is away the ballast is more than may be held, while Postgres is away it is three times that.
const WITHOUT_KAFKA: u64 = 2_400;
const WITHOUT_POSTGRES: u64 = 7_200;
const _: () = assert!(WITHOUT_KAFKA as usize * ballast::BYTES > MORE_KIB as usize * 1024);
const _: () = assert!(WITHOUT_POSTGRES as usize * ballast::BYTES > 3 * MORE_KIB as usize * 1024);
/// What that process and the one that indexes and answers may hold together at any moment, in KiB: as much as one that
/// does all of it.
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

/// Waits until the engine that is away is named. The one that runs must not be.
async fn unwell_names(caller: &Caller, name: &str) {
    let runs = if name == "log" { "ledger" } else { "log" };
    let is_among = |names: &[String], name: &str| names.iter().any(|unwell| unwell == name);
    eventually(&format!("/readyz names {name}"), async || {
        let names = unwell(caller).await;
        assert!(!is_among(&names, runs), "{name} is away: {names:?}");
        is_among(&names, name).then_some(())
    })
    .await;
}

async fn ready(caller: &Caller) {
    eventually("ready again", async || unwell(caller).await.is_empty().then_some(())).await;
}

/// One engine is stopped under load, named by `/readyz`, and started again; intake goes on all the while.
async fn away(own: &mut Own, engine: &str, check: &str, caller: &Caller, sent: impl AsyncFnOnce()) {
    own.stop(&[engine]);
    unwell_names(caller, check).await;
    let begun = Instant::now();
    sent().await;
    println!("{engine} away: ballast acknowledged within {:?}", begun.elapsed());
    unwell_names(caller, check).await;
    if engine == "kafka" {
        let figures = Figures::of(caller).await;
        assert!(figures.get("muniment_relay_lag_records").unwrap() > 0.0);
        assert!(figures.get("muniment_relay_lag_seconds").unwrap() > 0.0);
    }
    own.begin_again(&[engine]);
    ready(caller).await;
    if engine == "kafka" {
        eventually("the relay has caught up", async || {
            let seconds = Figures::of(caller).await.get("muniment_relay_lag_seconds")?;
            (seconds < 2.0).then_some(())
        })
        .await;
    }
}

fn start<'a>(own: &'a Own, topic: &'a str, roles: &'a str) -> impl Future<Output = Server> + 'a {
    let args = ["--kafka", own.kafka(), "--topic", topic, "--postgres", own.postgres(), "--roles", roles];
    async move { Server::start(&args).await }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_kafka_and_then_postgres_are_away() {
    let mut own = Own::start(&["kafka", "postgres"]);
    let topic = unique("outage");
    let takes_in = start(&own, &topic, "intake,recorder").await;
    let answers = start(&own, &topic, "indexer,query").await;
    let (caller, load, ballast) = (takes_in.call(), Load::default(), Ballast::default());
    load.send_to(Some(caller.clone()));
    let senders = load.start(2);
    load.beyond(load.count()).await;

    let before = takes_in.anonymous_kib();
    let (highest, beside) = (Peak::start(takes_in.pid()), Peak::start(answers.pid()));
    away(&mut own, "kafka", "log", &caller, async || ballast.send(&caller, WITHOUT_KAFKA).await).await;
    let more = async || ballast.send(&caller, WITHOUT_POSTGRES).await;
    away(&mut own, "postgres", "ledger", &caller, more).await;
    let (highest, beside) = (highest.end().await, beside.end().await);
    println!("{before} KiB before, {highest} at most, {beside} at most beside it");
    assert!(highest < before + MORE_KIB, "{highest} KiB, {before} before the outages");
    assert!(highest + beside < MEMORY_KIB, "{highest} KiB and {beside} KiB");

    load.stop();
    for sender in senders {
        sender.await.unwrap();
    }
    ballast.is_there(&answers.call()).await;
    load.is_there_once(&answers.call()).await;
    let stores = Stores::Networked(answers.data(), own.postgres().to_owned());
    assert_eq!(stores.events().await, load.count() + WITHOUT_KAFKA + WITHOUT_POSTGRES);
    no_holes(&answers.call()).await;
}
