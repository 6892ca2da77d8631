//! The admission chain of the built binary as a webhook of another cluster's API server, over TLS.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{fs, path::Path};

use admission::PatchOperation;
use api::reviews::wire::{AdmissionReview, Request};
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually, skipped};

const VALIDATE: &str = "/admission/v1/validate?timeout=10s";
const MUTATE: &str = "/admission/v1/mutate?timeout=10s";

fn review(operation: &str, object: Value, old: Value) -> Value {
    let of = if object.is_null() { &old } else { &object };
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": of["metadata"]["name"], "namespace": "default", "operation": operation,
            "userInfo": {"username": "anna", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

fn pod(name: &str, context: Value) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "spec": {"serviceAccountName": "default", "volumes": [{"name": "t", "emptyDir": {}}], "containers": [
            {"name": "app", "image": "app:1", "securityContext": context,
             "volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]},
    })
}

async fn post(caller: &Caller, path: &str, body: &Value) -> (StatusCode, Value) {
    let answer = caller.request(Method::POST, path).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn asked(caller: &Caller, path: &str, body: &Value) -> Value {
    let (status, answer) = post(caller, path, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["kind"], &answer["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    assert_eq!(answer["response"]["uid"], body["request"]["uid"]);
    assert!(answer["request"].is_null());
    answer["response"].clone()
}

async fn started(flags: &[&str]) -> (Server, Caller) {
    let server = Server::start(flags).await;
    let caller = server.call();
    eventually("the account", async || {
        let found = caller.get("/api/v1/namespaces/default/serviceaccounts/default").send().await.unwrap();
        found.status().is_success().then_some(())
    })
    .await;
    (server, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_decided_by_the_chain_and_each_decision_is_a_record() {
    let (_server, caller) = started(&[]).await;
    let bad = pod("bad", json!({"privileged": true}));
    let refused = asked(&caller, VALIDATE, &review("CREATE", bad, Value::Null)).await;
    let text = "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"app\" must not \
                set securityContext.privileged=true)";
    assert_eq!((&refused["allowed"], &refused["status"]["message"]), (&json!(false), &json!(text)));
    assert_eq!(
        (&refused["status"]["code"], &refused["status"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    // The API server puts the webhook's name before the annotations' own.
    assert_eq!(refused["auditAnnotations"]["enforce-policy"], "baseline:latest", "{refused}");

    let mutated = asked(&caller, MUTATE, &review("CREATE", pod("fine", json!({})), Value::Null)).await;
    assert_eq!(
        (&mutated["allowed"], &mutated["patchType"]),
        (&json!(true), &json!("JSONPatch")),
        "{mutated}"
    );
    let patch = STANDARD.decode(mutated["patch"].as_str().unwrap()).unwrap();
    let patch: Vec<PatchOperation> = serde_json::from_slice(&patch).unwrap();
    let mut changed = pod("fine", json!({}));
    admission::apply(&mut changed, &patch).unwrap();
    assert_eq!(changed["spec"]["tolerations"][0]["tolerationSeconds"], 300, "{changed}");
    assert_eq!(changed["spec"]["priority"], 0);
    let allowed = asked(&caller, VALIDATE, &review("CREATE", changed.clone(), Value::Null)).await;
    assert_eq!((&allowed["allowed"], &allowed["patch"]), (&json!(true), &Value::Null), "{allowed}");
    let gone = asked(&caller, VALIDATE, &review("DELETE", Value::Null, changed)).await;
    assert_eq!(gone["allowed"], true);

    caller.until_count("kind:access resource:pods", 4).await;
    let page = caller.get("/v1/events").query(&[("q", "kind:access resource:pods")]).send().await.unwrap();
    let page: Value = page.json().await.unwrap();
    let records: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|item| &item["event"]).collect();
    let record = records.iter().find(|event| event["objectRef"]["name"] == "bad").unwrap();
    assert_eq!(record["route"], "/admission/v1/validate");
    let told = &record["review"];
    assert_eq!(
        (&told["allowed"], &told["operation"], &told["user"]),
        (&json!(false), &json!("CREATE"), &json!("anna"))
    );
    let decisions = record["annotations"]["admission.muniment.io/decisions"].as_str().unwrap();
    let decisions: Vec<Value> = serde_json::from_str(decisions).unwrap();
    let last = decisions.last().unwrap();
    assert_eq!(
        (&last["controller"], &last["verdict"]),
        (&json!("PodSecurity"), &json!("denied")),
        "{decisions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_looked_at_and_not_charged() {
    let (_server, caller) = started(&[]).await;
    let quota = json!({ "kind": "ResourceQuota", "apiVersion": "v1", "metadata": { "name": "q" },
        "spec": { "hard": { "pods": "1" } } });
    let path = "/api/v1/namespaces/default/resourcequotas";
    let (status, made) = post(&caller, path, &quota).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let ask = async |name: &str| {
        asked(&caller, VALIDATE, &review("CREATE", pod(name, json!({})), Value::Null)).await
    };
    for name in ["a", "b"] {
        assert_eq!(ask(name).await["allowed"], true, "whether the first is stored is not known here");
    }
    let read = caller.json(&format!("{path}/q")).await;
    assert_eq!(read["status"]["used"]["pods"], "0", "{read}");
    let (status, made) = post(&caller, "/api/v1/namespaces/default/pods", &pod("real", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let full = ask("c").await;
    assert_eq!(full["allowed"], false);
    assert!(full["status"]["message"].as_str().unwrap().contains("exceeded quota: q"), "{full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_is_decided_by_the_roles() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens.csv");
    fs::write(&tokens, "api-server-token,api-server,1\nother-token,other,2\n").unwrap();
    let (_server, root) = started(&["--token-auth-file", tokens.to_str().unwrap()]).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "asks-admission" }, "rules": [
        { "apiGroups": ["muniment.io"], "resources": ["admissionreviews"], "verbs": ["create"] }] });
    let binding = json!({ "metadata": { "name": "asks-admission" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks-admission" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "api-server" }] });
    for (plural, body) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let (status, made) = post(&root, &format!("{rbac}/{plural}"), &body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    let question = review("CREATE", pod("fine", json!({})), Value::Null);
    let granted = root.with_token("api-server-token");
    eventually("the role", async || {
        (post(&granted, VALIDATE, &question).await.0 == StatusCode::OK).then_some(())
    })
    .await;
    for (token, expected) in [("", StatusCode::UNAUTHORIZED), ("other-token", StatusCode::FORBIDDEN)] {
        for path in [MUTATE, VALIDATE] {
            assert_eq!(post(&root.with_token(token), path, &question).await.0, expected, "{token:?} {path}");
        }
    }
    for (body, expected) in [
        (json!({}), "only \"AdmissionReview\""),
        (
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}),
            "admissionReviewVersions",
        ),
        (json!("review"), "invalid type"),
    ] {
        let (status, answer) = post(&root, VALIDATE, &body).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("bad_review")));
        assert!(answer["error"]["message"].as_str().unwrap().contains(expected), "{answer}");
    }
    let large = json!({ "kind": "x".repeat(9 * 1024 * 1024) });
    assert_eq!(post(&root, VALIDATE, &large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

/// Reads `../shared/fixtures/api-roundtrip`, where that is.
#[test]
fn reviews_with_every_field_are_read_and_written_as_they_were() {
    let samples =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/api-roundtrip/testdata/HEAD");
    if !samples.exists() {
        return skipped("../shared is absent");
    }
    for version in ["v1", "v1beta1"] {
        let file = samples.join(format!("admission.k8s.io.{version}.AdmissionReview.json"));
        let sample: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let read: AdmissionReview = serde_json::from_value(sample.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sample);
        match read.into_request() {
            Ok(Request { name, dry_run, .. }) => {
                assert_eq!((version, name.as_str(), dry_run), ("v1", "nameValue", true));
            }
            Err(why) => assert!(version == "v1beta1" && why.contains("v1beta1"), "{why}"),
        }
    }
}
