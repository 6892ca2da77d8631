//! `muniment admission impact` against the built binary: what a level would refuse of what is stored.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::Server;

fn spec(context: Value) -> Value {
    json!({ "containers": [{ "name": "app", "image": "app:1", "securityContext": context }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_level_would_refuse_is_told_by_namespace() {
    let server = Server::start(&["--pod-security-default", "privileged", "--controllers=-*"]).await;
    let caller = server.call();
    let make = async |path: &str, body: Value| {
        let made = caller.request(Method::POST, path).json(&body).send().await.unwrap();
        let status = made.status();
        assert_eq!(status, StatusCode::CREATED, "{path}: {}", made.text().await.unwrap());
    };
    let privileged = json!({ "privileged": true });
    for name in ["shop", "bank"] {
        make("/api/v1/namespaces", json!({ "metadata": { "name": name } })).await;
        make(
            &format!("/api/v1/namespaces/{name}/serviceaccounts"),
            json!({ "metadata": { "name": "default" } }),
        )
        .await;
    }
    let labels = json!({ "app": "web" });
    let template = json!({ "metadata": { "labels": labels }, "spec": spec(privileged.clone()) });
    let deployment = json!({ "metadata": { "name": "web" }, "spec": {
        "selector": { "matchLabels": labels }, "template": template } });
    make("/apis/apps/v1/namespaces/shop/deployments", deployment).await;
    let owned = json!({ "metadata": { "name": "web-1", "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "web", "uid": "u", "controller": true }] }, "spec": spec(privileged.clone()) });
    make("/api/v1/namespaces/shop/pods", owned).await;
    make("/api/v1/namespaces/bank/pods", json!({ "metadata": { "name": "plain" }, "spec": spec(json!({})) }))
        .await;

    let output = server.output(&["admission", "impact", "--level", "baseline"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "NAMESPACE  WORKLOAD        VIOLATES\nshop       deployment/web  privileged\n\n\
         1 of 2 workloads in 1 of 2 namespaces would be refused by baseline:latest\n"
    );
    let output = server.output(&["admission", "impact", "--level", "baseline", "-n", "bank"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let flags = ["admission", "impact", "--level", "restricted:v1.20", "--json"];
    let output = server.output(&flags).await;
    assert_eq!(output.status.code(), Some(1));
    let impact: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&impact["policy"], &impact["refused"]), (&json!("restricted:v1.20"), &json!(2)), "{impact}");
    let bank = &impact["namespaces"][0];
    assert_eq!((&bank["namespace"], &bank["refused"][0]["workload"]), (&json!("bank"), &json!("pod/plain")));
    assert!(bank["refused"][0]["violations"].as_array().unwrap().len() > 1);
    let output = server.output(&["admission", "impact", "--level", "strict"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
