//! The Kubernetes API of the built binary: what clients ask of it is stored, watched, and recorded in the pipeline.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use engines::{etcd, unique};
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// Nothing happens by itself, so that requests can be counted.
const ALONE: &str = "--controllers=-*";

const CONFIG_MAPS: &str = "/api/v1/namespaces/shop/configmaps";

async fn send(caller: &Caller, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

fn config_map(name: &str, value: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "x": value } })
}

async fn make_shop(caller: &Caller) {
    let namespace = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "shop" } });
    let (status, made) = send(caller, Method::POST, "/api/v1/namespaces", namespace).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
}

/// A life of one object, through a kill of the process.
async fn life(mut server: Server) {
    let caller = server.call();
    make_shop(&caller).await;
    let (status, made) = send(&caller, Method::POST, CONFIG_MAPS, config_map("a", "1")).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, again) = send(&caller, Method::POST, CONFIG_MAPS, config_map("a", "1")).await;
    assert_eq!((status, &again["reason"]), (StatusCode::CONFLICT, &json!("AlreadyExists")));

    server.kill();
    server.run().await;
    let caller = server.call();
    let one = format!("{CONFIG_MAPS}/a");
    let (status, read) = send(&caller, Method::GET, &one, Value::Null).await;
    assert_eq!((status, &read), (StatusCode::OK, &made), "what was answered is there after a kill");

    let mut changed = read.clone();
    changed["data"]["x"] = "2".into();
    let (status, updated) = send(&caller, Method::PUT, &one, changed.clone()).await;
    assert_eq!((status, &updated["data"]["x"]), (StatusCode::OK, &json!("2")));
    let (status, conflict) = send(&caller, Method::PUT, &one, changed).await;
    assert_eq!((status, &conflict["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));

    let patch = caller.request(Method::PATCH, &one).header("content-type", "application/merge-patch+json");
    let patched = patch.body(r#"{"data":{"y":"3"}}"#).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::OK);
    let updated: Value = patched.json().await.unwrap();
    assert_eq!(updated["data"], json!({ "x": "2", "y": "3" }));

    let (_, list) = send(&caller, Method::GET, CONFIG_MAPS, Value::Null).await;
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"], json!([updated]));
    let (status, gone) = send(&caller, Method::DELETE, &one, Value::Null).await;
    assert_eq!((status, &gone["status"]), (StatusCode::OK, &json!("Success")));
    let (status, missing) = send(&caller, Method::GET, &one, Value::Null).await;
    assert_eq!((status, &missing["message"]), (StatusCode::NOT_FOUND, &json!("configmaps \"a\" not found")));

    // Every request is found, each with its stages.
    caller.until_count("cluster:local resource:configmaps verb:create", 4).await;
    caller.until_count("cluster:local resource:configmaps verb:update", 4).await;
    caller.until_count("cluster:local resource:configmaps verb:delete code:200", 1).await;
    caller.until_count("cluster:local resource:configmaps code:409", 2).await;
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives_in_the_embedded_store_and_its_requests_in_the_pipeline() {
    life(Server::start(&[ALONE]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives_in_etcd_and_its_requests_in_the_pipeline() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("gateway")));
    life(Server::start(&["--etcd-servers", &servers, "--etcd-prefix", &prefix, ALONE]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_anything_without_a_token_and_that_is_recorded() {
    let server = Server::start(&[]).await;
    let stranger = server.call().with_token("");
    for path in
        ["/api", "/apis", "/version", "/api/v1/pods", "/apis/apps/v1/deployments?watch=true", "/openapi/v3"]
    {
        let (status, refused) = send(&stranger, Method::GET, path, Value::Null).await;
        assert_eq!(
            (status, &refused["reason"]),
            (StatusCode::UNAUTHORIZED, &json!("Unauthorized")),
            "{path}"
        );
    }
    server.call().until_count("cluster:local resource:pods code:401", 1).await;
    server.call().until_count("cluster:local resource:deployments code:401", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_is_there_and_then_each_change_in_order() {
    let server = Server::start(&[ALONE]).await;
    let caller = server.call();
    make_shop(&caller).await;
    send(&caller, Method::POST, CONFIG_MAPS, config_map("old", "1")).await;
    let watch = caller.get(&format!("{CONFIG_MAPS}?watch=true")).send().await.unwrap();
    let mut parts = watch.bytes_stream();
    let mut seen = Vec::new();
    let mut text = Vec::new();
    for n in 0..20 {
        send(&caller, Method::POST, CONFIG_MAPS, config_map(&format!("n{n}"), "1")).await;
    }
    send(&caller, Method::DELETE, &format!("{CONFIG_MAPS}/n3"), Value::Null).await;
    let reading = async {
        while seen.len() < 22 {
            text.extend_from_slice(&parts.next().await.unwrap().unwrap());
            seen = String::from_utf8_lossy(&text)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .map(|event| {
                    format!("{} {}", event["type"], event["object"]["metadata"]["name"]).replace('"', "")
                })
                .collect();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
    let added = std::iter::once("ADDED old".to_owned()).chain((0..20).map(|n| format!("ADDED n{n}")));
    let expected: Vec<String> = added.chain(["DELETED n3".to_owned()]).collect();
    assert_eq!(seen, expected);
    drop(parts);
    caller.until_count("resource:configmaps verb:watch stage:ResponseComplete", 1).await;
}

/// The number of a series, whatever the order of its labels is.
fn figure(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let series =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let mut series = series.filter(|line| {
        labels.iter().all(|(label, value)| {
            let pair = format!("{label}=\"{value}\"");
            line.contains(&format!("{{{pair}")) || line.contains(&format!(",{pair}"))
        })
    });
    series.next()?.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn requests_are_measured_by_verb_and_resource_and_made_up_ones_share_one_name() {
    let server = Server::start(&[ALONE]).await;
    let caller = server.call();
    make_shop(&caller).await;
    for name in ["a", "b"] {
        send(&caller, Method::POST, CONFIG_MAPS, config_map(name, "1")).await;
    }
    send(&caller, Method::GET, &format!("{CONFIG_MAPS}/none"), Value::Null).await;
    for n in 0..10 {
        send(&caller, Method::GET, &format!("/apis/made.up/v1/things{n}"), Value::Null).await;
    }
    let watch = caller.get(&format!("{CONFIG_MAPS}?watch=true")).send().await.unwrap();
    let page = || async { caller.get("/metrics").send().await.unwrap().text().await.unwrap() };
    let now = page().await;
    let maps = |verb| [("verb", verb), ("group", ""), ("resource", "configmaps"), ("subresource", "")];
    let requests = "muniment_gateway_requests_total";
    let of = |verb, code| figure(&now, requests, &[&maps(verb)[..], &[("code", code)]].concat());
    assert_eq!(of("create", "201"), Some(2.0), "{now}");
    assert_eq!(of("get", "404"), Some(1.0), "{now}");
    assert_eq!(of("watch", "200"), Some(1.0), "{now}");
    assert_eq!(figure(&now, requests, &[("verb", "list"), ("resource", "other")]), Some(10.0), "{now}");
    assert!(!now.contains("things1") && !now.contains("made.up"), "{now}");
    let seconds = |what| figure(&now, &format!("muniment_gateway_request_seconds_{what}"), &maps("create"));
    assert_eq!(seconds("count"), Some(2.0), "{now}");
    assert!(seconds("sum") > Some(0.0) && seconds("bucket").is_some(), "{now}");

    let in_flight = |page: &str| figure(page, "muniment_gateway_requests_in_flight", &[("class", "watch")]);
    assert_eq!(in_flight(&now), Some(1.0), "a watch is in flight until its reader goes: {now}");
    assert_eq!(
        figure(&now, "muniment_gateway_requests_in_flight", &[("class", "write")]),
        Some(0.0),
        "{now}"
    );
    drop(watch);
    eventually("the watch's end", async || (in_flight(&page().await) == Some(0.0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_stored_and_stays_out_of_the_pipeline() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        policy.path(),
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n",
    )
    .unwrap();
    let server = Server::start(&["--audit-policy-file", policy.path().to_str().unwrap()]).await;
    let caller = server.call();
    make_shop(&caller).await;
    let secret = json!({
        "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "s" }, "data": { "p": "cGxhbnRlZC12YWx1ZQ==" },
    });
    let (status, made) = send(&caller, Method::POST, "/api/v1/namespaces/shop/secrets", secret).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let events = eventually("both stages", async || {
        let found = caller.json("/v1/events?q=resource:secrets%20verb:create").await;
        (found["items"].as_array()?.len() == 2).then_some(found)
    })
    .await;
    let text = events.to_string();
    assert!(text.contains("$redacted"), "{text}");
    assert!(!text.contains("cGxhbnRlZC12YWx1ZQ"), "{text}");
    // By which a start finds out what became of it, were the process to die now.
    assert!(text.contains("\"muniment.io/change\":\"secrets/shop/s@"), "{text}");
    let mut scanned = 0;
    for name in ["journal", "index"] {
        scanned += scan(&server.data().join(name), b"cGxhbnRlZC12YWx1ZQ");
    }
    assert!(scanned > 0, "there are files to look into");
}

/// Fails where a file under `folder` holds `needle`; the number of files.
fn scan(folder: &std::path::Path, needle: &[u8]) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += scan(&path, needle);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(needle.len()).any(|w| w == needle), "{}", path.display());
            files += 1;
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_a_change_before_it_is_made() {
    // Nothing is recorded without Postgres, so nothing is released, and the journal fills.
    let server = Server::stopped(&["--journal-max-bytes", "2MiB"]);
    let mut server = server;
    server.run().await;
    let caller = server.call();
    make_shop(&caller).await;
    // The promise for bodies of a RequestResponse policy is larger than the whole journal.
    let policy = server.data().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n")
        .unwrap();
    assert!(server.stop().await.success());
    server.set_args(&["--journal-max-bytes", "2MiB", "--audit-policy-file", policy.to_str().unwrap()]);
    server.run().await;
    let caller = server.call();
    let (status, refused) = send(&caller, Method::POST, CONFIG_MAPS, config_map("a", "1")).await;
    assert_eq!((status, &refused["reason"]), (StatusCode::TOO_MANY_REQUESTS, &json!("TooManyRequests")));
    let (status, _) = send(&caller, Method::GET, &format!("{CONFIG_MAPS}/a"), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_of_audit_is_named_to_everybody_who_asks_whether_the_process_is_ready() {
    for (args, name) in [(&[ALONE][..], "audit-strict"), (&[ALONE, "--audit-mode", "batch"], "audit-batch")] {
        let server = Server::start(args).await;
        let ready: Value =
            server.call().with_token("").get("/readyz").send().await.unwrap().json().await.unwrap();
        let checks = ready["checks"].as_array().unwrap();
        let named = checks.iter().filter(|check| check["name"].as_str().unwrap().starts_with("audit-"));
        assert_eq!(named.map(|check| check["name"].clone()).collect::<Vec<_>>(), [name], "{ready}");
        make_shop(&server.call()).await;
        let (status, _) = send(&server.call(), Method::POST, CONFIG_MAPS, config_map("a", "1")).await;
        assert_eq!(status, StatusCode::CREATED);
        server.call().until_count("cluster:local resource:configmaps verb:create", 2).await;
    }
}
