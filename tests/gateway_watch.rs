//! Watches of the built binary: a hundred at once see each of a thousand changes once and in order, and one that nobody
//! reads for long is told that it fell behind, or has missed nothing.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::time::{Duration, Instant};

use engines::{etcd, unique};
use futures::future::join_all;
use reqwest::{Certificate, Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, PATIENCE, Server};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Clients that watch at once, and how many of them share a connection.
const WATCHERS: usize = 100;
const ON_ONE_CONNECTION: usize = 25;

/// Writers at once, and what each does: each of its objects is made and changed so often.
const WRITERS: usize = 8;
const OBJECTS: usize = 25;
const WRITES_OF_AN_OBJECT: usize = 5;

/// More than is kept for those who are late, whatever waits between the two.
const LARGE_WRITES: usize = 1_000;
const LARGE_BYTES: usize = 100 * 1024;

/// How long nobody reads at least: thrice what the store of etcd waits for a reader.
const LATE: Duration = Duration::from_secs(15);

/// A change as both sides know it: revision, name, and the value it was given.
type Seen = (u64, String, String);

fn seen(object: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let revision = text(&object["metadata"]["resourceVersion"]).parse().unwrap();
    (revision, text(&object["metadata"]["name"]), text(&object["data"]["n"]))
}

/// A client with a connection of its own.
fn connect(server: &Server) -> Caller {
    let authority = Certificate::from_pem(&std::fs::read(server.data().join("ca.pem")).unwrap()).unwrap();
    server.call().with_http(reqwest::Client::builder().tls_certs_only([authority]).build().unwrap())
}

/// Sends an object, and gives what became of it.
async fn write(caller: &Caller, method: Method, path: &str, object: Value) -> Seen {
    let response = caller.request(method, path).json(&object).send().await.unwrap();
    let (status, answer) = (response.status(), response.json::<Value>().await.unwrap());
    assert!(status.is_success(), "{path}: {answer}");
    seen(&answer)
}

/// What one writer does, and each change that it made.
async fn work(caller: Caller, writer: usize) -> Vec<Seen> {
    let mut done = Vec::new();
    for n in 0..OBJECTS {
        let name = format!("w{writer}-{n}");
        let object = |value: usize| json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "n": value.to_string() } });
        done.push(write(&caller, Method::POST, CONFIG_MAPS, object(0)).await);
        for value in 1..WRITES_OF_AN_OBJECT {
            let path = format!("{CONFIG_MAPS}/{name}");
            done.push(write(&caller, Method::PUT, &path, object(value)).await);
        }
    }
    done
}

async fn begin(caller: &Caller) -> Response {
    let now = caller.json(CONFIG_MAPS).await;
    let revision = now["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}");
    let response = caller.get(&path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response
}

/// The lines of a watch.
struct Lines {
    response: Response,
    rest: Vec<u8>,
}

impl Lines {
    fn of(response: Response) -> Self {
        Self { response, rest: Vec::new() }
    }

    /// The next one; nothing where the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("a watch that falls silent is lost").unwrap()?;
            self.rest.extend_from_slice(&chunk);
        }
    }
}

async fn each_change_once_and_in_order(server: &Server) {
    let mut watches = Vec::new();
    for _ in 0..WATCHERS / ON_ONE_CONNECTION {
        let caller = connect(server);
        let opened = join_all((0..ON_ONE_CONNECTION).map(|_| begin(&caller))).await;
        watches.extend(opened.into_iter().map(Lines::of));
    }
    let count = WRITERS * OBJECTS * WRITES_OF_AN_OBJECT;
    let watchers: Vec<_> = watches
        .into_iter()
        .map(|mut lines| {
            tokio::spawn(async move {
                let mut told = Vec::new();
                for _ in 0..count {
                    let event = lines.next().await.expect("the watch goes on");
                    assert!(matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")), "{event}");
                    told.push(seen(&event["object"]));
                }
                told
            })
        })
        .collect();
    let writers = (0..WRITERS).map(|writer| tokio::spawn(work(connect(server), writer)));
    let mut written: Vec<Seen> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    written.sort_unstable();
    assert_eq!(written.len(), count);
    for (n, watcher) in watchers.into_iter().enumerate() {
        let told = watcher.await.unwrap();
        let first = told.iter().zip(&written).position(|(told, written)| told != written);
        assert!(
            first.is_none(),
            "watcher {n} saw {:?} where {:?} was written",
            told[first.unwrap()],
            written[first.unwrap()]
        );
    }
}

/// The embedded store has its history at hand and may serve a late watcher from it; etcd's stream does not wait.
async fn who_falls_behind_is_told(server: &Server, may_catch_up: bool) {
    let caller = connect(server);
    let mut late = Lines::of(begin(&caller).await);
    let large = "x".repeat(LARGE_BYTES);
    let object = |value: usize| {
        let mut object = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "large" },
            "data": { "n": value.to_string() } });
        if value < LARGE_WRITES {
            object["data"]["large"] = large.as_str().into();
        }
        object
    };
    let writer = connect(server);
    let mut written = vec![write(&writer, Method::POST, CONFIG_MAPS, object(0)).await];
    let mut told = vec![seen(&late.next().await.unwrap()["object"])];
    // Nothing is read while this goes on.
    let begun = Instant::now();
    while written.len() < LARGE_WRITES || begun.elapsed() < LATE {
        let object = object(written.len());
        written.push(write(&writer, Method::PUT, &format!("{CONFIG_MAPS}/large"), object).await);
    }
    let error = loop {
        if told.len() == written.len() && may_catch_up {
            assert_eq!(told, written);
            return;
        }
        let event = late.next().await.expect("a watch that is behind does not just end");
        if event["type"] == "ERROR" {
            break event;
        }
        told.push(seen(&event["object"]));
    };
    let status = &error["object"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")), "{error}");
    assert_eq!(told, written[..told.len()], "what it saw before has no hole");
    assert!(late.next().await.is_none(), "and then it ends");
}

async fn both(args: &[&str], may_catch_up: bool) {
    let alone = ["--controllers=-*"];
    let server = Server::start(&[&alone[..], args].concat()).await;
    each_change_once_and_in_order(&server).await;
    who_falls_behind_is_told(&server, may_catch_up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_watchers_of_the_embedded_store_see_each_of_a_thousand_writes_once_and_in_order() {
    both(&[], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_watchers_of_etcd_see_each_of_a_thousand_writes_once_and_in_order() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("watch")));
    both(&["--etcd-servers", &servers, "--etcd-prefix", &prefix], false).await;
}
