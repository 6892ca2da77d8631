//! The gateway's audit events outside of the pipeline: each answered request is there, and no output is in its way.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/mounted.rs"]
mod mounted;
#[path = "support/objects.rs"]
mod objects;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use engines::{Database, kafka, unique};
use mounted::Mounted;
use objects::create;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Server, eventually, muniment, skipped};
use tokio::task::JoinSet;

/// Nothing happens by itself, so that every event is a test's own.
const ALONE: &str = "--controllers=-*";
const MEBIBYTE: u64 = 1 << 20;

/// Records whole bodies, so that a few requests are many bytes.
const BODIES: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: RequestResponse\n  resources: [{group: '', resources: [configmaps]}]\n- level: None\n";

/// The events of a log and of those that it was rotated to; each line is one.
fn events(path: &Path) -> Vec<Value> {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(stem)).collect();
    files.sort();
    let texts = files.iter().map(|file| {
        let text = fs::read_to_string(file).unwrap();
        // A line that is being written has no end yet.
        text[..text.rfind('\n').map_or(0, |at| at + 1)].to_owned()
    });
    texts.flat_map(|text| text.lines().map(parsed).collect::<Vec<_>>()).collect()
}

fn parsed(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(
        (&event["kind"], &event["apiVersion"]),
        (&json!("Event"), &json!("audit.k8s.io/v1")),
        "{line}"
    );
    event
}

/// The audit ids of requests that ended.
fn completed(events: &[Value]) -> BTreeSet<String> {
    let ended = events.iter().filter(|event| event["stage"] == "ResponseComplete");
    ended.map(|event| event["auditID"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the log has the end of each of these requests.
async fn has_all(path: &Path, ids: &BTreeSet<String>) {
    eventually("the log has every answered request", async || {
        ids.is_subset(&completed(&events(path))).then_some(())
    })
    .await;
}

/// Clients create objects while the process is killed again and again.
async fn survives_kills(args: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/audit.log");
    let given = [&["--audit-log-path", path.to_str().unwrap(), ALONE], args].concat();
    let mut server = Server::stopped(&given);
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    for life in 0..8 {
        server.forget_address();
        server.spawn();
        let caller = server.answering().await;
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let (caller, answered) = (caller.clone(), answered.clone());
            clients.spawn(async move {
                for n in 0.. {
                    let id = format!("life{life}-client{client}-{n}");
                    match create(&caller, &id, "1").await {
                        Some(StatusCode::CREATED) => answered.lock().unwrap().insert(id),
                        Some(_) => false,
                        None => return,
                    };
                }
            });
        }
        let before = answered.lock().unwrap().len();
        eventually("requests are answered", async || {
            (answered.lock().unwrap().len() > before + 20).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(37 * life)).await;
        server.kill();
        clients.join_all().await;
    }
    server.forget_address();
    server.run().await;
    let answered = answered.lock().unwrap().clone();
    assert!(answered.len() > 160, "{}", answered.len());
    has_all(&path, &answered).await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_audit_log_after_kills_on_the_embedded_engines() {
    survives_kills(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_audit_log_after_kills_on_kafka_and_postgres() {
    let database = Database::create().await;
    let (topic, url) = (unique("outputs"), database.url());
    survives_kills(&["--kafka", &kafka(), "--topic", &topic, "--postgres", &url]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_the_events_of_the_pipeline_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (path, policy) = (folder.path().join("audit.log"), folder.path().join("policy.yaml"));
    fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n")
        .unwrap();
    let args =
        ["--audit-log-path", path.to_str().unwrap(), "--audit-policy-file", policy.to_str().unwrap(), ALONE];
    let mut server = Server::start(&args).await;
    let caller = server.call();
    let secret = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "db" }, "stringData": { "password": "hunter2" } });
    let request =
        caller.request(Method::POST, "/api/v1/namespaces/default/secrets").header("audit-id", "secret");
    assert_eq!(request.json(&secret).send().await.unwrap().status(), StatusCode::CREATED);
    has_all(&path, &["secret".to_owned()].into()).await;
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("$redacted") && !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
        "{text}"
    );
    caller.until_count("cluster:local audit_id:secret", 2).await;
    let kept = caller.json("/v1/events?q=audit_id:secret").await;
    let kept: BTreeSet<String> =
        kept["items"].as_array().unwrap().iter().map(|item| item["event"].to_string()).collect();
    let logged = events(&path).into_iter().filter(|event| event["auditID"] == "secret");
    assert_eq!(logged.map(|event| event.to_string()).collect::<BTreeSet<_>>(), kept);
    assert!(server.stop().await.success());
}

/// A process that ends with the test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_events_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&[ALONE]).await;
    assert!(server.stop().await.success());
    let out = folder.path().join("out");
    let mut command = muniment();
    command.args(["serve", "--bind-address", "127.0.0.1:0", "--audit-log-path=-", ALONE, "--data-dir"]);
    command.arg(server.data()).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _ended = Ended(command.stdout(fs::File::create(&out).unwrap()).spawn().unwrap());
    let caller = server.answering().await;
    let created = eventually("an answer", async || create(&caller, "one", "1").await).await;
    assert_eq!(created, StatusCode::CREATED);
    has_all(&out, &["one".to_owned()].into()).await;
}

/// Runs `serve` with flags that it must refuse; what it says.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = muniment();
    command.args(["serve", "--bind-address", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    let output = command.args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_audit_log_that_cannot_be_written_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, said) = refused(&["--audit-log-path", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--audit-log-path") && said.contains(path) && said.contains("directory"), "{said}");
    let log = folder.path().join("audit.log");
    let (code, said) = refused(&[
        "--audit-log-path",
        log.to_str().unwrap(),
        "--roles",
        "intake",
        "--kafka",
        "x:1",
        "--postgres",
        "postgres://x",
    ]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("role gateway"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_stops_no_request_and_its_gap_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(folder.path(), 16 * MEBIBYTE) else {
        return skipped("no file system can be mounted");
    };
    let data = tempfile::tempdir().unwrap();
    let policy = data.path().join("policy.yaml");
    fs::write(&policy, BODIES).unwrap();
    let (ballast, path) = (mounted.0.join("ballast"), mounted.0.join("audit.log"));
    fs::write(&ballast, vec![1; 15 * MEBIBYTE as usize]).unwrap();
    let args = [
        "--audit-log-path",
        path.to_str().unwrap(),
        "--audit-policy-file",
        policy.to_str().unwrap(),
        "--journal-max-bytes",
        "32MiB",
        "--audit-output-max-bytes",
        "5MiB",
        ALONE,
    ];
    let mut server = Server::start(&args).await;
    let caller = server.call();
    let large = "x".repeat(150_000);
    let mut sent = 0;
    let gap = "kind:pipeline event.type:output_gap";
    // Each request leaves twice its body and more.
    while caller.count(gap).await == 0 {
        let status = create(&caller, &format!("large-{sent}"), &large).await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "request {sent}");
        sent += 1;
        assert!(sent < 400, "no gap is recorded");
    }
    let readiness = caller.json("/readyz").await;
    let checks = readiness["checks"].as_array().unwrap();
    let output = checks.iter().find(|check| check["name"] == "audit-log").unwrap();
    assert_eq!((&readiness["ready"], &output["ok"]), (&json!(true), &json!(true)), "{readiness}");
    let detail = output["detail"].as_str().unwrap();
    assert!(detail.contains("failing for") && detail.contains("No space left"), "{detail}");
    let found = server.output(&["search", gap, "--json"]).await;
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("audit-log") && found.contains("could not keep it any longer"), "{found}");
    fs::remove_file(&ballast).unwrap();
    let mut number = 0;
    eventually("the log goes on", async || {
        number += 1;
        assert_eq!(create(&caller, &format!("small-{number}"), "1").await, Some(StatusCode::CREATED));
        completed(&events(&path)).iter().any(|id| id.starts_with("small-")).then_some(())
    })
    .await;
    assert!(server.stop().await.success());
}
