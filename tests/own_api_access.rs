//! Who may ask the built binary's own interface for what: the stored roles decide, nobody sees more than their part, and
//! each use is recorded.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{fs, time::Duration};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, ago, eventually};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A server with users of a token file: alice is bound in one namespace, dora to one cluster, audrey as auditor.
struct Stage {
    server: Server,
    root: Caller,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, policy) = (folder.path().join("tokens.csv"), folder.path().join("policy.yaml"));
        let users = ["alice", "dora", "audrey", "carl", "nobody"];
        let lines: String = users.iter().map(|name| format!("{name}-token,{name},{name}\n")).collect();
        fs::write(&tokens, format!("{lines}master-token,master,m,system:masters\n")).unwrap();
        // Nothing of the test's own making of roles: each record of the own cluster is one that the test sends.
        fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n").unwrap();
        let args =
            ["--token-auth-file", tokens.to_str().unwrap(), "--audit-policy-file", policy.to_str().unwrap()];
        let server = Server::start(&args).await;
        let root = server.call();
        let stage = Self { server, root, _folder: folder };
        for namespace in ["shop", "bank"] {
            let body = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": namespace } });
            stage.make("/api/v1/namespaces", body).await;
        }
        stage.role("event-reader", &["get", "list", "watch"], "events", &[]).await;
        stage.role("demo-reader", &["get", "list", "watch"], "events", &["demo"]).await;
        stage.role("token-maker", &["create", "list"], "tokens", &[]).await;
        stage.bind("shop", "event-reader", "alice").await;
        // What names another cluster gives nothing in a namespace.
        stage.bind("bank", "demo-reader", "alice").await;
        stage.bind("", "demo-reader", "dora").await;
        stage.bind("", "muniment:auditor", "audrey").await;
        stage.bind("", "token-maker", "carl").await;
        for cluster in ["local", "demo"] {
            let events: Vec<String> =
                (0..12).map(|n| told(cluster, ["shop", "bank", ""][n % 3], n)).collect();
            let answer = stage.root.post(cluster, events.join("\n")).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
        stage.root.until_count("kind:audit", 24).await;
        for user in ["alice", "dora", "audrey"] {
            let caller = stage.user(user);
            eventually(user, async || {
                (status(&caller, Method::GET, "/v1/events").await == StatusCode::OK).then_some(())
            })
            .await;
        }
        stage
    }

    fn user(&self, name: &str) -> Caller {
        self.root.with_token(&format!("{name}-token"))
    }

    async fn make(&self, path: &str, body: Value) {
        let made = self.root.request(Method::POST, path).json(&body).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED, "{path}");
    }

    async fn role(&self, name: &str, verbs: &[&str], resource: &str, names: &[&str]) {
        let rule = json!({
            "apiGroups": ["muniment.io"], "resources": [resource], "verbs": verbs, "resourceNames": names,
        });
        let body = json!({
            "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": { "name": name }, "rules": [rule],
        });
        self.make(&format!("{RBAC}/clusterroles"), body).await;
    }

    async fn bind(&self, namespace: &str, role: &str, user: &str) {
        let (kind, path) = match namespace {
            "" => ("ClusterRoleBinding", format!("{RBAC}/clusterrolebindings")),
            namespace => ("RoleBinding", format!("{RBAC}/namespaces/{namespace}/rolebindings")),
        };
        let group = "rbac.authorization.k8s.io";
        let body = json!({
            "kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": { "name": format!("{user}-{}", role.replace(':', "-")) },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        });
        self.make(&path, body).await;
    }
}

/// An event of a namespace of a cluster, of this many hours ago.
fn told(cluster: &str, namespace: &str, hours: usize) -> String {
    let at = ago(Duration::from_secs(3_600 * hours as u64 + 60));
    let mut event = json!({
        "level": "Request", "auditID": format!("{cluster}-{hours}"), "stage": "ResponseComplete", "verb": "update",
        "requestURI": "/", "user": { "username": format!("{cluster}-{namespace}-user") },
        "objectRef": { "resource": "configmaps", "name": "c", "apiVersion": "v1" },
        "requestObject": { "data": { "k": format!("secretive-{cluster}-{namespace}") } },
        "requestReceivedTimestamp": at, "stageTimestamp": at,
    });
    if namespace == "bank" {
        // Longer than what the index keeps of a value: whoever tests it learns that there is one.
        event["requestObject"]["data"]["k"] = "b".repeat(9_000).into();
    }
    if !namespace.is_empty() {
        event["objectRef"]["namespace"] = namespace.into();
    }
    event.to_string()
}

async fn status(caller: &Caller, method: Method, path: &str) -> StatusCode {
    caller.request(method, path).send().await.unwrap().status()
}

async fn ask(caller: &Caller, path: &str, parameters: &[(&str, &str)]) -> Response {
    caller.get(path).query(parameters).send().await.unwrap()
}

async fn json_of(caller: &Caller, path: &str, parameters: &[(&str, &str)]) -> Value {
    let response = ask(caller, path, parameters).await;
    assert_eq!(response.status(), StatusCode::OK, "{path} {parameters:?}");
    response.json().await.unwrap()
}

/// Cluster and namespace of each item.
fn places(page: &Value) -> Vec<(String, String)> {
    let items = page["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items
        .iter()
        .map(|item| (text(&item["cluster"]), text(&item["event"]["objectRef"]["namespace"])))
        .collect()
}

/// Queries that try to see more.
const ATTACKS: [&str; 9] = [
    "",
    "ns:bank or cluster:demo",
    "cluster:demo ns:shop",
    "not ns:shop",
    "-(cluster:local ns:shop)",
    "kind:access or kind:pipeline or ns:bank",
    "secretive*",
    "req.data.k:b*x or user:*bank*",
    "ns:null or *",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_all_that_its_reader_sees_however_it_is_asked_for() {
    let stage = Stage::set().await;
    let (root, alice) = (&stage.root, stage.user("alice"));
    let everything = json_of(root, "/v1/events", &[("q", "kind:audit")]).await;
    let foreign: Vec<&Value> = everything["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["cluster"] != "local" || item["event"]["objectRef"]["namespace"] != "shop")
        .collect();
    assert_eq!(foreign.len(), 20);

    // Pages and counts.
    for attack in ATTACKS {
        let page = json_of(&alice, "/v1/events", &[("q", attack)]).await;
        let seen = places(&page);
        assert!(seen.iter().all(|place| *place == ("local".into(), "shop".into())), "{attack}: {page}");
        assert_eq!((&page["partial"], &page["next"]), (&json!(false), &json!(null)), "{attack}: {page}");
        assert!(page["items"].as_array().unwrap().iter().all(|item| item.get("seq").is_none()), "{page}");
        let counted = json_of(&alice, "/v1/histogram", &[("q", attack), ("interval", "1h")]).await;
        assert_eq!(counted["total"], seen.len(), "{attack}: {counted}");
        assert_eq!(counted["partial"], false, "{attack}: {counted}");
        // From the first to the last of what alice sees: hours 0, 3, 6 and 9 of twelve.
        assert_eq!(counted["buckets"].as_array().unwrap().len(), 10, "{attack}: {counted}");
    }
    // The same question of somebody who sees everything says that a long value was not compared whole.
    let page = json_of(root, "/v1/events", &[("q", "req.data.k:b*x")]).await;
    assert_eq!(page["partial"], true, "{page}");
    // No number of buckets tells how far others reach.
    let many =
        ask(&alice, "/v1/histogram", &[("interval", "1ms"), ("to", "2026-01-01"), ("from", "2025-01-01")])
            .await;
    assert_eq!(many.status(), StatusCode::BAD_REQUEST);

    // By id: what is not seen is not there, in the same words as what is not there at all.
    let absent = "018f0000-0000-8000-8000-000000000001";
    let message = async |id: &str, raw: &str| {
        let response = ask(&alice, &format!("/v1/events/{id}"), &[("raw", raw)]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        response.text().await.unwrap().replace(id, "ID")
    };
    let expected = message(absent, "0").await;
    for item in &foreign {
        for raw in ["0", "1"] {
            assert_eq!(message(item["id"].as_str().unwrap(), raw).await, expected, "{item}");
        }
    }
    let own = json_of(&alice, "/v1/events", &[("limit", "1")]).await;
    let one = json_of(&alice, &format!("/v1/events/{}", own["items"][0]["id"].as_str().unwrap()), &[]).await;
    assert_eq!((one["stages"].as_array().unwrap().len(), &one["more"]), (1, &json!(false)));

    // A cursor of somebody else is refused, and one that is made up moves within what is seen.
    let theirs = json_of(root, "/v1/events", &[("limit", "1")]).await;
    let cursor = theirs["next"].as_str().unwrap();
    assert_eq!(ask(&alice, "/v1/events", &[("cursor", cursor)]).await.status(), StatusCode::BAD_REQUEST);
    let ours = own["next"].as_str().unwrap();
    assert_eq!(ask(root, "/v1/events", &[("cursor", ours)]).await.status(), StatusCode::BAD_REQUEST);
    let newest = format!("1{}{}", "7fffffffffffffff".to_owned() + &"f".repeat(32), &ours[49..]);
    let page = json_of(&alice, "/v1/events", &[("cursor", &newest)]).await;
    assert_eq!(places(&page), vec![("local".into(), "shop".into()); 4], "{page}");

    // Pages end with what is seen.
    let (mut cursor, mut seen) = (String::new(), 0);
    for _ in 0..5 {
        let page = json_of(&alice, "/v1/events", &[("limit", "3"), ("cursor", &cursor)]).await;
        seen += places(&page).len();
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, 4);
    for path in ["/v1/completeness", "/v1/tokens", "/v1/keys", "/v1/rebuild", "/metrics", "/v1/nothing"] {
        assert_eq!(status(&alice, Method::GET, path).await, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(alice.post("local", told("local", "shop", 1)).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clusters_are_seen_by_those_whose_role_names_them() {
    let stage = Stage::set().await;
    let dora = stage.user("dora");
    for attack in ATTACKS {
        let page = json_of(&dora, "/v1/events", &[("q", attack)]).await;
        assert!(places(&page).iter().all(|(cluster, _)| cluster == "demo"), "{attack}: {page}");
    }
    assert_eq!(json_of(&dora, "/v1/histogram", &[]).await["total"], 12);
    let audrey = stage.user("audrey");
    assert_eq!(json_of(&audrey, "/v1/histogram", &[("q", "kind:audit")]).await["total"], 24);
    assert_eq!(json_of(&audrey, "/v1/completeness", &[]).await["complete"], true);
    assert_eq!(status(&audrey, Method::GET, "/v1/tokens").await, StatusCode::FORBIDDEN);
    assert_eq!(status(&audrey, Method::POST, "/v1/rebuild").await, StatusCode::FORBIDDEN);
    for path in ["/v1/events", "/v1/completeness", "/v1/tokens", "/v1/keys", "/metrics"] {
        assert_eq!(status(&stage.user("master"), Method::GET, path).await, StatusCode::OK, "{path}");
    }
    let refused = ask(&stage.user("nobody"), "/v1/events", &[]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["error"]["code"], "forbidden");
    assert_eq!(
        refused["error"]["message"],
        "User \"nobody\" cannot list resource \"events\" in API group \"muniment.io\" at the cluster scope"
    );

    // Whoever may act as somebody else sees what that one sees.
    let acting = |caller: &Caller| caller.get("/v1/histogram").header("impersonate-user", "alice").send();
    let counted: Value = acting(&stage.root).await.unwrap().json().await.unwrap();
    assert_eq!(counted["total"], 4);
    assert_eq!(acting(&audrey).await.unwrap().status(), StatusCode::FORBIDDEN);

    // Nobody makes a token that allows more than they may.
    let carl = stage.user("carl");
    for scope in ["client", "intake:demo"] {
        let body = json!({ "scope": scope });
        let made = carl.request(Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::FORBIDDEN, "{scope}");
    }
    stage.role("poster", &["create"], "events", &["demo"]).await;
    stage.bind("", "poster", "carl").await;
    eventually("carl's role", async || {
        let body = json!({ "scope": "intake:demo" });
        let made = carl.request(Method::POST, "/v1/tokens").json(&body).send().await.unwrap();
        (made.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    assert_eq!(carl.post("demo", told("demo", "shop", 20)).await.status(), StatusCode::OK);
    assert_eq!(carl.post("local", told("local", "shop", 20)).await.status(), StatusCode::FORBIDDEN);
}

/// Reads a stream until it has said `wanted`.
async fn until_said(stream: &mut Response, said: &mut String, wanted: &str) {
    let read = async {
        while !said.contains(wanted) {
            let chunk = stream.chunk().await.unwrap().unwrap_or_else(|| panic!("the stream ended: {said}"));
            said.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(server::PATIENCE, read).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_gets_their_own_part_and_stops_when_it_is_taken_away() {
    let stage = Stage::set().await;
    let alice = stage.user("alice");
    let mut stream = ask(&alice, "/v1/tail", &[("q", "ns:bank or cluster:demo or *")]).await;
    assert_eq!(stream.status(), StatusCode::OK);
    for (cluster, namespace, hours) in
        [("local", "bank", 30), ("demo", "shop", 31), ("local", "", 32), ("local", "shop", 33)]
    {
        stage.root.post(cluster, told(cluster, namespace, hours)).await;
    }
    let mut said = String::new();
    until_said(&mut stream, &mut said, "local-33").await;
    for other in ["local-30", "demo-31", "local-32", "partial", "\"seq\""] {
        assert!(!said.contains(other), "{other}: {said}");
    }
    // The place to go on from tells of no number of arrivals, whoever they are of.
    let id = eventually("an id", async || said.lines().find_map(|line| line.strip_prefix("id: "))).await;
    assert_eq!(&id[1..33], format!("{}{}", "f".repeat(16), "0".repeat(16)), "{id}");
    let again = alice.get("/v1/tail").header("Last-Event-ID", id).send();
    let mut again = again.await.unwrap();
    stage.root.post("local", told("local", "shop", 36)).await;
    let mut said_again = String::new();
    until_said(&mut again, &mut said_again, "local-36").await;
    assert!(!said_again.contains("local-30") && !said_again.contains("demo-31"), "{said_again}");

    let path = format!("{RBAC}/namespaces/shop/rolebindings/alice-event-reader");
    assert_eq!(status(&stage.root, Method::DELETE, &path).await, StatusCode::OK);
    eventually("alice is let in no more", async || {
        (status(&alice, Method::GET, "/v1/events").await == StatusCode::FORBIDDEN).then_some(())
    })
    .await;
    stage.root.post("local", told("local", "shop", 39)).await;
    until_said(&mut stream, &mut said, "event: error").await;
    assert!(!said.contains("local-39"), "{said}");
}

/// The newest record of a use that a query finds.
async fn used(root: &Caller, query: &str) -> Value {
    eventually(query, async || {
        let found = json_of(root, "/v1/events", &[("q", query), ("limit", "1")]).await;
        found["items"].get(0).map(|item| item["event"].clone())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_follows_too_often_is_told_so_and_keeps_nobody_else_out() {
    let stage = Stage::set().await;
    let (alice, audrey) = (stage.user("alice"), stage.user("audrey"));
    let mut open = Vec::new();
    let refused = loop {
        let answer = alice.get("/v1/tail").send().await.unwrap();
        if answer.status() != StatusCode::OK {
            break answer;
        }
        open.push(answer);
        assert!(open.len() <= 8, "one user's streams have a bound");
    };
    assert_eq!((open.len(), refused.status()), (8, StatusCode::TOO_MANY_REQUESTS));
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    let said = refused.text().await.unwrap();
    assert!(said.contains("alice follows 8 times already"), "{said}");
    assert_eq!(status(&audrey, Method::GET, "/v1/tail").await, StatusCode::OK);

    open.pop();
    eventually("a place that was given back", async || {
        (status(&alice, Method::GET, "/v1/tail").await == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_use_is_recorded_with_who_what_and_how_much() {
    let stage = Stage::set().await;
    let (root, alice) = (&stage.root, stage.user("alice"));
    json_of(
        &alice,
        "/v1/events",
        &[("q", "verb:update \"Bearer abcdefghijklmnopqrstuvwxyz012345\""), ("limit", "7")],
    )
    .await;
    let seen = used(root, "kind:access user:alice verb:list event.parameters.limit:\"7\"").await;
    assert_eq!(seen["user"]["groups"], json!(["system:authenticated"]), "{seen}");
    assert_eq!((&seen["by"], &seen["route"]), (&json!("bearer"), &json!("/v1/events")), "{seen}");
    assert_eq!(
        seen["objectRef"],
        json!({ "resource": "events", "apiGroup": "muniment.io", "apiVersion": "v1" })
    );
    assert_eq!(seen["scope"], json!({ "only": { "clusters": [], "own": "local", "namespaces": ["shop"] } }));
    assert_eq!((&seen["responseStatus"]["code"], &seen["results"]), (&json!(200), &json!(0)), "{seen}");
    assert_eq!(seen["annotations"]["authorization.k8s.io/decision"], "allow", "{seen}");
    let query = seen["query"].as_str().unwrap();
    assert!(
        query.starts_with("verb:update") && query.contains("$redacted(") && !query.contains("abcdef"),
        "{query}"
    );
    assert!(!seen["sourceIPs"].as_array().unwrap().is_empty());

    json_of(&alice, "/v1/histogram", &[]).await;
    let seen = used(root, "kind:access user:alice path:/v1/histogram").await;
    assert_eq!(seen["results"], 4);
    assert_eq!(status(&alice, Method::GET, "/v1/tokens").await, StatusCode::FORBIDDEN);
    let seen = used(root, "kind:access user:alice resource:tokens decision:forbid code:403").await;
    assert!(seen["responseStatus"]["message"].as_str().unwrap().contains("cannot list resource"), "{seen}");
    root.get("/v1/events").header("impersonate-user", "alice").send().await.unwrap();
    let seen = used(root, "kind:access as:alice").await;
    assert!(seen["user"]["username"].as_str().unwrap().starts_with("muniment:token:"), "{seen}");
    // A change is on the disk before its answer.
    let made =
        root.request(Method::POST, "/v1/tokens").json(&json!({ "scope": "intake:x" })).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let seen = used(root, "kind:access verb:create resource:tokens code:201").await;
    assert_eq!(seen["by"], "token", "{seen}");

    // Who is not known leaves a record, and whoever guesses on is counted.
    let stranger = root.with_token("a-guess");
    assert_eq!(status(&stranger, Method::GET, "/v1/events").await, StatusCode::UNAUTHORIZED);
    used(root, "kind:access code:401 path:/v1/events").await;
    for _ in 0..40 {
        status(&alice, Method::GET, "/v1/keys").await;
    }
    let refused = "kind:access user:alice code:403 resource:keys";
    eventually("the first refusals", async || (root.count(refused).await >= 10).then_some(())).await;
    // Health, metrics and what comes in are no uses.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(status(root, Method::GET, path).await, StatusCode::OK);
    }
    status(root, Method::GET, "/v1/rebuild").await;
    used(root, "kind:access resource:rebuilds").await;
    assert!(root.count(refused).await <= 20);
    assert_eq!(root.count("kind:access path:(/livez or /readyz or /metrics or /v1/intake/*)").await, 0);
    assert_eq!(root.json("/v1/completeness").await["complete"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_uses_does_not_feed_itself_and_uses_outlive_a_stop() {
    let mut stage = Stage::set().await;
    let mut stream = ask(&stage.root, "/v1/tail", &[("q", "kind:access")]).await;
    json_of(&stage.user("dora"), "/v1/histogram", &[("q", "verb:first")]).await;
    let mut said = String::new();
    until_said(&mut stream, &mut said, "verb:first").await;
    json_of(&stage.user("dora"), "/v1/histogram", &[("q", "verb:second")]).await;
    until_said(&mut stream, &mut said, "verb:second").await;
    assert!(said.matches("\"route\":\"/v1/tail\"").count() <= 1, "{said}");
    assert!(said.matches("event: event").count() <= 10, "{said}");
    json_of(&stage.user("dora"), "/v1/histogram", &[("q", "verb:last")]).await;
    drop(stream);
    assert!(stage.server.stop().await.success());
    stage.server.forget_address();
    stage.server.run().await;
    used(&stage.server.call(), "kind:access user:dora event.query:\"verb:last\"").await;
}
