//! Quotas before the built binary's store: counted, charged, given back, and never overdrawn, whatever is killed.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/kubectl.rs"]
mod kubectl;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use engines::{etcd, unique};
use kubectl::{Kubectl, squeezed};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

const SHOP: &str = "/api/v1/namespaces/shop";

/// Who creates at the same time.
const CLIENTS: usize = 64;

/// What all of them together may have.
const PODS: usize = 96;

/// How long a charge of a process that may still run is held, and some: after a kill nobody else knows that it does not.
const RECOVERY: Duration = Duration::from_secs(150);

async fn send(caller: &Caller, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn make(caller: &Caller, path: &str, body: Value) -> Value {
    let (status, made) = send(caller, Method::POST, path, body).await;
    assert_eq!(status, StatusCode::CREATED, "{path}: {made}");
    made
}

/// A namespace whose Pods have their account.
async fn shop(caller: &Caller) {
    make(caller, "/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    eventually("the account", async || {
        let found = caller.get(&format!("{SHOP}/serviceaccounts/default")).send().await.unwrap();
        found.status().is_success().then_some(())
    })
    .await;
}

fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({ "name": "app", "image": "app:1", "resources": { "requests": { "cpu": cpu } } });
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": { "containers": [container] } })
}

fn quota(hard: Value) -> Value {
    json!({ "kind": "ResourceQuota", "apiVersion": "v1", "metadata": { "name": "q" }, "spec": { "hard": hard } })
}

async fn used(caller: &Caller) -> Value {
    caller.json(&format!("{SHOP}/resourcequotas/q")).await["status"]["used"].clone()
}

async fn until_used(caller: &Caller, expected: Value) {
    let mut last = Value::Null;
    let begun = Instant::now();
    while last != expected {
        assert!(begun.elapsed() < server::PATIENCE, "used is {last}, not {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = used(caller).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_what_is_there_and_refuses_what_is_too_much() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    shop(&caller).await;
    let pods = format!("{SHOP}/pods");
    make(&caller, &pods, pod("before", "1")).await;
    make(&caller, &format!("{SHOP}/resourcequotas"), quota(json!({ "pods": "3", "requests.cpu": "2" })))
        .await;
    // The next request waits for the count.
    make(&caller, &pods, pod("a", "500m")).await;
    assert_eq!(used(&caller).await, json!({ "pods": "2", "requests.cpu": "1500m" }));
    let (status, refused) = send(&caller, Method::POST, &pods, pod("b", "1")).await;
    assert_eq!(
        (status, refused["message"].as_str().unwrap()),
        (
            StatusCode::FORBIDDEN,
            "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, \
             limited: requests.cpu=2"
        )
    );
    let mut bare = pod("b", "1");
    bare["spec"]["containers"][0]["resources"] = json!({});
    let (status, refused) = send(&caller, Method::POST, &pods, bare).await;
    assert_eq!(
        (status, refused["message"].as_str().unwrap()),
        (
            StatusCode::FORBIDDEN,
            "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: app"
        )
    );
    // Nothing is charged for what is not stored: a taken name, a dry run.
    let (status, _) = send(&caller, Method::POST, &pods, pod("a", "500m")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = send(&caller, Method::POST, &format!("{pods}?dryRun=All"), pod("c", "500m")).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(used(&caller).await, json!({ "pods": "2", "requests.cpu": "1500m" }));
    if let Some(kubectl) = Kubectl::of(&server) {
        let lines = squeezed(&kubectl.out(&["describe", "quota", "q", "-n", "shop"]));
        assert!(lines.contains(&"pods 2 3".to_owned()), "{lines:?}");
        assert!(lines.contains(&"requests.cpu 1500m 2".to_owned()), "{lines:?}");
    }
    let (status, _) = send(&caller, Method::DELETE, &format!("{pods}/a"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    until_used(&caller, json!({ "pods": "1", "requests.cpu": "1" })).await;
    make(&caller, &pods, pod("b", "1")).await;
    // Other limits, other names.
    let path = format!("{SHOP}/resourcequotas/q");
    let mut wider = caller.json(&path).await;
    wider["spec"]["hard"] = json!({ "pods": "4", "count/configmaps": "9" });
    let (status, changed) = send(&caller, Method::PUT, &path, wider).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    until_used(&caller, json!({ "count/configmaps": "1", "pods": "2" })).await;
    let stored = caller.json(&path).await;
    assert_eq!(stored["status"]["hard"], json!({ "count/configmaps": "9", "pods": "4" }));
    make(&caller, &format!("{SHOP}/configmaps"), json!({ "metadata": { "name": "m" } })).await;
    until_used(&caller, json!({ "count/configmaps": "2", "pods": "2" })).await;
    // No trace is left of charges whose objects are there.
    eventually("no charges", async || {
        caller.json(&path).await["metadata"].get("annotations").is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_charged_for_what_is_more_and_a_deletion_that_waits_for_what_is_there() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    shop(&caller).await;
    let hard = json!({ "services": "2", "services.nodeports": "1" });
    make(&caller, &format!("{SHOP}/resourcequotas"), quota(hard)).await;
    let services = format!("{SHOP}/services");
    let service = |name: &str| json!({ "metadata": { "name": name, "finalizers": ["example.com/stays"] }, "spec": { "ports": [{ "port": 80 }] } });
    make(&caller, &services, service("a")).await;
    make(&caller, &services, service("b")).await;
    let patch = async |name: &str, patch: Value| {
        let request = caller.request(Method::PATCH, &format!("{services}/{name}"));
        let request = request.header("content-type", "application/merge-patch+json").body(patch.to_string());
        let response = request.send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let (status, changed) = patch("a", json!({ "spec": { "type": "NodePort" } })).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
    until_used(&caller, json!({ "services": "2", "services.nodeports": "1" })).await;
    let (status, refused) = patch("b", json!({ "spec": { "type": "NodePort" } })).await;
    assert_eq!(
        (status, refused["message"].as_str().unwrap()),
        (
            StatusCode::FORBIDDEN,
            "services \"b\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: \
             services.nodeports=1, limited: services.nodeports=1"
        )
    );
    let (status, _) = send(&caller, Method::DELETE, &format!("{services}/a"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(used(&caller).await["services"], "2", "its finalizer keeps it");
    let (status, _) = patch("a", json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(status, StatusCode::OK);
    until_used(&caller, json!({ "services": "1", "services.nodeports": "0" })).await;
    let (status, changed) = patch("b", json!({ "spec": { "type": "NodePort" } })).await;
    assert_eq!(status, StatusCode::OK, "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_and_kills_never_store_more_than_a_quota_and_in_the_end_all_of_it() {
    crowd(Server::start(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_do_they_in_etcd() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("quota")));
    crowd(Server::start(&["--etcd-servers", &servers, "--etcd-prefix", &prefix]).await).await;
}

/// What the clients share.
struct Crowd {
    caller: Mutex<Caller>,
    acknowledged: Mutex<BTreeSet<String>>,
    is_over: AtomicBool,
}

impl Crowd {
    fn caller(&self) -> Caller {
        self.caller.lock().unwrap().clone()
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Creates as many Pods as it can.
async fn client(crowd: Arc<Crowd>, number: usize) {
    let mut next = 0;
    while !crowd.is_over.load(Ordering::Relaxed) {
        let name = format!("pod-{number}-{next}");
        let request = crowd.caller().request(Method::POST, &format!("{SHOP}/pods"));
        let sent = request.timeout(Duration::from_secs(10)).json(&pod(&name, "1m")).send().await;
        match sent.map(|response| response.status()) {
            Ok(StatusCode::CREATED | StatusCode::CONFLICT) => {
                crowd.acknowledged.lock().unwrap().insert(name);
                next += 1;
            }
            // Too much for now, or nobody is there.
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn stored(caller: &Caller) -> BTreeSet<String> {
    let pods = caller.json(&format!("{SHOP}/pods")).await;
    let names = pods["items"].as_array().unwrap().iter();
    names.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn crowd(mut server: Server) {
    let caller = server.call();
    shop(&caller).await;
    make(&caller, &format!("{SHOP}/resourcequotas"), quota(json!({ "pods": PODS.to_string() }))).await;
    let crowd = Arc::new(Crowd {
        caller: Mutex::new(caller),
        acknowledged: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(client(crowd.clone(), number))).collect();
    for part in 1..=3 {
        eventually("more Pods", async || (crowd.acknowledged() >= PODS * part / 4).then_some(())).await;
        server.kill();
        server.forget_address();
        server.run().await;
        *crowd.caller.lock().unwrap() = server.call();
        assert!(stored(&server.call()).await.len() <= PODS);
    }
    let (caller, begun, whole) = (server.call(), Instant::now(), PODS.to_string());
    loop {
        let (names, quota) = (stored(&caller).await, used(&caller).await["pods"].clone());
        assert!(names.len() <= PODS, "{} Pods are stored", names.len());
        if names.len() == PODS && quota.as_str() == Some(whole.as_str()) {
            break;
        }
        assert!(begun.elapsed() < RECOVERY, "{} Pods are stored, and {quota} are used", names.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    crowd.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let names = stored(&caller).await;
    assert_eq!(names.len(), PODS);
    assert!(crowd.acknowledged.lock().unwrap().is_subset(&names), "what was acknowledged is stored");
}
