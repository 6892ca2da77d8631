//! The process is killed at random points while clients send: what was acknowledged is there afterwards, each once.
//!
//! `MUNIMENT_CRASHES` says how many kills (100 unless told), `MUNIMENT_CRASH_SEED` when.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/engines.rs"]
mod engines;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;
#[path = "support/stores.rs"]
mod stores;

use std::time::Duration;

use dice::{Dice, setting};
use engines::{Database, kafka, unique};
use load::{BATCH, Load, no_holes};
use server::{Server, eventually};
use stores::{Reached, Stores};

/// A kill comes this many milliseconds after the start at the latest: some hit the start itself, most the work.
const LONGEST_LIFE: u64 = 700;
/// Every so many kills the process may live until its recorder applied a batch and its indexer committed one, and from
/// then on for as long as the dice say: the kill finds both at work, under load.
const BREATHER: u64 = 3;
/// Of a hundred lives those that each of the two must have done something in, and those that must have left something
/// acknowledged to the ledger of the next: with fewer the kills would have hit the start and nothing else.
const AT_WORK_PERCENT: u64 = 33;
const LEFT_WORK_PERCENT: u64 = 20;

/// What the lives did until they were killed.
#[derive(Debug, Default)]
struct Tally {
    lives: u64,
    /// In which the recorder applied a batch.
    recorded: u64,
    /// In which the indexer committed.
    indexed: u64,
    /// At whose end the ledger lacked what was acknowledged.
    left_work: u64,
}

impl Tally {
    fn add(&mut self, before: Reached, after: Reached, is_behind: bool) {
        self.lives += 1;
        self.recorded += u64::from(after.recorded > before.recorded);
        self.indexed += u64::from(after.indexed > before.indexed);
        self.left_work += u64::from(is_behind);
    }

    fn check(&self, stores: &Stores) {
        let least = |percent| self.lives * percent / 100;
        assert!(self.recorded.min(self.indexed) >= least(AT_WORK_PERCENT), "too few kills at work: {self:?}");
        let is_enough = self.left_work >= least(LEFT_WORK_PERCENT);
        assert!(is_enough || !stores.is_networked(), "too few kills with work left: {self:?}");
    }
}

/// Starts, waits at random, kills; again and again.
async fn kill_often(server: &mut Server, load: &Load, stores: &Stores, kills: u64, dice: &mut Dice) -> Tally {
    let mut tally = Tally::default();
    for kill in 1..=kills {
        load.send_to(None);
        server.forget_address();
        let before = stores.reached().await;
        server.spawn();
        let life = Duration::from_millis(dice.below(LONGEST_LIFE));
        let follow = async { load.send_to(Some(eventually("an address", async || server.client()).await)) };
        if kill % BREATHER == 0 {
            follow.await;
            eventually("ledger and index go on", async || {
                let now = stores.reached().await;
                (now.recorded > before.recorded && now.indexed > before.indexed).then_some(())
            })
            .await;
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
        // An embedded ledger is not looked into between a kill and the start that has to mend it.
        let is_behind = stores.is_networked() && stores.events().await < load.count();
        tally.add(before, stores.reached().await, is_behind);
    }
    tally
}

async fn survives(args: &[&str], postgres: Option<&Database>) {
    let kills = setting("MUNIMENT_CRASHES", 100);
    let mut dice = Dice(setting("MUNIMENT_CRASH_SEED", 20_261_123));
    let mut server = Server::stopped(args);
    let stores = match postgres {
        Some(database) => Stores::Networked(server.data(), database.url()),
        None => Stores::Embedded(server.data()),
    };
    let load = Load::default();
    let senders = load.start(3);
    let tally = kill_often(&mut server, &load, &stores, kills, &mut dice).await;

    load.stop();
    server.forget_address();
    server.run().await;
    let caller = server.call();
    load.send_to(Some(caller.clone()));
    for sender in senders {
        sender.await.unwrap();
    }
    println!("{} events acknowledged; {tally:?}", load.count());
    assert!(load.count() >= kills / BREATHER * BATCH, "only {} events got through", load.count());
    tally.check(&stores);
    load.is_there_once(&caller).await;
    assert_eq!(stores.events().await, load.count(), "events in the ledger, and acknowledged");
    no_holes(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_the_embedded_engines() {
    survives(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_on_kafka_and_postgres() {
    let database = Database::create().await;
    let (topic, url) = (unique("crash"), database.url());
    survives(&["--kafka", &kafka(), "--topic", &topic, "--postgres", &url], Some(&database)).await;
}
