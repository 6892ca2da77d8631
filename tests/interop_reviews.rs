//! A real kube-apiserver asks our chain as its webhooks: what ours refuses it refuses, what ours changes it stores, and
//! each decision is a record.
//!
//! `make interop` builds the API server and runs this test; `cargo test` runs it where it is built already.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use peer::Peer;
use reqwest::{Certificate, Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// The module of the reports, where the support files look for it.
mod skipped {
    pub(crate) use crate::server::skipped;
}

const PODS: &str = "/api/v1/namespaces/shop/pods";

/// What tells the API server by which token our server knows it.
fn configuration(folder: &Path, our: &Caller) -> String {
    let address = our.url.trim_start_matches("https://");
    let kubeconfig = folder.join("webhooks.kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "users": [{ "name": address, "user": { "token": our.token } }],
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    let plugin = |name: &str| {
        json!({ "name": name, "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": kubeconfig.to_str().unwrap(),
        } })
    };
    let file = folder.join("admission.yaml");
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [plugin("MutatingAdmissionWebhook"), plugin("ValidatingAdmissionWebhook")],
    });
    fs::write(&file, text.to_string()).unwrap();
    format!("--admission-control-config-file={}", file.display())
}

async fn make(caller: &Caller, path: &str, object: &Value) -> Value {
    let made = caller.request(Method::POST, path).json(object).send().await.unwrap();
    let status = made.status();
    let text = made.text().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn webhooks(kind: &str, our: &Caller, authority: &str, path: &str) -> Value {
    json!({
        "kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": { "name": "muniment" }, "webhooks": [{
            "name": format!("{path}.muniment.example"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": { "url": format!("{}/admission/v1/{path}", our.url), "caBundle": STANDARD.encode(authority) },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        }],
    })
}

fn pod(name: &str, more: Value) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    for (key, value) in more.as_object().unwrap() {
        context[key] = value.clone();
    }
    let container = json!({ "name": "app", "image": "app:1", "securityContext": context });
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": { "containers": [container] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_admits_what_our_chain_admits() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    let server = Server::start(&[]).await;
    let our = server.call();
    peer.set("API_ARGS", &configuration(folder.path(), &our));
    peer.set("AUDIT", "off");
    peer.script(&["start", "etcd", "apiserver"]);
    let authority = Certificate::from_pem(&fs::read(peer.authority()).unwrap()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let mut their = our.with_http(http).with_token(&peer.token("admin"));
    their.url = peer.api();

    // What decides is in our store; theirs knows no more of the namespace than its name.
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    make(&our, "/api/v1/namespaces", &json!({ "metadata": { "name": "shop", "labels": labels } })).await;
    make(&their, "/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } })).await;
    let limits = json!({ "metadata": { "name": "l" }, "spec": { "limits": [
        { "type": "Container", "default": { "cpu": "500m" } }] } });
    make(&our, "/api/v1/namespaces/shop/limitranges", &limits).await;
    eventually("the account", async || {
        let found = our.get("/api/v1/namespaces/shop/serviceaccounts/default").send().await.unwrap();
        found.status().is_success().then_some(())
    })
    .await;
    let ca = fs::read_to_string(server.data().join("ca.pem")).unwrap();
    let group = "/apis/admissionregistration.k8s.io/v1";
    for (kind, path) in
        [("MutatingWebhookConfiguration", "mutate"), ("ValidatingWebhookConfiguration", "validate")]
    {
        make(&their, &format!("{group}/{}s", kind.to_lowercase()), &webhooks(kind, &our, &ca, path)).await;
    }

    let bad = pod("bad", json!({ "privileged": true, "allowPrivilegeEscalation": true }));
    let refused: Value = eventually("the webhook is asked", async || {
        let path = format!("{PODS}?dryRun=All");
        let answer = their.request(Method::POST, &path).json(&bad).send().await.unwrap();
        (answer.status() == StatusCode::FORBIDDEN).then_some(answer)
    })
    .await
    .json()
    .await
    .unwrap();
    assert_eq!(
        refused["message"],
        "admission webhook \"validate.muniment.example\" denied the request: pods \"bad\" is forbidden: violates \
         PodSecurity \"restricted:latest\": privileged (container \"app\" must not set \
         securityContext.privileged=true), allowPrivilegeEscalation != false (container \"app\" must set \
         securityContext.allowPrivilegeEscalation=false)"
    );
    eventually("both webhooks are asked", async || {
        let path = format!("{PODS}?dryRun=All");
        let answer = their.request(Method::POST, &path).json(&pod("probe", json!({}))).send().await.unwrap();
        let made: Value = answer.json().await.unwrap();
        made.pointer("/spec/containers/0/resources/limits").map(drop)
    })
    .await;
    let made = make(&their, PODS, &pod("fine", json!({}))).await;
    let app = &made["spec"]["containers"][0];
    assert_eq!(app["resources"]["limits"]["cpu"], "500m", "{made}");
    assert_eq!(
        app["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount",
        "{made}"
    );
    let stored = their.json(&format!("{PODS}/fine")).await;
    assert_eq!(stored["spec"]["containers"][0]["resources"], app["resources"]);

    let record = async |name: &str, route: &str| {
        eventually("the record of the review", async || {
            let query = [("q", format!("kind:access resource:pods name:{name}"))];
            let page: Value = our.get("/v1/events").query(&query).send().await.unwrap().json().await.unwrap();
            let items = page["items"].as_array()?.clone();
            items.into_iter().map(|item| item["event"].clone()).find(|event| event["route"] == *route)
        })
        .await
    };
    let decided = |record: &Value| -> Vec<Value> {
        serde_json::from_str(record["annotations"]["admission.muniment.io/decisions"].as_str().unwrap())
            .unwrap()
    };
    let refusal = record("bad", "/admission/v1/validate").await;
    assert_eq!(
        (&refusal["review"]["allowed"], &refusal["review"]["user"]),
        (&json!(false), &json!("admin")),
        "{refusal}"
    );
    let last = decided(&refusal).pop().unwrap();
    assert_eq!((&last["controller"], &last["verdict"]), (&json!("PodSecurity"), &json!("denied")));
    let change = record("fine", "/admission/v1/mutate").await;
    let patched =
        |name: &str| decided(&change).iter().any(|d| d["controller"] == *name && d["verdict"] == "patched");
    assert!(patched("LimitRanger") && patched("ServiceAccount"), "{change}");
}
