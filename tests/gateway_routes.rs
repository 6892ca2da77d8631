//! Every route and verb that the Kubernetes API of the built binary tells of: none is open to strangers, none to those
//! who have no role for it, none of it reaches from one namespace into another, and each leaves its record.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
};

use api::access::table::{Need, Row, TABLE};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// Wrong credentials that one address may show at once without waiting.
const GUESSES: usize = 40;

/// What everybody who is known may do.
const BASIC: [&str; 3] = ["selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"];

/// Something that can be asked.
#[derive(Clone, Debug)]
struct Route {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    method: Method,
    path: String,
    namespaced: bool,
}

impl Route {
    fn key(&self) -> String {
        format!("{} {}/{}/{}", self.verb, self.group, self.resource, self.subresource)
    }

    /// The request, which changes nothing whoever sends it.
    async fn ask(&self, caller: &Caller) -> StatusCode {
        let request = caller.request(self.method.clone(), &self.path);
        let request = match self.method {
            Method::POST | Method::PUT => request.json(&json!({})),
            Method::PATCH => request.header("content-type", "application/merge-patch+json").body("{}"),
            _ => request,
        };
        request.send().await.unwrap().status()
    }
}

/// Everything that a document of discovery lists. Objects are asked for in the namespace `bank`.
fn routes(list: &Value) -> Vec<Route> {
    let version = list["groupVersion"].as_str().unwrap();
    let (root, group) = match version.split_once('/') {
        Some((group, _)) => (format!("/apis/{version}"), group),
        None => (format!("/api/{version}"), ""),
    };
    let mut routes = Vec::new();
    for entry in list["resources"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let (resource, subresource) = name.split_once('/').unwrap_or((name, ""));
        let namespaced = entry["namespaced"] == true;
        let place = if namespaced { "/namespaces/bank" } else { "" };
        let collection = format!("{root}{place}/{resource}");
        let behind = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        let one = format!("{collection}/none{behind}");
        for verb in entry["verbs"].as_array().unwrap() {
            let verb = verb.as_str().unwrap();
            let (method, path) = match verb {
                "get" => (Method::GET, one.clone()),
                "list" => (Method::GET, collection.clone()),
                "watch" => (Method::GET, format!("{collection}?watch=true&timeoutSeconds=1")),
                "create" if subresource.is_empty() => (Method::POST, format!("{collection}?dryRun=All")),
                "create" => (Method::POST, format!("{one}?dryRun=All")),
                "update" => (Method::PUT, format!("{one}?dryRun=All")),
                "patch" => (Method::PATCH, format!("{one}?dryRun=All")),
                "delete" => (Method::DELETE, format!("{one}?dryRun=All")),
                "deletecollection" => (Method::DELETE, format!("{collection}?dryRun=All")),
                other => panic!("{name} has the verb {other}, which this test does not know"),
            };
            let (verb, group) = (verb.to_owned(), group.to_owned());
            let (resource, subresource) = (resource.to_owned(), subresource.to_owned());
            routes.push(Route { verb, group, resource, subresource, method, path, namespaced });
        }
    }
    routes
}

/// Every route of every group, and the paths of the documents themselves.
async fn discover(caller: &Caller) -> (Vec<Route>, Vec<String>) {
    let mut paths: Vec<String> =
        ["/api", "/apis", "/version", "/openapi/v2", "/openapi/v3", "/api/v1"].map(str::to_owned).into();
    let mut all = routes(&caller.json("/api/v1").await);
    for group in caller.json("/apis").await["groups"].as_array().unwrap() {
        paths.push(format!("/apis/{}", group["name"].as_str().unwrap()));
        for version in group["versions"].as_array().unwrap() {
            let path = format!("/apis/{}", version["groupVersion"].as_str().unwrap());
            all.extend(routes(&caller.json(&path).await));
            paths.push(path);
        }
    }
    (all, paths)
}

/// What has a record of its end, as [`Route::key`] writes it.
async fn recorded(caller: &Caller, query: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let mut request = caller.get("/v1/events").query(&[("q", query), ("limit", "500")]);
        if !cursor.is_empty() {
            request = request.query(&[("cursor", cursor.as_str())]);
        }
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        for item in page["items"].as_array().unwrap_or_else(|| panic!("{page}")) {
            let (event, text) =
                (&item["event"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
            let of = &event["objectRef"];
            let (group, resource) = (text(&of["apiGroup"]), text(&of["resource"]));
            keys.insert(format!("{} {group}/{resource}/{}", text(&event["verb"]), text(&of["subresource"])));
        }
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return keys,
        }
    }
}

/// Strangers who call from ever new addresses, so that none of them is slowed before it is refused.
struct Strangers {
    caller: Caller,
    authority: Vec<u8>,
    asked: usize,
}

impl Strangers {
    fn next(&mut self) -> Caller {
        if self.asked.is_multiple_of(GUESSES) {
            let host = u8::try_from(2 + self.asked / GUESSES).unwrap();
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
            let authority = Certificate::from_pem(&self.authority).unwrap();
            let http = reqwest::Client::builder().tls_certs_only([authority]).local_address(address);
            self.caller = self.caller.with_http(http.build().unwrap());
        }
        self.asked += 1;
        self.caller.clone()
    }
}

/// Asks for a route of our own interface, with nothing that could be done.
async fn ask(caller: &Caller, row: &Row) -> StatusCode {
    let nil = "00000000-0000-0000-0000-000000000000";
    let path = row.path.replace("{id}", nil).replace("{cluster}", "local");
    let request = caller.request(row.method.parse().unwrap(), &path);
    let request = if row.method == "POST" { request.json(&json!({})) } else { request };
    request.send().await.unwrap().status()
}

/// The same of our own interface: alice sees her part of the events, and nothing else is for her.
async fn own_interface(operator: &Caller, strangers: &mut Strangers, alice: &Caller, root: &Caller) {
    let rows = TABLE.iter().filter(|row| row.need != Need::Nothing);
    let mut expected = BTreeSet::new();
    for row in rows {
        let answered = ask(&strangers.next(), row).await;
        assert_eq!(answered, StatusCode::UNAUTHORIZED, "a stranger: {row:?}");
        let answered = ask(alice, row).await;
        assert_eq!(
            answered != StatusCode::FORBIDDEN,
            row.need == Need::Events,
            "alice got {answered}: {row:?}"
        );
        let answered = ask(root, row).await;
        let is_let_in = ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS]
            .contains(&answered);
        assert!(is_let_in, "root got {answered}: {row:?}");
        if row.is_recorded {
            expected.insert(format!("{} {}", row.verb, row.path));
        }
    }
    let mut missing = expected.clone();
    eventually("a record of each use", async || {
        let request = operator.get("/v1/events").query(&[("q", "kind:access user:root"), ("limit", "500")]);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        for item in page["items"].as_array().unwrap_or_else(|| panic!("{page}")) {
            let text = |name: &str| item["event"][name].as_str().unwrap_or_default().to_owned();
            missing.remove(&format!("{} {}", text("verb"), text("route")));
        }
        if !missing.is_empty() {
            eprintln!("no record yet of {missing:?}");
        }
        missing.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_authenticated_authorized_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, policy) = (folder.path().join("tokens.csv"), folder.path().join("policy.yaml"));
    fs::write(&tokens, "alice-token,alice,1\nroot-token,root,2,system:masters\n").unwrap();
    fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").unwrap();
    let server = Server::start(&[
        "--token-auth-file",
        tokens.to_str().unwrap(),
        "--audit-policy-file",
        policy.to_str().unwrap(),
    ])
    .await;
    let operator = server.call();
    let (root, alice) = (operator.with_token("root-token"), operator.with_token("alice-token"));
    for name in ["shop", "bank"] {
        let body = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
        let made = operator.request(Method::POST, "/api/v1/namespaces").json(&body).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
    }
    // Everything in one namespace, and nothing elsewhere.
    let binding = json!({
        "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": "alice" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice" }],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
    let made = operator.request(Method::POST, path).json(&binding).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    eventually("alice's own namespace", async || {
        let pods = alice.get("/api/v1/namespaces/shop/pods").send().await.unwrap();
        (pods.status() == StatusCode::OK).then_some(())
    })
    .await;

    let (routes, paths) = discover(&operator).await;
    assert!(routes.len() > 400, "{} routes are too few: the test looks in the wrong place", routes.len());
    let authority = fs::read(server.data().join("ca.pem")).unwrap();
    let mut strangers = Strangers { caller: operator.with_token(""), authority, asked: 0 };
    for path in &paths {
        let answered = strangers.next().get(path).send().await.unwrap();
        assert_eq!(answered.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for route in &routes {
        assert_eq!(route.ask(&strangers.next()).await, StatusCode::UNAUTHORIZED, "a stranger: {route:?}");
        let expected = BASIC.contains(&route.resource.as_str());
        let answered = route.ask(&alice).await;
        assert_eq!(answered != StatusCode::FORBIDDEN, expected, "alice got {answered}: {route:?}");
        if route.namespaced && route.path.contains("/namespaces/bank/") && route.verb != "create" {
            let mut everywhere = route.clone();
            everywhere.path = route.path.replace("/namespaces/bank/", "/");
            if ["list", "watch", "deletecollection"].contains(&&*route.verb) {
                let answered = everywhere.ask(&alice).await;
                assert_eq!(answered, StatusCode::FORBIDDEN, "alice, over all namespaces: {everywhere:?}");
            }
        }
        let answered = route.ask(&root).await;
        let is_let_in = ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS]
            .contains(&answered);
        assert!(is_let_in, "root got {answered}: {route:?}");
    }
    own_interface(&operator, &mut strangers, &alice, &root).await;
    let expected: BTreeSet<String> = routes.iter().map(Route::key).collect();
    for stage in ["RequestReceived", "ResponseComplete"] {
        let query = format!("cluster:local user:root stage:{stage}");
        let mut missing = expected.clone();
        eventually(&format!("a record {stage} of each route"), async || {
            let found = recorded(&operator, &query).await;
            missing = expected.difference(&found).cloned().collect();
            if missing.len() < 20 && !missing.is_empty() {
                eprintln!("{stage} is missing for {missing:?}");
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
}
