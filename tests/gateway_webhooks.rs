//! Webhooks that the built binary asks: real ones, over TLS, that answer, are slow, talk nonsense or hang up.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/hook.rs"]
mod hook;
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hook::{Hook, patched, said};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(caller: &Caller, method: Method, path: &str, body: &Value) -> Response {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap()
}

async fn answer(caller: &Caller, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(caller, method, path, body).await;
    (response.status(), response.json().await.unwrap())
}

fn map(name: &str, data: Value) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": data })
}

fn webhook(name: &str, client: Value, more: Value) -> Value {
    let mut webhook = json!({
        "name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "DELETE"], "resources": ["configmaps"] }],
    });
    for (key, value) in more.as_object().unwrap() {
        webhook[key] = value.clone();
    }
    webhook
}

async fn configure(caller: &Caller, kind: &str, name: &str, webhooks: Vec<Value>) {
    let object = json!({
        "kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": { "name": name }, "webhooks": webhooks,
    });
    let path = format!("{GROUP}/{}s", kind.to_lowercase());
    let (status, made) = answer(caller, Method::POST, &path, &object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
}

/// A dry run, again and again until it is refused: a webhook is asked a moment after it was configured.
async fn refused(caller: &Caller, object: &Value) -> (StatusCode, Value) {
    eventually("the webhook is asked", async || {
        let (status, answer) = answer(caller, Method::POST, &format!("{MAPS}?dryRun=All"), object).await;
        (status != StatusCode::CREATED).then_some((status, answer))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_change_warn_and_refuse() {
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |path, request| match path {
        "/label" => patched(request, json!([{ "op": "add", "path": "/metadata/labels", "value": { "hook": "yes" } }])),
        "/count" => {
            let seen = request["object"]["metadata"]["labels"]["hook"].clone();
            let patch = json!([{ "op": "add", "path": "/data/saw", "value": seen.as_str().unwrap_or("no") }]);
            patched(request, patch)
        }
        _ if request["name"] == "bad" => said(request, json!({
            "allowed": false, "status": { "code": 403, "reason": "Forbidden", "message": "bad name" } })),
        _ if request["name"] == "mute" => said(request, json!({ "allowed": false })),
        _ => said(request, json!({
            "allowed": true, "warnings": ["take care"], "auditAnnotations": { "seen": request["operation"] } })),
    })
    .await;
    let server = Server::start(&[]).await;
    let caller = server.call();
    configure(
        &caller,
        "MutatingWebhookConfiguration",
        "m",
        vec![
            webhook("count.example.test", hook.url("/count"), json!({ "reinvocationPolicy": "IfNeeded" })),
            webhook("label.example.test", hook.url("/label"), json!({})),
        ],
    )
    .await;
    let conditions =
        json!({ "matchConditions": [{ "name": "c", "expression": "!request.name.startsWith('free')" }] });
    configure(
        &caller,
        "ValidatingWebhookConfiguration",
        "v",
        vec![webhook("check.example.test", hook.url("/check"), conditions)],
    )
    .await;

    let (status, denied) = refused(&caller, &map("bad", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{denied}");
    assert_eq!(denied["message"], "admission webhook \"check.example.test\" denied the request: bad name");
    assert_eq!(denied["reason"], "Forbidden");
    let (status, denied) = refused(&caller, &map("mute", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        denied["message"],
        "admission webhook \"check.example.test\" denied the request without explanation"
    );

    let made = eventually("both configurations are in force", async || {
        let response =
            send(&caller, Method::POST, &format!("{MAPS}?dryRun=All"), &map("a", json!({ "a": "b" }))).await;
        let warning = response.headers().get("warning").map(|warning| warning.to_str().unwrap().to_owned());
        let made: Value = response.json().await.unwrap();
        (warning.as_deref() == Some("299 - \"take care\"") && made["data"]["saw"] == "yes").then_some(made)
    })
    .await;
    // The first webhook was asked once more, since the second one changed the object after it.
    assert_eq!(made["metadata"]["labels"], json!({ "hook": "yes" }), "{made}");

    let (status, free) = answer(&caller, Method::POST, MAPS, &map("free", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::CREATED, "{free}");
    let (status, _) = answer(&caller, Method::POST, MAPS, &map("kept", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::CREATED);
    let event = eventually("the audit has it", async || {
        let query = [("q", "resource:configmaps verb:create name:kept")];
        let page: Value = caller.get("/v1/events").query(&query).send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array()?.clone();
        items.into_iter().find(|item| item["event"]["annotations"]["check.example.test/seen"] == "CREATE")
    })
    .await;
    let noted = &event["event"]["annotations"]["mutation.webhook.admission.k8s.io/round_0_index_1"];
    let noted: Value = serde_json::from_str(noted.as_str().unwrap()).unwrap();
    assert_eq!(noted, json!({ "configuration": "m", "webhook": "label.example.test", "mutated": true }));

    let seen = hook.seen.lock().unwrap();
    let (uri, review) = seen.iter().rev().find(|(uri, _)| uri.starts_with("/check")).unwrap();
    assert_eq!(uri, "/check?timeout=10s");
    let request = &review["request"];
    assert_eq!(
        (&request["operation"], &request["namespace"], &request["name"]),
        (&json!("CREATE"), &json!("default"), &json!("kept"))
    );
    assert_eq!(request["kind"], json!({ "group": "", "version": "v1", "kind": "ConfigMap" }));
    assert_eq!((&request["dryRun"], &request["oldObject"]), (&json!(false), &Value::Null));
    assert!(
        !seen.iter().any(|(uri, review)| uri.starts_with("/check") && review["request"]["name"] == "free")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_changed_is_recorded_where_bodies_are() {
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |_, request| {
        patched(request, json!([{ "op": "add", "path": "/metadata/labels", "value": { "hook": "yes" } }]))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    let rules = "[{level: Metadata, resources: [{group: '', resources: [services]}]}, {level: Request}]";
    std::fs::write(&policy, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n")).unwrap();
    let server = Server::start(&["--audit-policy-file", policy.to_str().unwrap()]).await;
    let caller = server.call();
    let on = |resources: &[&str]| json!({ "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": resources }] });
    let webhooks = vec![
        webhook("pods.example.test", hook.url("/"), on(&["pods"])),
        webhook("label.example.test", hook.url("/"), on(&["configmaps", "services"])),
    ];
    configure(&caller, "MutatingWebhookConfiguration", "m", webhooks).await;
    eventually("the webhook is asked", async || {
        let (_, made) =
            answer(&caller, Method::POST, &format!("{MAPS}?dryRun=All"), &map("x", json!({}))).await;
        (made["metadata"]["labels"]["hook"] == "yes").then_some(())
    })
    .await;
    let (status, made) = answer(&caller, Method::POST, MAPS, &map("a", json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let service = json!({ "metadata": { "name": "a" }, "spec": { "ports": [{ "port": 80 }] } });
    let (status, made) = answer(&caller, Method::POST, "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let annotations = async |resource: &str| {
        eventually("the audit has it", async || {
            let query = [("q", format!("resource:{resource} verb:create name:a code:201"))];
            let page: Value =
                caller.get("/v1/events").query(&query).send().await.unwrap().json().await.unwrap();
            page["items"].as_array()?.first().map(|item| item["event"]["annotations"].clone())
        })
        .await
    };
    // A webhook has the place that it has among all of them.
    let (of_map, of_service) = (annotations("configmaps").await, annotations("services").await);
    let key = "mutation.webhook.admission.k8s.io/round_0_index_1";
    let noted = r#"{"configuration":"m","webhook":"label.example.test","mutated":true}"#;
    assert_eq!((&of_map[key], &of_service[key]), (&json!(noted), &json!(noted)));
    let key = "patch.webhook.admission.k8s.io/round_0_index_1";
    let patch = r#"{"configuration":"m","webhook":"label.example.test","patch":[{"op":"add","path":"/metadata/labels","value":{"hook":"yes"}}],"patchType":"JSONPatch"}"#;
    assert_eq!((&of_map[key], &of_service[key]), (&json!(patch), &Value::Null), "{of_map}");
}

/// What a webhook that cannot be asked is told as, and that the request passes it by where its policy says so.
async fn fails(client: Value, more: Value, why: &str) {
    let server = Server::start(&[]).await;
    let caller = server.call();
    configure(&caller, "ValidatingWebhookConfiguration", "v", vec![webhook("w.example.test", client, more)])
        .await;
    let (status, failed) = refused(&caller, &map("a", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{failed}");
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.starts_with("Internal error occurred: failed calling webhook \"w.example.test\": "),
        "{message}"
    );
    assert!(message.contains(why), "{message}");
    let path = format!("{GROUP}/validatingwebhookconfigurations/v");
    let patch = json!([{ "op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore" }]);
    let request = caller.request(Method::PATCH, &path).header("content-type", "application/json-patch+json");
    assert_eq!(request.body(patch.to_string()).send().await.unwrap().status(), StatusCode::OK);
    eventually("the webhook is passed by", async || {
        let (status, _) =
            answer(&caller, Method::POST, &format!("{MAPS}?dryRun=All"), &map("a", json!({ "a": "b" })))
                .await;
        (status == StatusCode::CREATED).then_some(())
    })
    .await;
    let (status, made) = answer(&caller, Method::POST, MAPS, &map("a", json!({ "a": "b" }))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    eventually("the audit tells that it failed open", async || {
        let query = [("q", "resource:configmaps verb:create name:a code:201")];
        let page: Value = caller.get("/v1/events").query(&query).send().await.unwrap().json().await.unwrap();
        let key = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0";
        let items = page["items"].as_array()?.clone();
        items.iter().any(|item| item["event"]["annotations"][key] == "w.example.test").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_slow_has_failed() {
    let hook = Hook::start("127.0.0.1", Duration::from_secs(120), |_, request| {
        said(request, json!({ "allowed": true }))
    })
    .await;
    fails(hook.url("/"), json!({ "timeoutSeconds": 1 }), "failed to call webhook: context deadline exceeded")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_talks_nonsense_has_failed() {
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |_, _| json!({ "hello": "world" })).await;
    fails(hook.url("/"), json!({}), "webhook response was absent").await;
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |_, _| json!({ "kind": "Pod" })).await;
    fails(hook.url("/"), json!({}), "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview")
        .await;
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |_, _| {
        said(&json!({ "uid": "x" }), json!({ "allowed": true }))
    })
    .await;
    fails(hook.url("/"), json!({}), "expected response.uid=").await;
    let hook = Hook::start("127.0.0.1", Duration::ZERO, |_, _| json!("x".repeat(5 * 1024 * 1024))).await;
    fails(hook.url("/"), json!({}), "the answer is longer than").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_up_or_is_somebody_else_has_failed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let url = json!({ "url": format!("https://127.0.0.1:{}/", at.port()) });
    fails(url, json!({}), "failed to call webhook: Post \"https://127.0.0.1:").await;

    let (one, other) = tokio::join!(
        Hook::start("127.0.0.1", Duration::ZERO, |_, request| said(request, json!({ "allowed": true }))),
        Hook::start("127.0.0.1", Duration::ZERO, |_, request| said(request, json!({ "allowed": true }))),
    );
    let mut client = one.url("/");
    client["caBundle"] = STANDARD.encode(&other.authority).into();
    fails(client, json!({}), "certificate").await;
    assert!(one.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_where_the_store_says() {
    let hook = Hook::start("hook.default.svc", Duration::ZERO, |_, request| {
        said(request, json!({ "allowed": false, "status": { "message": "no" } }))
    })
    .await;
    let server = Server::start(&[]).await;
    let caller = server.call();
    let service = json!({ "service": { "namespace": "default", "name": "hook", "path": "/x" }, "caBundle": STANDARD.encode(&hook.authority) });
    configure(
        &caller,
        "ValidatingWebhookConfiguration",
        "v",
        vec![webhook("w.example.test", service, json!({}))],
    )
    .await;
    let (_, failed) = refused(&caller, &map("a", json!({}))).await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("service \"default/hook\": services \"hook\" not found"), "{message}");
    let object = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": { "name": "hook" },
        "spec": { "clusterIP": "None", "ports": [{ "port": 443, "targetPort": hook.at.port() }] },
    });
    let (status, made) = answer(&caller, Method::POST, "/api/v1/namespaces/default/services", &object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (_, failed) = refused(&caller, &map("a", json!({}))).await;
    assert!(
        failed["message"].as_str().unwrap().contains("neither a cluster address nor a ready endpoint"),
        "{failed}"
    );
    let slice = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": { "name": "hook-1", "labels": { "kubernetes.io/service-name": "hook" } },
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": hook.at.port(), "protocol": "TCP" }],
    });
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (status, made) = answer(&caller, Method::POST, path, &slice).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, denied) = refused(&caller, &map("a", json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{denied}");
    assert_eq!(denied["message"], "admission webhook \"w.example.test\" denied the request: no");
    assert_eq!(hook.seen.lock().unwrap().last().unwrap().0, "/x?timeout=10s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_followed_is_refused_when_it_is_written() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let object = json!({
        "kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": { "name": "v" },
        "webhooks": [
            { "name": "short", "clientConfig": { "url": "http://x/" }, "timeoutSeconds": 40,
              "rules": [{ "operations": ["MAKE"], "apiGroups": ["*", "apps"], "apiVersions": ["v1"], "resources": [] }] },
            { "name": "short", "clientConfig": {}, "sideEffects": "Some", "admissionReviewVersions": ["v1beta1"],
              "matchConditions": [{ "name": "c", "expression": "object.x(" }] }],
    });
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let (status, refused) = answer(&caller, Method::POST, &path, &object).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields: Vec<&str> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    for field in [
        "webhooks[0].name",
        "webhooks[0].clientConfig.url",
        "webhooks[0].timeoutSeconds",
        "webhooks[0].rules[0].operations[0]",
        "webhooks[0].rules[0].apiGroups",
        "webhooks[0].rules[0].resources",
        "webhooks[0].sideEffects",
        "webhooks[0].admissionReviewVersions",
        "webhooks[1].name",
        "webhooks[1].clientConfig",
        "webhooks[1].sideEffects",
        "webhooks[1].admissionReviewVersions",
        "webhooks[1].matchConditions[0].expression",
    ] {
        assert!(fields.contains(&field), "{field}: {fields:?}");
    }
}
