//! The store's history ends: what asks for an earlier state is refused, what is there stays, and old values go.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use engines::Own;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "x": value } })
}

async fn put(caller: &Caller, name: &str, value: &str) -> String {
    let sent = caller.request(Method::PUT, &format!("{MAPS}/{name}")).json(&map(name, value)).send().await;
    let answer: Value = sent.unwrap().json().await.unwrap();
    answer["metadata"]["resourceVersion"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn status(caller: &Caller, path: &str) -> StatusCode {
    caller.get(path).send().await.unwrap().status()
}

/// The first event of a watch that begins after a revision.
async fn first_event(caller: &Caller, after: &str) -> Value {
    let mut response = caller
        .get(&format!("{MAPS}?watch=1&resourceVersion={after}&timeoutSeconds=30"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend_from_slice(&response.chunk().await.unwrap().expect("an event comes before the end"));
    }
    serde_json::from_slice(line.split(|byte| *byte == b'\n').next().unwrap()).unwrap()
}

async fn forgets(mut server: Server) {
    let caller = server.call();
    eventually("the default namespace", async || {
        let sent =
            caller.request(Method::POST, MAPS).json(&map("a", "planted-and-replaced")).send().await.ok()?;
        (sent.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    let made = caller.request(Method::POST, MAPS).json(&map("b", "stays")).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let page = caller.json(&format!("{MAPS}?limit=1")).await;
    let (old, token) = (&page["metadata"]["resourceVersion"], &page["metadata"]["continue"]);
    let (old, token) = (old.as_str().unwrap(), token.as_str().unwrap());
    put(&caller, "a", "new").await;
    let exact = format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    eventually("the old state is forgotten", async || {
        (status(&caller, &exact).await == StatusCode::GONE).then_some(())
    })
    .await;
    assert_eq!(status(&caller, &format!("{MAPS}?limit=1&continue={token}")).await, StatusCode::GONE);
    let event = first_event(&caller, old).await;
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");

    // What is there stays, and a watch from now on goes on over further compactions.
    assert_eq!(caller.json(&format!("{MAPS}/b")).await["data"]["x"], "stays");
    let list = caller.json(MAPS).await;
    assert!(list["items"].as_array().unwrap().len() >= 2, "{list}");
    // A machine that is busy may take longer than the second for which history is kept: then the client lists anew.
    let mut n = 0;
    let (event, written) = eventually("a watch that is not behind", async || {
        n += 1;
        let written = format!("newer {n}");
        let list = caller.json(MAPS).await;
        let from = list["metadata"]["resourceVersion"].as_str().unwrap();
        put(&caller, "b", &written).await;
        let event = first_event(&caller, from).await;
        (event["type"] != "ERROR").then_some((event, written))
    })
    .await;
    assert_eq!(
        (&event["type"], &event["object"]["data"]["x"]),
        (&json!("MODIFIED"), &json!(written)),
        "{event}"
    );
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_compacted_in_the_embedded_store() {
    forgets(Server::start(&["--etcd-compaction-interval", "1s"]).await).await;
}

/// An etcd of its own: compaction is of a whole etcd.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_compacted_in_etcd() {
    let own = tokio::task::spawn_blocking(|| Own::start(&["etcd"])).await.unwrap();
    forgets(Server::start(&["--etcd-compaction-interval", "1s", "--etcd-servers", own.etcd()]).await).await;
}
