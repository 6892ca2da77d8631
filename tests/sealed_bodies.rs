//! Bodies are sealed before the journal: what is planted in one reaches no file, topic, ledger or index in the clear, is
//! read by whoever may, and is gone for good once the key of its day was dropped.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use engines::{Own, unique};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, ago, eventually};

/// What stands in bodies, once for each day.
const SHREDDED: &str = "planted-in-a-body-that-is-shredded";
const KEPT: &str = "planted-in-a-body-that-is-kept";
/// What stands beside them in the clear.
const OPEN: &str = "stays-in-the-clear";
const DAY: Duration = Duration::from_secs(24 * 3_600);

const KEY1: &str = "{name: key1, secret: b2xkb2xkb2xkb2xkb2xkbw==}";
const KEY2: &str = "{name: key2, secret: bmV3bmV3bmV3bmV3bmV3bg==}";

fn config(folder: &Path, keys: &str) -> PathBuf {
    let file = folder.join("enc.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [events.muniment.io]\n  providers: [{{aesgcm: {{keys: [{keys}]}}}}]\n\
         - resources: ['*.*']\n  providers: [{{identity: {{}}}}]\n"
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// An event of that long ago with both bodies.
fn event(id: &str, age: Duration, planted: &str) -> Value {
    let at = ago(age);
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": id,
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/configmaps", "verb": "create",
        "user": { "username": OPEN },
        "objectRef": { "resource": "configmaps", "namespace": "shop", "name": OPEN, "apiVersion": "v1" },
        "requestReceivedTimestamp": at, "stageTimestamp": at,
        "requestObject": { "kind": "ConfigMap", "apiVersion": "v1", "data": { "a": format!("{planted}-request"), "b": OPEN } },
        "responseObject": { "kind": "ConfigMap", "apiVersion": "v1", "data": { "a": format!("{planted}-response") } },
    })
}

fn two_days() -> Vec<Value> {
    vec![event("shredded", DAY, SHREDDED), event("kept", Duration::ZERO, KEPT)]
}

fn list(events: &[Value]) -> String {
    json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events }).to_string()
}

async fn send(caller: &Caller, events: &[Value]) {
    let response = caller.post("shop", list(events)).await;
    let status = response.status();
    assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// Nothing below a folder holds one of the texts; whether something holds what stands in the clear.
fn scan_files(folder: &Path, planted: &[&str]) -> bool {
    let mut is_open = false;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            is_open |= scan_files(&path, planted);
        } else if let Ok(bytes) = fs::read(&path) {
            for text in planted {
                assert!(!contains(&bytes, text), "{text} is in {}", path.display());
            }
            is_open |= contains(&bytes, OPEN);
        }
    }
    is_open
}

fn scan_topic(kafka: &str, topic: &str) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", "scan").create().unwrap();
    let timeout = Duration::from_secs(60);
    let metadata = consumer.fetch_metadata(Some(topic), timeout).unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), timeout).unwrap();
        left += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut is_open = false;
    while left > 0 {
        let message = consumer.poll(timeout).expect("a message within the time given").unwrap();
        let bytes = message.payload().unwrap();
        assert!(!contains(bytes, SHREDDED) && !contains(bytes, KEPT), "{}", String::from_utf8_lossy(bytes));
        is_open |= contains(bytes, OPEN);
        left -= 1;
    }
    assert!(is_open, "what stands in the clear is not in the topic");
}

/// The id of the one event under an audit id.
async fn id_of(caller: &Caller, audit_id: &str) -> String {
    let query = format!("cluster:shop audit_id:={audit_id}");
    caller.until_count(&query, 1).await;
    // With Kafka the indexer may be ahead of the recorder.
    let page = eventually("the ledger has what the index found", async || {
        let page = caller.get("/v1/events").query(&[("q", &query)]).send().await.unwrap();
        let page: Value = page.json().await.unwrap();
        page["items"][0].is_object().then_some(page)
    })
    .await;
    let event = page["items"][0]["event"].to_string();
    assert!(!contains(event.as_bytes(), "planted"), "a page gives bodies as they are kept: {event}");
    page["items"][0]["id"].as_str().unwrap().to_owned()
}

async fn one(caller: &Caller, id: &str) -> Value {
    caller.json(&format!("/v1/events/{id}")).await["item"]["event"].clone()
}

async fn shred(server: &Server, age: Duration) {
    let day = ago(age)[..10].to_owned();
    let output = server.output(&["keys", "shred", "--day", &day]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What holds wherever the events are kept, up to the end of a day's bodies.
async fn from_sealing_to_shredding(server: &Server) {
    let caller = server.call();
    let events = two_days();
    send(&caller, &events).await;
    // The id is of the received bytes: what comes again is the same event, though it is sealed anew.
    send(&caller, &events).await;
    caller.until_count("cluster:shop", 2).await;
    let (shredded, kept) = (id_of(&caller, "shredded").await, id_of(&caller, "kept").await);
    assert_eq!(one(&caller, &shredded).await, events[0]);
    assert_eq!(one(&caller, &kept).await, events[1]);
    let raw = caller.get(&format!("/v1/events/{kept}?raw=1")).send().await.unwrap();
    assert_eq!(raw.bytes().await.unwrap(), events[1].to_string().as_bytes());
    for text in [SHREDDED, KEPT] {
        assert_eq!(caller.count(&format!("\"{text}-request\"")).await, 0, "{text} is found");
    }
    assert_eq!(caller.count(&format!("user:{OPEN} verb:create name:{OPEN}")).await, 2);

    let today = ago(Duration::ZERO)[..10].to_owned();
    let refused = caller.request(Method::DELETE, &format!("/v1/keys/days/{today}")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let unknown = caller.request(Method::DELETE, "/v1/keys/days/2020-01-01").send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    shred(server, DAY).await;
    gone(&caller, &shredded, &events[0]).await;
    assert_eq!(one(&caller, &kept).await, events[1]);
    caller.until_count("event.type:bodies_shredded", 1).await;

    // What comes later for that day is not kept either.
    send(&caller, &[event("late", DAY, SHREDDED)]).await;
    let late = id_of(&caller, "late").await;
    gone(&caller, &late, &event("late", DAY, SHREDDED)).await;
}

/// The event is as it was, but for its bodies.
async fn gone(caller: &Caller, id: &str, event: &Value) {
    let mut now = one(caller, id).await;
    for body in ["requestObject", "responseObject"] {
        let marker = now[body].take();
        assert!(marker["$sealed"]["shredded"].is_string(), "{body}: {marker}");
        now[body] = event[body].clone();
    }
    // The late one has a time of its own.
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        now[time] = event[time].clone();
    }
    assert_eq!(&now, event);
}

/// The key of a shredded day, as it was kept.
async fn wrapped_key(server: &Server) -> String {
    let output = server.output(&["keys", "days", "--json"]).await;
    let days: Value = serde_json::from_slice(&output.stdout).unwrap();
    let yesterday = ago(DAY)[..10].to_owned();
    let day = days["days"].as_array().unwrap().iter().find(|day| day["day"] == yesterday.as_str()).unwrap();
    assert!(day["shredded_at"].is_string() && day["wrapped_by"].is_null(), "{day}");
    day["key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_left_in_the_embedded_engines_and_none_is_read_once_its_key_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), KEY1);
    let mut server = Server::start(&["--encryption-provider-config", file.to_str().unwrap()]).await;
    from_sealing_to_shredding(&server).await;
    wrapped_key(&server).await;
    server.kill();
    assert!(scan_files(&server.data(), &[SHREDDED, KEPT]), "what stands in the clear is in no file");

    // After a crash the keys are the same, though another one wraps them; then the old one may go.
    for keys in [format!("{KEY2}, {KEY1}"), KEY2.to_owned()] {
        config(folder.path(), &keys);
        server.run().await;
        let caller = server.call();
        let kept = id_of(&caller, "kept").await;
        assert!(contains(one(&caller, &kept).await.to_string().as_bytes(), KEPT));
        let shredded = id_of(&caller, "shredded").await;
        assert!(!contains(one(&caller, &shredded).await.to_string().as_bytes(), SHREDDED));
        eventually("every key is wrapped by the first one", async || {
            let days = caller.json("/v1/keys/days").await;
            let mut days = days["days"].as_array()?.clone();
            days.retain(|day| day["shredded_at"].is_null());
            days.iter().all(|day| day["wrapped_by"] == "aesgcm key2").then_some(())
        })
        .await;
        server.kill();
        server.forget_address();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_left_in_kafka_and_postgres_and_none_is_read_once_its_key_is_dropped() {
    let own = Own::start(&["kafka", "postgres"]);
    let (topic, folder) = (unique("sealed"), tempfile::tempdir().unwrap());
    let file = config(folder.path(), KEY1);
    let args = [
        "--kafka",
        own.kafka(),
        "--topic",
        &topic,
        "--postgres",
        own.postgres(),
        "--encryption-provider-config",
        file.to_str().unwrap(),
    ];
    let mut server = Server::start(&args).await;
    from_sealing_to_shredding(&server).await;
    wrapped_key(&server).await;
    scan_topic(own.kafka(), &topic);
    server.kill();
    assert!(scan_files(&server.data(), &[SHREDDED, KEPT]), "what stands in the clear is in no file of ours");
    own.stop(&["postgres", "kafka"]);
    assert!(scan_files(own.folder(), &[SHREDDED, KEPT]), "what stands in the clear is in no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_found_where_asked_for_and_until_their_key_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), KEY1);
    let args = ["--encryption-provider-config", file.to_str().unwrap(), "--index-bodies"];
    let mut server = Server::start(&args).await;
    let caller = server.call();
    send(&caller, &two_days()).await;
    let (shredded, kept) = (format!("\"{SHREDDED}-request\""), format!("\"{KEPT}-response\""));
    caller.until_count(&shredded, 1).await;
    caller.until_count(&kept, 1).await;
    shred(&server, DAY).await;
    caller.until_count(&shredded, 0).await;
    assert_eq!(caller.count(&kept).await, 1);
    eventually("the index is the new one alone", async || {
        (caller.json("/v1/rebuild").await["state"] == "done").then_some(())
    })
    .await;
    server.kill();
    scan_files(&server.data(), &[SHREDDED]);

    // Without the flag none is found, and with it those are that came before.
    server.set_args(&args[..2]);
    server.run().await;
    server.call().until_count(&kept, 0).await;
    server.kill();
    scan_files(&server.data(), &[SHREDDED, KEPT]);
    server.set_args(&args);
    server.run().await;
    server.call().until_count(&kept, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_get_bodies_open_and_no_file_of_the_folder_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), KEY1);
    let (log, policy) = (folder.path().join("audit.log"), folder.path().join("policy.yaml"));
    fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n")
        .unwrap();
    let args = [
        "--encryption-provider-config",
        file.to_str().unwrap(),
        "--audit-log-path",
        log.to_str().unwrap(),
        "--audit-policy-file",
        policy.to_str().unwrap(),
        "--controllers=-*",
    ];
    let mut server = Server::start(&args).await;
    // It is recorded and not stored.
    let request = server.call().request(Method::POST, "/api/v1/namespaces/default/configmaps?dryRun=All");
    let object = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": OPEN }, "data": { "a": KEPT } });
    let answer = request.header("audit-id", "planted").json(&object).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    eventually("the log has both bodies open", async || {
        let text = fs::read_to_string(&log).ok()?;
        let ended = text.lines().filter(|line| line.contains("ResponseComplete") && line.contains("planted"));
        ended.map(|line| line.matches(KEPT).count()).find(|count| *count == 2).map(|_| ())
    })
    .await;
    server.kill();
    assert!(scan_files(&server.data(), &[KEPT]), "what stands in the clear is in no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_nothing_would_encrypt_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("enc.yaml");
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
                - resources: [events.muniment.io]\n  providers: [{identity: {}}]\n";
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut server = Server::stopped(&["--encryption-provider-config", file.to_str().unwrap()]);
    server.spawn();
    assert!(!server.ended().await.success());
    let said = server.log();
    assert!(said.contains("resources[0].providers[0].identity"), "{said}");
}
