//! Two instances share the recorders' group: one is killed, one is frozen and goes on. No event twice, none missing.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;

use engines::{Database, kafka, unique};
use load::{Load, no_holes};
use rustix::process::Signal;
use server::{Server, eventually};

/// Events that must arrive in each phase.
const PHASE: u64 = 2_000;

/// Whether the recorder has partitions, by what it said it took and gave up so far.
fn owned(log: &str) -> bool {
    let mut own = BTreeSet::new();
    for line in log.lines().filter(|line| line.contains("ingest::recorder::session")) {
        let Some((_, list)) = line.split_once("partitions=[") else { continue };
        let named = list.split([',', ' ', ']']).filter(|number| !number.is_empty()).map(str::to_owned);
        if line.contains("recorder takes partitions") {
            own.extend(named);
        } else {
            named.for_each(|number| {
                own.remove(&number);
            });
        }
    }
    !own.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_and_a_frozen_recorder_lose_and_double_nothing() {
    let database = Database::create().await;
    let (kafka, topic, url) = (kafka(), unique("rebalance"), database.url());
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let key = key.to_str().unwrap();
    let args = |instance: &'static str| {
        let engines = ["--kafka", &kafka, "--topic", &topic, "--postgres", &url];
        [&engines[..], &["--deployment-key-file", key, "--instance", instance]].concat()
    };
    let first = Server::start(&args("first")).await;
    let mut second = Server::start(&args("second")).await;
    let load = Load::default();
    load.send_to(Some(first.call()));
    let senders = load.start(2);
    load.beyond(PHASE).await;
    for server in [&first, &second] {
        eventually("both instances own partitions", async || owned(&server.log()).then_some(())).await;
    }

    second.kill();
    load.beyond(load.count() + PHASE).await;
    second.run().await;
    load.beyond(load.count() + PHASE).await;

    // Frozen for longer than the group waits for a member: its partitions go to the other one, and what it held back
    // then comes too late and must not be written.
    let before = second.log().len();
    second.signal(Signal::STOP);
    load.beyond(load.count() + PHASE).await;
    load.stop();
    for sender in senders {
        sender.await.unwrap();
    }
    load.is_there_once(&first.call()).await;
    second.signal(Signal::CONT);
    eventually("the one that was frozen learns that its partitions are another's", async || {
        let told = &second.log()[before..];
        let noticed = ["recorder gives partitions up", "recorder reads its positions anew"];
        noticed.iter().any(|line| told.contains(line)).then_some(())
    })
    .await;
    second.ready().await;
    load.is_there_once(&first.call()).await;
    load.is_there_once(&second.call()).await;
    no_holes(&first.call()).await;
}
