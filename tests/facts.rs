//! What an instance records of itself, from outside: its stop, what came into force, and days that were removed.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{fs, time::Duration};

use serde_json::{Value, json};
use server::{Caller, Server, ago, event, eventually};

const METADATA: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
const REQUEST: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Request}]\n";

/// The facts of a type, newest first, once there are this many.
async fn facts(caller: &Caller, name: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} facts {name}"), async || {
        let query = format!("kind:pipeline event.type:{name}");
        let request = caller.get("/v1/events").query(&[("q", query)]);
        let page: Value = request.send().await.ok()?.json().await.ok()?;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        (items.len() == count).then(|| items.clone())
    })
    .await
}

#[tokio::test]
async fn a_changed_policy_is_recorded_and_a_bad_one_keeps_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    fs::write(&policy, METADATA).unwrap();
    let mut server = Server::start(&["--audit-policy-file", policy.to_str().unwrap()]).await;
    let first = facts(&server.call(), "policy_changed", 1).await;
    assert!(first[0]["event"]["old"].is_null(), "{first:?}");

    fs::write(&policy, "rules: [").unwrap();
    eventually("the bad policy is reported", async || {
        server.log().contains("still in force: the audit policy before; mend the file").then_some(())
    })
    .await;
    fs::write(&policy, REQUEST).unwrap();
    let second = facts(&server.call(), "policy_changed", 2).await;
    assert_eq!(second[0]["event"]["old"], first[0]["event"]["new"]);
    assert_ne!(second[0]["event"]["new"], first[0]["event"]["new"]);

    // The same policy at the next start is no news; another one is.
    assert!(server.stop().await.success());
    server.run().await;
    facts(&server.call(), "boot", 2).await;
    facts(&server.call(), "policy_changed", 2).await;
    assert!(server.stop().await.success());
    fs::write(&policy, METADATA).unwrap();
    server.run().await;
    let third = facts(&server.call(), "policy_changed", 3).await;
    assert_eq!(third[0]["event"]["old"], second[0]["event"]["new"]);
}

#[tokio::test]
async fn changed_redaction_rules_redact_what_comes_next_and_bad_ones_keep_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    let rules =
        |word: &str| format!("texts:\n- name: {word}\n  words: [{word}]\n  pattern: '{word}[0-9]{{8}}'\n");
    fs::write(&file, rules("badge")).unwrap();
    let server = Server::start(&["--redaction-rules", file.to_str().unwrap()]).await;
    let caller = server.call();
    let record = async |id: &str| {
        let body = event(id, &ago(Duration::ZERO)).replace("anna", "badge12345678 plate12345678");
        assert!(caller.post("rules", body).await.status().is_success());
        eventually(id, async || {
            let request = caller.get("/v1/events").query(&[("q", format!("cluster:rules auditID:{id}"))]);
            let page: Value = request.send().await.ok()?.json().await.ok()?;
            page["items"].as_array().unwrap_or_else(|| panic!("{page}")).first().cloned()
        })
        .await
    };
    let user = |record: &Value| record["event"]["user"]["username"].as_str().unwrap().to_owned();
    let first = record("first").await;
    assert!(user(&first).starts_with("$redacted(rule=badge,len=13,"), "{first}");
    assert!(user(&first).ends_with(" plate12345678"), "{first}");

    fs::write(&file, format!("{}  wrods: []\n", rules("plate"))).unwrap();
    eventually("the bad rules are reported", async || {
        server.log().contains("still in force: the redaction rules before; mend the file").then_some(())
    })
    .await;
    let log = server.log();
    let reported: Vec<&str> = log.lines().filter(|line| line.contains("still in force")).collect();
    assert_eq!(reported.len(), 1, "{log}");
    for part in ["ERROR", file.to_str().unwrap(), "line 5", "wrods", "did you mean"] {
        assert!(reported[0].contains(part), "{part}: {log}");
    }
    let second = record("second").await;
    assert_eq!((&second["rules"], user(&second)), (&first["rules"], user(&first)));

    fs::write(&file, rules("plate")).unwrap();
    let changed = facts(&caller, "rules_changed", 1).await;
    assert_eq!(changed[0]["event"]["old"], first["rules"]);
    let third = record("third").await;
    assert_eq!(third["rules"], changed[0]["event"]["new"]);
    assert!(user(&third).starts_with("badge12345678 $redacted(rule=plate,len=13,"), "{third}");
}

#[tokio::test]
async fn other_redaction_rules_than_at_the_last_start_are_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    fs::write(&rules, "texts:\n- {name: badge, words: [BADGE], pattern: 'BADGE[0-9]{8}'}\n").unwrap();
    let mut server = Server::start(&[]).await;
    assert!(server.stop().await.success());
    server.set_args(&["--redaction-rules", rules.to_str().unwrap()]);
    for _ in 0..2 {
        server.run().await;
        let changed = facts(&server.call(), "rules_changed", 1).await;
        assert_ne!(changed[0]["event"]["old"], changed[0]["event"]["new"], "{changed:?}");
        assert!(changed[0]["event"]["old"].is_string(), "{changed:?}");
        assert!(server.stop().await.success());
    }
    server.run().await;
    facts(&server.call(), "boot", 4).await;
    facts(&server.call(), "rules_changed", 1).await;
}

#[tokio::test]
async fn an_orderly_stop_is_the_last_record_of_its_boot_and_a_kill_leaves_none() {
    let mut server = Server::start(&[]).await;
    assert!(server.stop().await.success());
    server.run().await;
    let stops = facts(&server.call(), "stop", 1).await;
    let completeness = server.call().json("/v1/completeness").await;
    assert_eq!(completeness["boots"][1]["previous"]["boot"], stops[0]["boot"], "{completeness}");
    assert_eq!(completeness["boots"][1]["previous"]["last_seq"], stops[0]["seq"], "{completeness}");
    server.kill();
    server.run().await;
    facts(&server.call(), "boot", 3).await;
    facts(&server.call(), "stop", 1).await;
    assert_eq!(server.call().json("/v1/completeness").await["complete"], true);
}

#[tokio::test]
async fn days_whose_retention_ended_are_gone_and_their_removal_is_recorded() {
    let mut server = Server::start(&["--retention-days", "100"]).await;
    let at = ago(Duration::from_secs(10 * 86_400));
    assert!(server.call().post("days", event("old", &at)).await.status().is_success());
    server.call().until_count("cluster:days", 1).await;
    assert!(server.stop().await.success());
    server.set_args(&["--retention-days", "3"]);
    server.run().await;
    let ended = facts(&server.call(), "retention", 1).await;
    assert_eq!(ended[0]["event"]["days"], json!([at[..10]]), "{ended:?}");
    server.call().until_count("cluster:days", 0).await;
    let completeness = server.call().json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
}
