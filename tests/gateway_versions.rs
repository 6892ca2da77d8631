//! Resources of two versions: one stored object, read, changed and watched in either of them.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use engines::{etcd, unique};
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server};

const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn send(caller: &Caller, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = caller.request(method.clone(), path);
    let request = match (&method, body) {
        (_, Value::Null) => request,
        (&Method::PATCH, body) => {
            request.header("content-type", "application/merge-patch+json").body(body.to_string())
        }
        (_, body) => request.json(&body),
    };
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// What a request that must succeed gives.
async fn get(caller: &Caller, path: &str) -> Value {
    caller.json(path).await
}

/// The next event of a watch.
async fn next(parts: &mut (impl StreamExt<Item = reqwest::Result<impl AsRef<[u8]>>> + Unpin)) -> Value {
    let part = tokio::time::timeout(server::PATIENCE, parts.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_slice(part.as_ref()).unwrap()
}

async fn events(caller: &Caller) {
    let event = json!({
        "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": { "name": "e.1" },
        "eventTime": "2026-11-24T00:00:00.000000Z", "reportingController": "shop/loader", "reportingInstance": "i",
        "action": "Load", "reason": "Loaded", "regarding": { "kind": "Pod", "name": "p" }, "note": "n", "type": "Normal",
    });
    let from = get(caller, EVENTS).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let watch = caller.get(&format!("{EVENTS}?watch=true&resourceVersion={from}")).send().await.unwrap();
    let mut watch = watch.bytes_stream();
    let (status, made) = send(caller, Method::POST, EVENTS, event).await;
    assert_eq!((status, &made["apiVersion"]), (StatusCode::CREATED, &json!("events.k8s.io/v1")), "{made}");
    assert_eq!((&made["note"], made.get("message")), (&json!("n"), None), "{made}");
    let seen = next(&mut watch).await;
    assert_eq!((&seen["type"], &seen["object"]), (&json!("ADDED"), &made));

    let core = get(caller, &format!("{CORE}/e.1")).await;
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("n"), &json!("p")), "{core}");
    assert_eq!(core["reportingComponent"], "shop/loader");
    assert_eq!(core["metadata"], made["metadata"], "one object, at one revision");
    assert_eq!(get(caller, &format!("{EVENTS}/e.1")).await, made);

    let (status, _) = send(caller, Method::PATCH, &format!("{CORE}/e.1"), json!({ "message": "m" })).await;
    assert_eq!(status, StatusCode::OK);
    let seen = next(&mut watch).await;
    assert_eq!((&seen["type"], &seen["object"]["note"]), (&json!("MODIFIED"), &json!("m")), "{seen}");
    let (status, again) = send(caller, Method::PATCH, &format!("{EVENTS}/e.1"), json!({ "note": "m" })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(again["metadata"], seen["object"]["metadata"], "nothing changed, so nothing was written");

    for (path, selector, count) in [
        (EVENTS, "regarding.name=p,reportingController=shop/loader", 1),
        (EVENTS, "regarding.name=q", 0),
        (CORE, "involvedObject.name=p,source=shop/loader", 1),
    ] {
        let list = get(caller, &format!("{path}?fieldSelector={selector}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{path} {selector}: {list}");
    }
    let path = format!("{EVENTS}?fieldSelector=involvedObject.name=p");
    let (status, refused) = send(caller, Method::GET, &path, Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    let table = async |path: &str| {
        caller.get(path).header("accept", TABLE).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let (ours, theirs) = (table(EVENTS).await, table(CORE).await);
    assert_eq!(ours["rows"][0]["cells"], theirs["rows"][0]["cells"]);
    assert_eq!(ours["rows"][0]["cells"][3], "pod/p", "{ours}");

    let (status, _) = send(caller, Method::DELETE, &format!("{EVENTS}/e.1"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let seen = next(&mut watch).await;
    assert_eq!((&seen["type"], &seen["object"]["note"]), (&json!("DELETED"), &json!("m")), "{seen}");
    assert_eq!(send(caller, Method::GET, &format!("{CORE}/e.1"), Value::Null).await.0, StatusCode::NOT_FOUND);
}

async fn autoscalers(caller: &Caller) {
    let autoscaler = json!({
        "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": { "name": "h" },
        "spec": { "scaleTargetRef": { "kind": "Deployment", "name": "front", "apiVersion": "apps/v1" },
            "maxReplicas": 4, "targetCPUUtilizationPercentage": 70 },
    });
    let (status, made) = send(caller, Method::POST, V1, autoscaler).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["minReplicas"], 1);
    let v2 = get(caller, &format!("{V2}/h")).await;
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70, "{v2}");

    // What only the newer version can say survives a change in the older one.
    let behavior = json!({ "spec": { "behavior": { "scaleDown": { "selectPolicy": "Min" } } } });
    assert_eq!(send(caller, Method::PATCH, &format!("{V2}/h"), behavior).await.0, StatusCode::OK);
    let change = json!({ "spec": { "targetCPUUtilizationPercentage": 60 } });
    let (status, changed) = send(caller, Method::PATCH, &format!("{V1}/h"), change).await;
    assert_eq!((status, &changed["spec"]["targetCPUUtilizationPercentage"]), (StatusCode::OK, &json!(60)));
    let v2 = get(caller, &format!("{V2}/h")).await;
    assert_eq!(v2["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Min", "{v2}");
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60, "{v2}");
    assert_eq!(v2["metadata"].get("annotations"), None, "{v2}");
}

async fn both(args: &[&str]) {
    let server = Server::start(args).await;
    let caller = server.call();
    events(&caller).await;
    autoscalers(&caller).await;
}

#[tokio::test]
async fn either_version_shows_and_changes_what_the_embedded_store_holds() {
    both(&["--controllers=-*"]).await;
}

#[tokio::test]
async fn either_version_shows_and_changes_what_etcd_holds() {
    let (servers, prefix) = (etcd(), format!("/{}", unique("versions")));
    both(&["--controllers=-*", "--etcd-servers", &servers, "--etcd-prefix", &prefix]).await;
}
