//! `muniment search` while the ledger is behind the index: it waits, gives what comes, and says when it gave up.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use server::{Caller, Figures, Server, ago, event, eventually};
use sqlx::{Connection, SqliteConnection};

/// Done in part.
const INCOMPLETE: i32 = 3;

/// A server with the newest event in its ledger, and two older ones that are found and not there yet.
struct Behind {
    server: Server,
    holds: SqliteConnection,
}

impl Behind {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with flags.
    async fn with(flags: &[&str]) -> Self {
        let server = Server::start(flags).await;
        let caller = server.call();
        post(&server, "newest", Duration::from_secs(10)).await;
        eventually("the newest is in the ledger", async || {
            let page = caller.json("/v1/events?q=cluster:behind").await;
            (page["items"].as_array()?.len() == 1).then_some(())
        })
        .await;
        let url = format!("sqlite://{}", server.data().join("ledger.sqlite").display());
        let mut holds = SqliteConnection::connect(&url).await.unwrap();
        // The recorder gets no further than this, the indexer does.
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holds).await.unwrap();
        post(&server, "older", Duration::from_secs(20)).await;
        post(&server, "oldest", Duration::from_secs(30)).await;
        caller.until_count("cluster:behind", 3).await;
        Self { server, holds }
    }

    async fn let_the_ledger_go_on(self) -> Server {
        self.holds.close().await.unwrap();
        self.server
    }
}

async fn post(server: &Server, id: &str, age: Duration) {
    assert!(server.call().post("behind", event(id, &ago(age))).await.status().is_success());
}

fn ids(output: &Output) -> Vec<String> {
    output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(id).collect()
}

fn id(line: &[u8]) -> String {
    let item: Value = serde_json::from_slice(line).unwrap();
    item["event"]["auditID"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_gives_up_on_a_ledger_that_is_behind_says_so_and_its_exit_code_too() {
    let behind = Behind::start().await;
    let output = behind.server.output(&["search", "cluster:behind", "--json"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(INCOMPLETE), "{told}");
    assert_eq!(ids(&output), ["newest"]);
    assert!(told.contains("not in the ledger yet") && told.contains("ask again later"), "{told}");
    // What is asked for is all there: nothing is missing.
    let output = behind.server.output(&["search", "cluster:behind", "--json", "--limit", "1"]).await;
    assert_eq!((output.status.code(), ids(&output)), (Some(0), vec!["newest".to_owned()]), "{output:?}");
    let server = behind.let_the_ledger_go_on().await;
    let output = server.output(&["search", "cluster:behind", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ids(&output), ["newest", "older", "oldest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_waits_for_a_ledger_that_catches_up_and_gives_every_event_once() {
    let behind = Behind::start().await;
    let mut command = behind.server.command(&["search", "cluster:behind", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = Vec::new();
    lines.read_until(b'\n', &mut first).unwrap();
    assert_eq!(id(first.trim_ascii()), "newest", "what is there is given before the rest is waited for");
    let _server = behind.let_the_ledger_go_on().await;
    let mut rest = Vec::new();
    lines.read_to_end(&mut rest).unwrap();
    let output = Output { stdout: rest, ..child.wait_with_output().unwrap() };
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ids(&output), ["older", "oldest"]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The checks of readiness that do not hold.
async fn red(caller: &Caller) -> Vec<String> {
    let page: Value = caller.get("/readyz").send().await.unwrap().json().await.unwrap();
    let checks = page["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    checks.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

async fn until_red(caller: &Caller, names: &[&str]) {
    eventually(&format!("{names:?} are red"), async || (red(caller).await == names).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_a_recorder_that_is_further_behind_than_it_may_be() {
    let behind = Behind::with(&["--max-lag", "1s"]).await;
    let caller = behind.server.call();
    until_red(&caller, &["recorder-lag"]).await;
    let figures = Figures::of(&caller).await;
    assert!(figures.get("muniment_recorder_lag_records").unwrap() >= 2.0, "{figures:?}");
    assert!(figures.get("muniment_recorder_lag_seconds").unwrap() > 1.0, "{figures:?}");
    let _server = behind.let_the_ledger_go_on().await;
    until_red(&caller, &[]).await;
}

/// Every file of this name below `folder`.
fn named(folder: &Path, name: &str) -> Vec<File> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path {
            path if path.is_dir() => named(&path, name),
            path if path.ends_with(name) => vec![File::open(path).unwrap()],
            _ => Vec::new(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_an_indexer_that_is_further_behind_than_it_may_be() {
    let server = Server::start(&["--max-lag", "1s"]).await;
    let caller = server.call();
    post(&server, "before", Duration::ZERO).await;
    caller.until_count("cluster:behind", 1).await;
    // A commit waits for who has these locks.
    let locks = named(&server.data().join("index"), ".tantivy-meta.lock");
    assert!(!locks.is_empty());
    for lock in &locks {
        lock.lock().unwrap();
    }
    post(&server, "held", Duration::ZERO).await;
    until_red(&caller, &["indexer-lag"]).await;
    let figures = Figures::of(&caller).await;
    assert!(figures.get("muniment_index_lag_records").unwrap() >= 1.0, "{figures:?}");
    assert!(figures.get("muniment_index_lag_seconds").unwrap() > 1.0, "{figures:?}");
    drop(locks);
    until_red(&caller, &[]).await;
    caller.until_count("cluster:behind", 2).await;
}
