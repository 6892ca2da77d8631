//! The process is killed at random points while clients send: what was acknowledged is there afterwards, each once.
//!
//! `MUNIMENT_CRASHES` says how many kills (100 unless told), `MUNIMENT_CRASH_SEED` when.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use engines::{Database, kafka, unique};
use load::{BATCH, Load, no_holes};
use server::{Server, eventually};

/// A kill comes this many milliseconds after the start at the latest: some hit the start itself, most the work.
const LONGEST_LIFE: u64 = 700;
/// Every so many kills the process may live until something was acknowledged, so that all of them together get somewhere.
const BREATHER: u64 = 4;

#[allow(clippy::disallowed_methods, reason = "how long a test runs is told in the environment")]
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// SplitMix64: a generator with a seed, so that a run can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Starts, waits at random, kills; again and again.
async fn kill_often(server: &mut Server, load: &Load, kills: u64, dice: &mut Dice) {
    for kill in 1..=kills {
        load.send_to(None);
        server.forget_address();
        server.spawn();
        let life = Duration::from_millis(dice.below(LONGEST_LIFE));
        let before = load.count();
        let follow = async { load.send_to(Some(eventually("an address", async || server.client()).await)) };
        if kill % BREATHER == 0 {
            follow.await;
            load.beyond(before).await;
            tokio::time::sleep(life).await;
        } else {
            // The random moment is the point of the test; it may come before the server has an address.
            let alive = async {
                follow.await;
                std::future::pending::<()>().await;
            };
            tokio::time::timeout(life, alive).await.unwrap_err();
        }
        server.kill();
    }
}

async fn survives(args: &[&str]) {
    let kills = setting("MUNIMENT_CRASHES", 100);
    let mut dice = Dice(setting("MUNIMENT_CRASH_SEED", 20_261_123));
    let mut server = Server::stopped(args);
    let load = Load::default();
    let senders = load.start(3);
    kill_often(&mut server, &load, kills, &mut dice).await;

    load.stop();
    server.forget_address();
    server.run().await;
    let caller = server.call();
    load.send_to(Some(caller.clone()));
    for sender in senders {
        sender.await.unwrap();
    }
    assert!(load.count() >= kills / BREATHER * BATCH, "only {} events got through", load.count());
    println!("{kills} kills, {} events acknowledged", load.count());
    load.is_there_once(&caller).await;
    no_holes(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_the_embedded_engines() {
    survives(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_kafka_and_postgres() {
    let database = Database::create().await;
    let (topic, url) = (unique("crash"), database.url());
    survives(&["--kafka", &kafka(), "--topic", &topic, "--postgres", &url]).await;
}
