//! The audit webhook against receivers that are dead, refuse, hang and recover, and against another Muniment.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/objects.rs"]
mod objects;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use objects::create;
use serde_json::{Value, json};
use server::{Caller, Server, eventually, muniment};
use tokio::sync::watch;

/// Nothing happens by itself, so that every event is a test's own.
const ALONE: &str = "--controllers=-*";

/// What a receiver does with a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Takes,
    Fails,
    Hangs,
}

/// Somebody whom events are posted to.
#[derive(Clone)]
struct Receiver {
    mood: watch::Sender<Mood>,
    posts: watch::Sender<usize>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn listen(at: std::net::TcpListener, mood: Mood) -> Self {
        let receiver =
            Self { mood: watch::Sender::new(mood), posts: watch::Sender::new(0), events: Arc::default() };
        at.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(at).unwrap();
        let router = Router::new().route("/audit", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// Waits until there was one more post than there were.
    async fn posted(&self) {
        let before = *self.posts.borrow();
        eventually("a post", async || (*self.posts.borrow() > before).then_some(())).await;
    }

    fn completed(&self) -> BTreeSet<String> {
        let events = self.events.lock().unwrap();
        let ended = events.iter().filter(|event| event["stage"] == "ResponseComplete");
        ended.map(|event| event["auditID"].as_str().unwrap().to_owned()).collect()
    }
}

async fn take(State(receiver): State<Receiver>, Json(list): Json<Value>) -> StatusCode {
    receiver.posts.send_modify(|posts| *posts += 1);
    let mood = *receiver.mood.borrow();
    match mood {
        Mood::Fails => return StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Hangs => {
            let _ = receiver.mood.subscribe().wait_for(|mood| *mood != Mood::Hangs).await;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        Mood::Takes => {}
    }
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    let items = list["items"].as_array().unwrap();
    assert!(!items.is_empty() && items.len() <= 400, "{}", items.len());
    receiver.events.lock().unwrap().extend(items.iter().cloned());
    StatusCode::OK
}

fn kubeconfig(folder: &Path, server: &str) -> PathBuf {
    let path = folder.join("webhook.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{server}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c}}}}]\ncurrent-context: x\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Creates some objects, each of which must be answered; their names.
async fn create_some(caller: &Caller, prefix: &str) -> BTreeSet<String> {
    let mut created = BTreeSet::new();
    for n in 0..10 {
        let name = format!("{prefix}-{n}");
        assert_eq!(create(caller, &name, "1").await, Some(StatusCode::CREATED), "{name}");
        created.insert(name);
    }
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_dead_fails_or_hangs_stops_no_request_and_gets_everything_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    // Closed at once: nobody is there at first.
    let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = kubeconfig(folder.path(), &format!("server: 'http://{address}/audit'"));
    let mut server = Server::start(&["--audit-webhook-config-file", config.to_str().unwrap(), ALONE]).await;
    let caller = server.call();
    let mut created = create_some(&caller, "dead").await;
    eventually("readiness names the webhook", async || {
        let readiness = caller.json("/readyz").await;
        let checks = readiness["checks"].as_array().unwrap();
        let output = checks.iter().find(|check| check["name"] == "audit-webhook").unwrap();
        assert_eq!((&readiness["ready"], &output["ok"]), (&json!(true), &json!(true)), "{readiness}");
        output["detail"].as_str().unwrap().contains("cannot be reached").then_some(())
    })
    .await;
    let at = eventually("the port is free", async || std::net::TcpListener::bind(address).ok()).await;
    let receiver = Receiver::listen(at, Mood::Fails);
    receiver.posted().await;
    created.extend(create_some(&caller, "failing").await);
    receiver.mood.send_replace(Mood::Hangs);
    receiver.posted().await;
    created.extend(create_some(&caller, "hanging").await);
    server.kill();
    server.forget_address();
    server.run().await;
    let caller = server.call();
    receiver.mood.send_replace(Mood::Takes);
    created.extend(create_some(&caller, "well").await);
    eventually("every event", async || created.is_subset(&receiver.completed()).then_some(())).await;
    assert!(server.stop().await.success());
}

/// The events of a cluster, by id and stage.
async fn events(caller: &Caller, cluster: &str) -> BTreeMap<(String, String), Value> {
    let answer =
        caller.json(&format!("/v1/events?q=cluster:{cluster}%20resource:(configmaps%20or%20secrets)")).await;
    let events = answer["items"].as_array().unwrap().iter().map(|item| item["event"].clone());
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events.map(|event| ((text(&event, "auditID"), text(&event, "stage")), event)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_muniment_gets_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = Server::start(&[ALONE]).await;
    let made = other.output(&["token", "create", "--intake", "prod", "--kubeconfig"]).await;
    let (config, policy) = (folder.path().join("webhook.yaml"), folder.path().join("policy.yaml"));
    fs::write(&config, made.stdout).unwrap();
    fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n")
        .unwrap();
    let args = [
        "--audit-webhook-config-file",
        config.to_str().unwrap(),
        "--audit-webhook-batch-max-size",
        "7",
        "--audit-policy-file",
        policy.to_str().unwrap(),
        ALONE,
    ];
    let mut server = Server::start(&args).await;
    let caller = server.call();
    create_some(&caller, "posted").await;
    let secret = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "db" }, "stringData": { "password": "hunter2" } });
    let request = caller.request(reqwest::Method::POST, "/api/v1/namespaces/default/secrets");
    assert_eq!(request.json(&secret).send().await.unwrap().status(), StatusCode::CREATED);
    caller.until_count("cluster:local resource:(configmaps or secrets)", 22).await;
    other.call().until_count("cluster:prod resource:(configmaps or secrets)", 22).await;
    let sent = events(&caller, "local").await;
    assert_eq!(sent.len(), 22);
    assert_eq!(events(&other.call(), "prod").await, sent);
    assert!(server.stop().await.success() && other.stop().await.success());
}

#[test]
fn a_kubeconfig_that_cannot_be_used_ends_the_start_with_the_field() {
    let folder = tempfile::tempdir().unwrap();
    for (server, expected) in [
        ("server: ''", "clusters[0].cluster.server: required"),
        ("sever: 'https://a'", "did you mean \"server\"?"),
        ("server: 'https://a', certificate-authority: gone.pem", "gone.pem"),
    ] {
        let config = kubeconfig(folder.path(), server);
        let mut command = muniment();
        command
            .args(["serve", "--bind-address", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path().join("data"));
        let output = command.arg("--audit-webhook-config-file").arg(config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.contains("--audit-webhook-config-file"), "{said}");
    }
}
