//! Clients that send events until each is acknowledged, as a webhook does, and a look at what became of them.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::{Caller, PATIENCE, eventually};

/// Between two tries to send a batch.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

/// Events in one request.
pub(crate) const BATCH: u64 = 20;

/// Clusters that the events speak of, in turn.
const CLUSTERS: u64 = 8;

/// The current time as events carry it.
pub(crate) fn now() -> String {
    let micros = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
    format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap())
}

/// An event of its own for each number.
pub(crate) fn event(number: u64, time: &str) -> Value {
    json!({
        "level": "Metadata", "auditID": format!("load-{number}"), "stage": "ResponseComplete", "verb": "update",
        "requestURI": format!("/api/v1/namespaces/shop/configmaps/c{number}"),
        "user": { "username": "carla", "groups": ["system:authenticated"] }, "sourceIPs": ["10.0.0.7"],
        "objectRef": { "resource": "configmaps", "namespace": "shop", "name": format!("c{number}"), "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": time, "stageTimestamp": time,
    })
}

/// The body of a webhook batch.
pub(crate) fn list(items: Vec<Value>) -> Vec<u8> {
    let list =
        json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items });
    serde_json::to_vec(&list).unwrap()
}

/// Senders that share a server, which may come and go, and what was acknowledged to them.
#[derive(Clone, Default)]
pub(crate) struct Load {
    caller: Arc<Mutex<Option<Caller>>>,
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    done: Arc<AtomicBool>,
}

impl Load {
    /// Finds the clusters that the events speak of: several, so that every partition has some of them.
    const QUERY: &'static str = "cluster:load-*";

    /// Starts this many senders; they end after [`Load::stop`], when the last batch is acknowledged.
    pub(crate) fn start(&self, senders: usize) -> Vec<tokio::task::JoinHandle<()>> {
        (0..senders).map(|_| tokio::spawn(self.clone().send())).collect()
    }

    /// Where to send from now on; nowhere for a while when nothing is given.
    pub(crate) fn send_to(&self, caller: Option<Caller>) {
        *self.caller.lock().unwrap() = caller;
    }

    /// Lets the senders end.
    pub(crate) fn stop(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    /// How many events were acknowledged.
    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.lock().unwrap().len() as u64
    }

    /// Waits until more than `count` events are acknowledged.
    pub(crate) async fn beyond(&self, count: u64) {
        eventually(&format!("more than {count} acknowledged"), async || (self.count() > count).then_some(()))
            .await;
    }

    async fn send(self) {
        while !self.done.load(Ordering::SeqCst) {
            let first = self.next.fetch_add(BATCH, Ordering::SeqCst);
            let time = now();
            let items: Vec<_> = (first..first + BATCH).map(|n| event(n, &time)).collect();
            let ids: Vec<_> = items.iter().map(|item| item["auditID"].as_str().unwrap().to_owned()).collect();
            let body = list(items);
            let begun = Instant::now();
            let cluster = format!("load-{}", first / BATCH % CLUSTERS);
            while !self.acknowledged(&cluster, &body).await {
                assert!(begun.elapsed() < PATIENCE, "no acknowledgement within {PATIENCE:?}");
                tokio::time::sleep(AGAIN).await;
            }
            self.acknowledged.lock().unwrap().extend(ids);
        }
    }

    async fn acknowledged(&self, cluster: &str, body: &[u8]) -> bool {
        let caller = self.caller.lock().unwrap().clone();
        let Some(caller) = caller else { return false };
        let path = format!("/v1/intake/audit/{cluster}");
        match caller.request(Method::POST, &path).body(body.to_vec()).send().await {
            // The head of an answer that a kill cut off is no acknowledgement.
            Ok(response) if response.status() == StatusCode::OK => response.bytes().await.is_ok(),
            Ok(response) => {
                let status = response.status();
                let retry = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
                assert!(retry.contains(&status), "{status}");
                false
            }
            Err(_) => false,
        }
    }

    /// Waits until everything acknowledged is found, and fails when anything is found twice or there is more.
    pub(crate) async fn is_there_once(&self, caller: &Caller) {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        caller.until_count(Self::QUERY, acknowledged.len() as u64).await;
        let found = found(caller, Self::QUERY).await;
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times != 1).take(5).collect();
        assert!(twice.is_empty(), "found more than once: {twice:?}");
        let missing: Vec<_> = acknowledged.iter().filter(|id| !found.contains_key(*id)).take(5).collect();
        assert!(missing.is_empty(), "acknowledged and not found: {missing:?}");
        assert_eq!(found.len(), acknowledged.len(), "more than was sent");
    }
}

/// A page of the events that match, once the ledger has all of them: the index may be ahead of it, and says so.
pub(crate) async fn page(caller: &Caller, query: &str, cursor: &str) -> Value {
    eventually(&format!("a whole page for {query:?}"), async || {
        let request = caller.get("/v1/events").query(&[("q", query), ("limit", "1000"), ("cursor", cursor)]);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(page["items"].is_array(), "{page}");
        (page["partial"] != json!(true)).then_some(page)
    })
    .await
}

/// How often each audit id is among the events that match, read page by page.
async fn found(caller: &Caller, query: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = page(caller, query, cursor.as_deref().unwrap_or_default()).await;
        for item in page["items"].as_array().unwrap_or_else(|| panic!("{page}")) {
            *found.entry(item["event"]["auditID"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return found,
        }
    }
}

/// Fails when a number of any boot is missing.
pub(crate) async fn no_holes(caller: &Caller) {
    let report = caller.json("/v1/completeness").await;
    assert_eq!(report["complete"], json!(true), "{report}");
}
