//! etcd stands still under load, then dies and comes back: requests are answered in bounded time, by themselves well
//! again afterwards, and what was refused was not written.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use engines::Own;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, PATIENCE, Server, eventually};

const WRITERS: u64 = 6;
const READERS: u64 = 3;
/// Refusals and successes of each kind that every phase waits for.
const ENOUGH: u64 = 20;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(5);

const PATH: &str = "/api/v1/namespaces/shop/configmaps";

/// What the clients were told.
#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    writes: AtomicU64,
    reads: AtomicU64,
    refused_writes: AtomicU64,
    refused_reads: AtomicU64,
    /// The status of each creation by name.
    created: Mutex<BTreeMap<String, StatusCode>>,
}

impl Told {
    async fn write(&self, caller: &Caller, writer: u64) {
        for number in 0.. {
            let name = format!("w{writer}-{number}");
            let body = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name } });
            let answer = ask(caller.request(Method::POST, PATH).json(&body)).await;
            self.count(&answer, StatusCode::CREATED, &self.writes, &self.refused_writes);
            self.created.lock().unwrap().insert(name, answer.0);
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(&self, caller: &Caller) {
        while !self.is_over.load(Ordering::SeqCst) {
            let answer = ask(caller.get("/api/v1/namespaces/shop")).await;
            self.count(&answer, StatusCode::OK, &self.reads, &self.refused_reads);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is no success is a Status: 503, or 504 for a write of which nobody knows whether it happened.
    fn count(
        &self,
        (status, body): &(StatusCode, Value),
        good: StatusCode,
        well: &AtomicU64,
        refused: &AtomicU64,
    ) {
        if *status == good {
            well.fetch_add(1, Ordering::SeqCst);
            return;
        }
        assert_eq!((&body["kind"], &body["code"]), (&json!("Status"), &json!(status.as_u16())), "{body}");
        match *status {
            StatusCode::SERVICE_UNAVAILABLE => assert_eq!(body["reason"], "ServiceUnavailable", "{body}"),
            StatusCode::GATEWAY_TIMEOUT => {
                assert_eq!((body["reason"].as_str(), good), (Some("Timeout"), StatusCode::CREATED), "{body}")
            }
            _ => panic!("{body}"),
        }
        refused.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until each kind of request was answered so often once more, with success or with refusal.
    async fn until(&self, what: &str, counters: [&AtomicU64; 2]) {
        let before = counters.map(|counter| counter.load(Ordering::SeqCst));
        eventually(what, async || {
            let is_enough = counters
                .iter()
                .zip(before)
                .all(|(counter, before)| counter.load(Ordering::SeqCst) >= before + ENOUGH);
            is_enough.then_some(())
        })
        .await;
    }
}

/// An answer, which comes whatever happens.
async fn ask(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_while_etcd_is_away_and_nothing_is_half_written() {
    let mut own = Own::start(&["etcd"]);
    let mut server = Server::start(&["--etcd-servers", own.etcd(), "--controllers=-*"]).await;
    let caller = server.call();
    let namespace = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "shop" } });
    let (status, made) = ask(caller.request(Method::POST, "/api/v1/namespaces").json(&namespace)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");

    let told = Arc::new(Told::default());
    let mut clients = Vec::new();
    for writer in 0..WRITERS {
        let (told, caller) = (told.clone(), caller.clone());
        clients.push(tokio::spawn(async move { told.write(&caller, writer).await }));
    }
    for _ in 0..READERS {
        let (told, caller) = (told.clone(), caller.clone());
        clients.push(tokio::spawn(async move { told.read(&caller).await }));
    }
    told.until("work before", [&told.writes, &told.reads]).await;

    own.pause("etcd");
    told.until("refusals while etcd stands still", [&told.refused_writes, &told.refused_reads]).await;
    own.unpause("etcd");
    told.until("work after etcd stood still", [&told.writes, &told.reads]).await;

    own.kill("etcd");
    told.until("refusals while there is no etcd", [&told.refused_writes, &told.refused_reads]).await;
    own.begin_again(&["etcd"]);
    told.until("work after etcd was killed", [&told.writes, &told.reads]).await;

    told.is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let list = caller.json(PATH).await;
    let stored: BTreeSet<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    for (name, status) in told.created.lock().unwrap().iter() {
        let is_stored = stored.contains(name);
        match *status {
            StatusCode::CREATED => assert!(is_stored, "{name} was answered and is gone"),
            StatusCode::GATEWAY_TIMEOUT => {}
            _ => assert!(!is_stored, "{name} was answered with {status} and is there"),
        }
    }
    // Every request was recorded with both stages, whatever became of it.
    let asked = told.created.lock().unwrap().len() as u64;
    for stage in ["RequestReceived", "ResponseComplete"] {
        let query = format!("cluster:local resource:configmaps verb:create stage:{stage}");
        caller.until_count(&query, asked).await;
    }
    assert!(server.stop().await.success());
}
