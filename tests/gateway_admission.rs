//! The admission chain before the built binary's store: what it refuses, changes and warns of reaches client and audit.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server};

const PODS: &str = "/api/v1/namespaces/shop/pods";

async fn send(caller: &Caller, method: Method, path: &str, body: &Value) -> Response {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap()
}

async fn answer(caller: &Caller, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(caller, method, path, body).await;
    (response.status(), response.json().await.unwrap())
}

/// A namespace with labels, and the account that its Pods run as.
async fn namespace(caller: &Caller, name: &str, labels: Value) {
    let namespace =
        json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name, "labels": labels } });
    let (status, made) = answer(caller, Method::POST, "/api/v1/namespaces", &namespace).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let account = json!({ "kind": "ServiceAccount", "apiVersion": "v1", "metadata": { "name": "default" } });
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    let (status, made) = answer(caller, Method::POST, &path, &account).await;
    // The controller of accounts may have been faster.
    assert!([StatusCode::CREATED, StatusCode::CONFLICT].contains(&status), "{made}");
}

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = "app".into();
    container["image"] = "registry.example.test/app:1".into();
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": { "containers": [container] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_security_refuses_and_warns_in_its_words() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
    });
    namespace(&caller, "shop", labels).await;
    let bad = pod("bad", json!({ "securityContext": { "privileged": true } }));
    let (status, refused) = answer(&caller, Method::POST, PODS, &bad).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "pods \"bad\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"app\" must not \
         set securityContext.privileged=true)"
    );
    assert_eq!(refused["details"], json!({ "name": "bad", "kind": "pods" }));
    let (missing, _) = answer(&caller, Method::GET, &format!("{PODS}/bad"), &Value::Null).await;
    assert_eq!(missing, StatusCode::NOT_FOUND);

    let warned = send(&caller, Method::POST, PODS, &pod("plain", json!({}))).await;
    assert_eq!(warned.status(), StatusCode::CREATED);
    let warning = warned.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("would violate PodSecurity \\\"restricted:latest\\\""), "{warning}");
    caller.until_count("resource:pods verb:create code:403", 1).await;
    let page =
        caller.get("/v1/events").query(&[("q", "resource:pods verb:create code:403")]).send().await.unwrap();
    let page: Value = page.json().await.unwrap();
    let annotations = &page["items"][0]["event"]["annotations"];
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest", "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_priorities_tolerations_and_accounts_are_filled_in() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    namespace(&caller, "shop", json!({})).await;
    let limits = json!({ "kind": "LimitRange", "apiVersion": "v1", "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "500m" }, "max": { "cpu": "1" } }] } });
    let path = "/api/v1/namespaces/shop/limitranges";
    assert_eq!(send(&caller, Method::POST, path, &limits).await.status(), StatusCode::CREATED);
    let (status, made) = answer(&caller, Method::POST, PODS, &pod("a", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let spec = &made["spec"];
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "500m", "{spec}");
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
    let (_, read) = answer(&caller, Method::GET, &format!("{PODS}/a"), &Value::Null).await;
    assert_eq!(read, made, "what is answered is what is stored");

    let large = pod("b", json!({ "resources": { "limits": { "cpu": "2" } } }));
    let (status, refused) = answer(&caller, Method::POST, PODS, &large).await;
    assert_eq!(
        (status, &refused["message"]),
        (
            StatusCode::FORBIDDEN,
            &json!("pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_needed_stay_and_those_that_are_missing_take_nothing() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let map = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "m" } });
    let (status, missing) =
        answer(&caller, Method::POST, "/api/v1/namespaces/nowhere/configmaps", &map).await;
    assert_eq!(
        (status, &missing["message"]),
        (StatusCode::NOT_FOUND, &json!("namespaces \"nowhere\" not found"))
    );
    server::eventually("the first namespaces", async || {
        let found = send(&caller, Method::GET, "/api/v1/namespaces/kube-system", &Value::Null).await;
        (found.status() == StatusCode::OK).then_some(())
    })
    .await;
    let path = "/api/v1/namespaces/kube-system";
    let (status, refused) = answer(&caller, Method::DELETE, path, &Value::Null).await;
    assert_eq!(
        (status, &refused["message"]),
        (
            StatusCode::FORBIDDEN,
            &json!("namespaces \"kube-system\" is forbidden: this namespace may not be deleted")
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_are_chosen_by_name() {
    let server = Server::start(&["--disable-admission-plugins", "PodSecurity,LimitRanger"]).await;
    let caller = server.call();
    namespace(&caller, "shop", json!({ "pod-security.kubernetes.io/enforce": "restricted" })).await;
    let made =
        send(&caller, Method::POST, PODS, &pod("a", json!({ "securityContext": { "privileged": true } })))
            .await;
    assert_eq!(made.status(), StatusCode::CREATED);
    for (flags, expected) in [
        (["--enable-admission-plugins", "PodSecurty"], "did you mean \"PodSecurity\"?"),
        (["--enable-admission-plugins", "AlwaysPullImages"], "is not built in, so it cannot be enabled"),
    ] {
        let mut server = Server::stopped(&flags);
        server.spawn();
        assert_eq!(server.ended().await.code(), Some(2));
        assert!(server.log().contains(expected), "{}", server.log());
    }
}
