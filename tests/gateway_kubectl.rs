//! The Kubernetes API of the built binary as people use it: with kubectl.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/kubectl.rs"]
mod kubectl;
#[path = "support/server.rs"]
mod server;

use std::io::{BufRead, BufReader};

use kubectl::{Kubectl, squeezed};
use reqwest::Method;
use serde_json::{Value, json};
use server::{Caller, Server};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn post(caller: &Caller, path: &str, body: Value) {
    let response = caller.request(Method::POST, path).json(&body).send().await.unwrap();
    let status = response.status();
    assert!(status.is_success(), "{path}: {status}: {}", response.text().await.unwrap());
}

async fn make_deployment(caller: &Caller) {
    post(caller, "/api/v1/namespaces", json!({ "metadata": { "name": "shop" } })).await;
    let containers = json!([{ "name": "web", "image": "web:1" }, { "name": "log", "image": "log:2" }]);
    let deployment = json!({
        "metadata": { "name": "front" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "front" } },
            "template": { "metadata": { "labels": { "app": "front" } }, "spec": { "containers": containers } },
        },
    });
    post(caller, "/apis/apps/v1/namespaces/shop/deployments", deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_the_columns_of_each_kind_and_more_when_wide() {
    let server = Server::start(&[]).await;
    make_deployment(&server.call()).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let lines = squeezed(&kubectl.out(&["get", "deployments", "-n", "shop"]));
    assert_eq!(lines[0], "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert!(lines[1].starts_with("front 0/3 0 0 "), "{lines:?}");
    let lines = squeezed(&kubectl.out(&["get", "deploy", "-A", "-o", "wide"]));
    assert_eq!(lines[0], "NAMESPACE NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR");
    assert!(lines[1].ends_with(" web,log web:1,log:2 app=front"), "{lines:?}");
    let lines = squeezed(&kubectl.out(&["get", "namespaces"]));
    assert_eq!(lines[0], "NAME STATUS AGE");
    assert!(lines.iter().any(|line| line.starts_with("shop Active ")), "{lines:?}");
    // Both kinds at once, and a name that is not there.
    assert!(kubectl.out(&["get", "deploy,configmaps", "-n", "shop"]).contains("deployment.apps/front"));
    let missing = kubectl.run(&["get", "deploy", "none", "-n", "shop"]);
    assert_eq!(missing.err, "Error from server (NotFound): deployments.apps \"none\" not found\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_list_has_its_revision_and_its_rows_what_was_asked_for() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    make_deployment(&caller).await;
    let get = async |path: &str| -> Value {
        let response = caller.get(path).header("accept", TABLE).send().await.unwrap();
        response.json().await.unwrap()
    };
    let list = "/apis/apps/v1/namespaces/shop/deployments";
    let table = get(list).await;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert!(table["metadata"]["resourceVersion"].as_str().is_some_and(|rv| rv != "0"), "{table}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "front");
    let table = get(&format!("{list}/front?includeObject=Object")).await;
    assert_eq!(table["rows"][0]["object"]["spec"]["replicas"], 3);
    let table = get(&format!("{list}/front?includeObject=None")).await;
    assert_eq!(table["rows"][0]["object"], Value::Null);
    let refused = get(&format!("{list}?includeObject=Some")).await;
    assert_eq!(refused["reason"], "BadRequest", "{refused}");
    let missing = get(&format!("{list}/none")).await;
    assert_eq!(missing["kind"], "Status", "an error stays what it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_a_row_for_each_change() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    make_deployment(&caller).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let mut watch = kubectl.start(&["get", "deployments", "-n", "shop", "--watch"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = move || squeezed(&lines.next().unwrap().unwrap())[0].clone();
    assert_eq!(next(), "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert!(next().starts_with("front 0/3 0 0 "));
    let patch = caller.request(Method::PATCH, "/apis/apps/v1/namespaces/shop/deployments/front");
    let patch = patch.header("content-type", "application/merge-patch+json");
    assert!(patch.body(r#"{"spec":{"replicas":5}}"#).send().await.unwrap().status().is_success());
    let line = tokio::task::spawn_blocking(next).await.unwrap();
    assert!(line.starts_with("front 0/5 0 0 "), "{line}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_validated_applied_and_explained_as_the_documents_say() {
    let server = Server::start(&[]).await;
    let Some(kubectl) = Kubectl::of(&server) else { return };
    let text = |data: &str| {
        format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: a, namespace: default}}\n{data}")
    };
    let created = kubectl.with_input(&["create", "-f", "-"], &text("data: {x: '1'}"));
    assert_eq!(created.out, "configmap/a created\n", "{created:?}");
    // kubectl says once that it adds what it remembers the last state by.
    assert_eq!(kubectl.apply(&text("data: {x: '2', z: '3'}")), "configmap/a configured\n");
    assert_eq!(kubectl.apply(&text("data: {z: '3'}")), "configmap/a configured\n");
    assert_eq!(kubectl.out(&["get", "configmap", "a", "-o", "jsonpath={.data}"]), r#"{"z":"3"}"#);
    let refused = kubectl.with_input(&["create", "-f", "-"], &text("datum: {x: '1'}"));
    assert!(!refused.ok && refused.err.contains("unknown field \"datum\""), "{refused:?}");
    let explained = kubectl.out(&["explain", "deployment.spec.template.spec.containers.resources.limits"]);
    assert!(explained.contains("FIELD: limits <map[string]Quantity>"), "{explained}");
    let explained = kubectl.out(&["explain", "cronjobs", "--recursive"]);
    assert!(explained.contains("jobTemplate\t<JobTemplateSpec> -required-"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_kept_by_its_tag() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let index = caller.json("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = caller.get(&url).send().await.unwrap();
    let tag = document.headers()["etag"].clone();
    assert!(document.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let document: Value = document.json().await.unwrap();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let again = caller.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(caller.json("/openapi/v2").await["swagger"], "2.0");
}
