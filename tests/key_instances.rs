//! Instances that share an etcd say under which key they write: a rotation waits until all agree, says who does not,
//! and waits for nobody who is gone.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use engines::{etcd, unique};
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{Caller, Server, eventually};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const OLD: &str = "{name: old, secret: b2xkb2xkb2xkb2xkb2xkbw==}";
const NEW: &str = "{name: new, secret: bmV3bmV3bmV3bmV3bmV3bg==}";

fn write_config(file: &Path, keys: &[&str]) {
    let text = format!(
        "apiVersion: v1\nkind: EncryptionConfig\nresources:\n- resources: [secrets]\n  \
         providers: [{{aesgcm: {{keys: [{}]}}}}]\n",
        keys.join(", ")
    );
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn server(name: &str, prefix: &str, config: &Path) -> Server {
    Server::stopped(&[
        "--instance",
        name,
        "--etcd-servers",
        &etcd(),
        "--etcd-prefix",
        prefix,
        "--encryption-provider-config",
        &config.display().to_string(),
        "--encryption-provider-config-automatic-reload",
    ])
}

async fn create(caller: &Caller, name: &str) {
    let secret = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": name } });
    eventually("a secret", async || {
        let sent = caller.request(Method::POST, SECRETS).json(&secret).send().await.ok()?;
        matches!(sent.status(), StatusCode::CREATED | StatusCode::CONFLICT).then_some(())
    })
    .await;
}

/// How many secrets lie under which key.
async fn counts(caller: &Caller) -> Vec<(String, u64)> {
    let inventory = caller.json("/v1/keys").await;
    let keys = inventory["resources"][0]["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|k| (k["key"].as_str().unwrap().to_owned(), k["count"].as_u64().unwrap())).collect()
}

async fn until_status_says(server: &Server, line: &str) {
    eventually(line, async || {
        let output = server.output(&["keys", "status"]).await;
        String::from_utf8_lossy(&output.stdout).contains(line).then_some(())
    })
    .await;
}

async fn until_waiting(caller: &Caller, line: &str) {
    eventually(line, async || {
        let state = caller.json("/v1/keys/rotation").await;
        assert_ne!(state["state"], "done", "{state}");
        state["waits_for"].to_string().contains(line).then_some(())
    })
    .await;
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_until_every_instance_writes_under_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let files: [PathBuf; 2] = ["a.yaml", "b.yaml"].map(|name| folder.path().join(name));
    write_config(&files[0], &[NEW, OLD]);
    write_config(&files[1], &[OLD]);
    let prefix = format!("/{}", unique("instances"));
    let (mut a, mut b) = (server("a", &prefix, &files[0]), server("b", &prefix, &files[1]));
    a.run().await;
    b.run().await;
    let (at_a, at_b) = (a.call(), b.call());
    create(&at_b, "by-b").await;
    create(&at_a, "by-a").await;
    assert_eq!(counts(&at_a).await, [("new".to_owned(), 1), ("old".to_owned(), 1)]);
    until_status_says(
        &a,
        "secrets: b writes under aesgcm old and cannot read aesgcm new: add that one there",
    )
    .await;

    let rotate = a.command(&["keys", "rotate"]);
    let rotating = tokio::task::spawn_blocking(move || {
        let mut rotate = rotate;
        rotate.output().unwrap()
    });
    until_waiting(&at_a, "b writes secrets under aesgcm old (").await;
    write_config(&files[1], &[OLD, NEW]);
    until_status_says(
        &a,
        "secrets: b writes under aesgcm old and reads aesgcm new: give that one the first place",
    )
    .await;
    create(&at_b, "by-b-meanwhile").await;
    assert_eq!(
        counts(&at_a).await,
        [("new".to_owned(), 1), ("old".to_owned(), 2)],
        "nothing is written anew yet"
    );
    until_waiting(&at_a, "b writes secrets under aesgcm old (").await;

    write_config(&files[1], &[NEW, OLD]);
    let (out, err) = texts(&rotating.await.unwrap());
    assert!(
        out.contains("secrets: all 3 values lie under aesgcm new, read whole at revision "),
        "{out}{err}"
    );
    assert!(err.contains("waiting: b writes secrets under aesgcm old ("), "{err}");
    create(&at_b, "by-b-afterwards").await;
    assert_eq!(counts(&at_a).await, [("new".to_owned(), 4)]);
    until_status_says(&a, "secrets: nothing lies under aesgcm old").await;
    until_status_says(&a, "secrets: aesgcm new is 0 days old, rotation is due in 90 days").await;

    // Who was killed is waited for until it was silent for long enough; what it said last is not true any more.
    b.kill();
    write_config(&files[0], &[OLD, NEW]);
    until_status_says(&a, "secrets: b writes under aesgcm new and reads aesgcm old").await;
    let (out, err) = texts(&a.output(&["keys", "rotate"]).await);
    assert!(out.contains("secrets: all 4 values lie under aesgcm old"), "{out}{err}");
    assert!(err.contains("waiting: b writes secrets under aesgcm new ("), "{err}");

    // Who stops in order is not waited for.
    b.forget_address();
    b.run().await;
    until_status_says(&a, "secrets: b writes under aesgcm new and reads aesgcm old").await;
    assert!(b.stop().await.success());
    let (out, err) = texts(&a.output(&["keys", "rotate"]).await);
    assert!(out.contains("secrets: all 4 values lie under aesgcm old") && err.is_empty(), "{out}{err}");
    assert!(a.stop().await.success());
}
