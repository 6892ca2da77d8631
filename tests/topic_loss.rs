//! What the log loses before everyone has read it is named, and ledger and index agree afterwards.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod support {
    pub(crate) mod engines;
    pub(crate) mod kafka;
    pub(crate) mod server;
}

use std::{collections::BTreeSet, fs, time::Duration};

use ingest::log::{
    Log,
    kafka::{KafkaLog, KafkaOptions},
};
use serde_json::Value;
use sqlx::{Connection, PgConnection, SqliteConnection};
use support::{
    engines::{self, Database, unique},
    kafka::{admin, dead_letters, delete_records, delete_topic, produce_raw},
    server::{Figures, Server, ago, event, eventually},
};

/// A topic and a database of their own.
struct Place {
    kafka: String,
    topic: String,
    partitions: i32,
    database: Database,
}

impl Place {
    async fn new() -> Self {
        let (kafka, topic, database) = (engines::kafka(), unique("loss"), Database::create().await);
        Self { kafka, topic, partitions: 2, database }
    }

    fn server(&self, roles: &str) -> Server {
        let (url, partitions) = (self.database.url(), self.partitions.to_string());
        Server::stopped(&[
            "--kafka",
            &self.kafka,
            "--topic",
            &self.topic,
            "--partitions",
            &partitions,
            "--postgres",
            &url,
            "--roles",
            roles,
        ])
    }

    /// The topic; made when it is not there.
    async fn log(&self) -> KafkaLog {
        KafkaLog::open(self.options()).await.unwrap()
    }

    fn options(&self) -> KafkaOptions {
        let options = KafkaOptions::new(self.kafka.clone(), self.topic.clone());
        KafkaOptions { partitions: self.partitions, ..options }
    }

    async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.database.url()).await.unwrap()
    }

    /// While this is held the ledger takes nothing and no index is made from it.
    async fn hold(&self) -> PgConnection {
        let mut holds = self.database().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE day IN ACCESS EXCLUSIVE MODE").execute(&mut holds).await.unwrap();
        holds
    }

    /// The ids of the events that the ledger holds.
    async fn recorded(&self) -> BTreeSet<String> {
        let ids: Vec<(String,)> = sqlx::query_as("SELECT id::text FROM record WHERE kind = 0")
            .fetch_all(&mut self.database().await)
            .await
            .unwrap();
        ids.into_iter().map(|(id,)| id).collect()
    }

    async fn until_recorded(&self, count: usize) {
        eventually("the ledger has them", async || (self.recorded().await.len() == count).then_some(()))
            .await;
    }

    /// How many entries the topic was given.
    async fn given(&self, log: &KafkaLog) -> u64 {
        log.bounds().await.unwrap().values().map(|(_, end)| end.0).sum()
    }

    async fn remove_everything_from_the_topic(&self, log: &KafkaLog) {
        let admin = admin(&self.kafka);
        for (partition, (_, end)) in log.bounds().await.unwrap() {
            delete_records(&admin, &self.topic, partition, end.0 as i64).await;
        }
    }

    /// Waits until the index of `server` finds exactly what the ledger holds, which is `count` events.
    async fn agree(&self, server: &Server, count: usize) {
        self.until_recorded(count).await;
        let recorded = self.recorded().await;
        eventually("ledger and index agree", async || (found(server).await? == recorded).then_some(())).await;
    }
}

/// The ids of the events that are found and can be shown.
async fn found(server: &Server) -> Option<BTreeSet<String>> {
    let page = server.call().json("/v1/events?q=kind:audit%20cluster:loss&limit=1000").await;
    let items = page["items"].as_array()?;
    (page["partial"] == false)
        .then(|| items.iter().filter_map(|i| Some(i["id"].as_str()?.to_owned())).collect())
}

async fn post(server: &Server, name: &str, count: usize) {
    let at = ago(Duration::ZERO);
    let events: Vec<_> = (0..count).map(|i| event(&format!("{name}-{i}"), &at)).collect();
    assert!(server.call().post("loss", events.join("\n")).await.status().is_success());
}

/// What the index says of a topic that was made anew: it meets that itself, or the recorder was faster and noted it.
const MADE_ANEW: &[&str] = &["was deleted and created again", "was replaced by"];

/// Waits until `/readyz` is red because of the index, for a reason that contains one of `reasons`.
async fn until_index_is_red(server: &Server, reasons: &[&str]) {
    eventually(&format!("the index is red: {reasons:?}"), async || {
        let answer: Value = server.client()?.get("/readyz").send().await.ok()?.json().await.ok()?;
        let index = answer["checks"].as_array()?.iter().find(|check| check["name"] == "index")?;
        let is_red = answer["ready"] == false && index["ok"] == false;
        let detail = index["detail"].as_str()?;
        (is_red && reasons.iter().any(|reason| detail.contains(reason))).then_some(())
    })
    .await;
}

async fn completeness(server: &Server, done: impl Fn(&Value) -> bool) -> Value {
    eventually("the completeness that is expected", async || {
        let answer = server.call().json("/v1/completeness").await;
        done(&answer).then_some(answer)
    })
    .await
}

/// Partition and bounds of each gap.
fn ranges<'a>(gaps: impl Iterator<Item = &'a Value>) -> Vec<[Option<u64>; 3]> {
    gaps.map(|gap| ["partition", "first", "last"].map(|member| gap[member].as_u64())).collect()
}

fn names(answer: &Value, what: &str) -> bool {
    let gaps = answer["gaps"].as_array().unwrap();
    gaps.iter().any(|gap| gap["partition"].is_u64() && gap["reason"].as_str().unwrap().contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_the_service_is_named_and_the_index_made_anew() {
    let place = Place::new().await;
    let mut server = place.server("intake,recorder,indexer,query");
    server.run().await;
    post(&server, "before", 20).await;
    server.call().until_count("cluster:loss", 20).await;
    place.until_recorded(20).await;

    let holds = place.hold().await;
    delete_topic(&admin(&place.kafka), &place.topic).await;
    place.log().await;
    until_index_is_red(&server, MADE_ANEW).await;
    // The need is kept with the index.
    server.kill();
    server.forget_address();
    server.spawn();
    until_index_is_red(&server, MADE_ANEW).await;
    post(&server, "meanwhile", 5).await;
    drop(holds);
    server.ready().await;
    place.agree(&server, 25).await;
    completeness(&server, |answer| names(answer, "was replaced by")).await;

    post(&server, "after", 10).await;
    server.call().until_count("cluster:loss", 35).await;
    place.agree(&server, 35).await;
    server.call().until_count("kind:pipeline event.type:log_recreated", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_the_recorder_alone_read_in_time_comes_to_the_index_from_the_ledger() {
    let place = Place::new().await;
    let (mut intake, mut query) = (place.server("intake,recorder"), place.server("indexer,query"));
    intake.run().await;
    query.run().await;
    post(&intake, "before", 10).await;
    query.call().until_count("cluster:loss", 10).await;

    assert!(query.stop().await.success());
    post(&intake, "unread", 20).await;
    place.until_recorded(30).await;
    place.remove_everything_from_the_topic(&place.log().await).await;
    let holds = place.hold().await;
    query.forget_address();
    query.spawn();
    until_index_is_red(&query, &["retention removed"]).await;
    drop(holds);
    query.ready().await;
    place.agree(&query, 30).await;
    let answer = query.call().json("/v1/completeness").await;
    assert_eq!(answer["complete"], true, "the ledger lacks nothing: {answer}");
    post(&intake, "after", 5).await;
    query.call().until_count("cluster:loss", 35).await;
    place.agree(&query, 35).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_nobody_read_in_time_is_a_hole_with_its_reason() {
    let place = Place::new().await;
    let (mut intake, mut reads) = (place.server("intake"), place.server("recorder,indexer,query"));
    intake.run().await;
    reads.run().await;
    post(&intake, "before", 10).await;
    reads.call().until_count("cluster:loss", 10).await;
    place.until_recorded(10).await;

    assert!(reads.stop().await.success());
    let log = place.log().await;
    let given = place.given(&log).await;
    post(&intake, "unread", 20).await;
    eventually("the topic has them", async || (place.given(&log).await >= given + 20).then_some(())).await;
    place.remove_everything_from_the_topic(&log).await;
    post(&intake, "after", 5).await;
    let holds = place.hold().await;
    reads.forget_address();
    reads.spawn();
    until_index_is_red(&reads, &["retention removed"]).await;
    drop(holds);
    reads.ready().await;
    place.agree(&reads, 15).await;
    let answer =
        completeness(&reads, |answer| answer["complete"] == false && names(answer, "retention removed"))
            .await;
    let mut lost = ranges(answer["gaps"].as_array().unwrap().iter());
    assert!(!lost.is_empty(), "{answer}");
    reads.call().until_count("kind:pipeline event.type:gap", lost.len() as u64).await;
    let page = reads.call().json("/v1/events?q=kind:pipeline%20event.type:gap&limit=100").await;
    let mut told = ranges(page["items"].as_array().unwrap().iter().map(|item| &item["event"]["gap"]));
    lost.sort();
    told.sort();
    assert_eq!(told, lost, "each is told once");
    let holes = answer["boots"].as_array().unwrap().iter().filter_map(|boot| boot["holes"].as_array());
    let missing: u64 = holes
        .flatten()
        .map(|hole| 1 + hole["last"].as_u64().unwrap() - hole["first"].as_u64().unwrap())
        .sum();
    assert!(missing >= 20, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_the_indexer_alone_read_in_time_is_found_no_more() {
    let place = Place::new().await;
    let (mut intake, mut recorder) = (place.server("intake"), place.server("recorder"));
    let mut query = place.server("indexer,query");
    intake.run().await;
    recorder.run().await;
    query.run().await;
    post(&intake, "before", 10).await;
    query.call().until_count("cluster:loss", 10).await;
    place.until_recorded(10).await;

    assert!(recorder.stop().await.success());
    post(&intake, "unread", 20).await;
    query.call().until_count("cluster:loss", 30).await;
    place.remove_everything_from_the_topic(&place.log().await).await;
    recorder.run().await;
    query.call().until_count("cluster:loss", 10).await;
    query.ready().await;
    assert!(query.log().contains("the ledger does not have what may be in the index"), "{}", query.log());
    place.agree(&query, 10).await;
    // What follows shows that something is missing before it.
    post(&intake, "after", 5).await;
    place.agree(&query, 15).await;
    completeness(&query, |answer| answer["complete"] == false && names(answer, "retention removed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_journal_lost_is_in_neither_ledger_nor_index() {
    let mut server = Server::start(&[]).await;
    let url = format!("sqlite://{}", server.data().join("ledger.sqlite").display());
    let mut holds = SqliteConnection::connect(&url).await.unwrap();
    // The recorder gets no further than this, the indexer does.
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holds).await.unwrap();
    for name in ["first", "second", "third"] {
        post(&server, name, 5).await;
    }
    server.call().until_count("cluster:loss", 15).await;
    server.kill();
    drop(holds);

    let damaged = fs::read_dir(server.data().join("journal")).unwrap().any(|file| {
        let file = file.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.windows(8).position(|part| part == b"second-2");
        at.map(|at| {
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
        })
        .is_some()
    });
    assert!(damaged, "the journal has them");
    server.set_args(&["--accept-gap"]);
    server.forget_address();
    server.run().await;
    server.call().until_count("cluster:loss", 10).await;
    let found = eventually("all that is found is shown", async || found(&server).await).await;
    assert_eq!(found.len(), 10);
    let answer = completeness(&server, |answer| answer["complete"] == false).await;
    assert!(names(&answer, "damaged"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_journal_held_is_not_passed_over_in_silence() {
    let place = Place::new().await;
    let mut server = place.server("intake,recorder,indexer,query");
    server.run().await;
    post(&server, "first", 5).await;
    server.call().until_count("cluster:loss", 5).await;
    let whole = completeness(&server, |answer| answer["boots"][0]["count"].as_u64() >= Some(6)).await;
    assert_eq!(whole["complete"], true, "{whole}");
    server.kill();
    fs::remove_dir_all(server.data().join("journal")).unwrap();
    server.forget_address();
    server.run().await;
    let answer = completeness(&server, |answer| answer["complete"] == false).await;
    let (boots, reason) = (answer["boots"].as_array().unwrap(), "the journal was begun anew");
    let open = |boot: &Value| {
        let hole = &boot["holes"][0];
        hole["reason"].as_str().is_some_and(|told| told.contains(reason))
            && hole["first"].as_u64() == boot["last_seq"].as_u64().map(|last| last + 1)
    };
    let cut: Vec<_> = boots.iter().filter(|boot| open(boot)).collect();
    assert_eq!((cut.len(), &cut[0]["boot"]), (1, &whole["boots"][0]["boot"]), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_no_record_goes_to_the_dead_letters_and_the_event_behind_it_is_found() {
    let place = Place { partitions: 1, ..Place::new().await };
    let mut server = place.server("intake,recorder,indexer,query");
    server.run().await;
    post(&server, "before", 1).await;
    place.until_recorded(1).await;
    produce_raw(&place.kafka, &place.topic, None, b"not ours").await;
    post(&server, "behind", 1).await;
    server.call().until_count("cluster:loss", 2).await;
    place.agree(&server, 2).await;

    let letters = dead_letters(&place.kafka, &place.options().dead_letter(), 1).await;
    let letter = &letters[0];
    assert_eq!((&*letter.value, &letter.headers["muniment-partition"]), (&b"not ours"[..], &"0".to_owned()));
    let reason = &letter.headers["muniment-reason"];
    assert!(reason.contains("no header muniment-envelope"), "{reason}");
    let answer = server.call().json("/v1/completeness").await;
    let [gap] = &answer["gaps"].as_array().unwrap()[..] else { panic!("{answer}") };
    let offset: u64 = letter.headers["muniment-offset"].parse().unwrap();
    assert_eq!(ranges([gap].into_iter()), [[Some(0), Some(offset), Some(offset)]]);
    assert!(gap["reason"].as_str().unwrap().contains(reason.as_str()), "{gap}");
    assert_eq!(Figures::of(&server.call()).await.get("muniment_recorder_set_aside_total"), Some(1.0));
    assert!(server.stop().await.success());
}
