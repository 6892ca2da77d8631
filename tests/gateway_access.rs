//! Who gets into the Kubernetes API of the built binary, as whom, and what they may do there.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{fs, path::Path};

use api::gateway::authn::signing_key::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use reqwest::{Certificate, Identity, Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Figures, Server, eventually};

async fn send(caller: &Caller, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap_or_default())
}

async fn get(caller: &Caller, path: &str) -> (StatusCode, Value) {
    send(caller, Method::GET, path, Value::Null).await
}

/// A file of static tokens: each user's token is its name with `-token` behind it.
fn token_file(folder: &Path) -> String {
    let path = folder.join("tokens.csv");
    fs::write(&path, "alice-token,alice,1,\"dev\"\nroot-token,root,2,\"system:masters\"\nbob-token,bob,3\n")
        .unwrap();
    path.to_str().unwrap().to_owned()
}

/// The newest event that a query finds.
async fn event(caller: &Caller, query: &str) -> Value {
    eventually(query, async || {
        let request = caller.get("/v1/events").query(&[("q", query), ("limit", "1")]);
        let found: Value = request.send().await.unwrap().json().await.unwrap();
        found["items"].get(0).map(|item| item["event"].clone())
    })
    .await
}

/// An authority, and what makes clients of it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn client(&self, name: &str, group: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity::from_pem(format!("{}{}", certificate.pem(), key.serialize_pem()).as_bytes()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_says_who_somebody_is() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let file = folder.path().join("clients.pem");
    fs::write(&file, ours.0.pem()).unwrap();
    let server = Server::start(&["--client-ca-file", file.to_str().unwrap()]).await;
    let ca = fs::read(server.data().join("ca.pem")).unwrap();
    let with = |identity: Identity| {
        let ca = Certificate::from_pem(&ca).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
        server.call().with_token("").with_http(http)
    };
    let (status, _) = get(&with(ours.client("root", "system:masters")), "/api/v1/pods").await;
    assert_eq!(status, StatusCode::OK);
    let (status, refused) = get(&with(ours.client("alice", "dev")), "/api/v1/secrets").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert_eq!(
        refused["message"],
        "secrets is forbidden: User \"alice\" cannot list resource \"secrets\" in API group \"\" at the cluster scope"
    );
    let (status, _) = get(&with(theirs.client("root", "system:masters")), "/api/v1/nodes").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "somebody else signed it");

    let caller = server.call();
    let seen = event(&caller, "cluster:local resource:pods user:root stage:ResponseComplete").await;
    assert_eq!(seen["user"]["groups"], json!(["system:masters", "system:authenticated"]));
    assert!(seen["user"]["extra"].to_string().contains("X509SHA256="), "{seen}");
    let seen = event(&caller, "cluster:local resource:nodes code:401").await;
    assert_eq!(seen["stage"], "ResponseStarted");
    assert_eq!(seen["responseStatus"]["message"], "Authentication failed, attempted: x509");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_token_says_who_somebody_is_and_its_file_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path());
    let server = Server::start(&["--token-auth-file", &file]).await;
    let root = server.call().with_token("root-token");
    assert_eq!(get(&root, "/api/v1/pods").await.0, StatusCode::OK);
    let carol = server.call().with_token("carol-token");
    assert_eq!(get(&carol, "/api/v1/pods").await.0, StatusCode::UNAUTHORIZED);
    fs::write(&file, "carol-token,carol,9,system:masters\n").unwrap();
    eventually("the changed file in force", async || {
        (get(&carol, "/api/v1/pods").await.0 == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(get(&root, "/api/v1/pods").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_of_tokens_ends_the_start_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.csv");
    fs::write(&file, "good,alice,1\nbad,bob\n").unwrap();
    let mut server = Server::stopped(&["--token-auth-file", file.to_str().unwrap()]);
    server.spawn();
    assert_eq!(server.ended().await.code(), Some(2));
    assert!(server.log().contains("tokens.csv: line 2: expected token,user,uid"), "{}", server.log());
    assert!(!server.data().exists(), "nothing was opened");
}

/// The public half of a key as a JWK set, by way of its certificate request's DER.
fn jwks(pair: &KeyPair) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    // An uncompressed point: 4, x, y.
    let point = pair.public_key_raw();
    let (x, y) = point[1..].split_at(32);
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": part(x), "y": part(y) }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_of_the_issuer_says_who_somebody_is() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let (key, file) =
        (SigningKey::parse(pair.serialize_pem().as_bytes()).unwrap(), folder.path().join("jwks"));
    fs::write(&file, jwks(&pair).to_string()).unwrap();
    let issuer = "https://login.example.com";
    let server = Server::start(&[
        "--oidc-issuer-url",
        issuer,
        "--oidc-client-id",
        "kubernetes",
        "--oidc-jwks-file",
        file.to_str().unwrap(),
        "--oidc-username-prefix",
        "sso:",
        "--oidc-groups-claim",
        "groups",
        "--oidc-groups-prefix",
        "sso:",
        "--oidc-signing-algs",
        "ES256",
    ])
    .await;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let token = |audience: &str, end: u64| {
        let claims = json!({ "iss": issuer, "aud": audience, "sub": "dora", "groups": ["ops"], "exp": end });
        server.call().with_token(&key.sign(&claims).unwrap())
    };
    let (status, refused) = get(&token("kubernetes", now + 600), "/api/v1/pods").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(refused["message"].as_str().unwrap().contains("User \"sso:dora\" cannot list"), "{refused}");
    assert_eq!(get(&token("another", now + 600), "/api/v1/pods").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get(&token("kubernetes", now - 600), "/api/v1/pods").await.0, StatusCode::UNAUTHORIZED);
    let seen = event(&server.call(), "cluster:local user:\"sso:dora\" code:403").await;
    assert_eq!(seen["user"]["groups"], json!(["sso:ops", "system:authenticated"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_is_slowed_and_counted() {
    let mut server = Server::start(&[]).await;
    let stranger = server.call().with_token("guess");
    let syncs =
        async || Figures::of(&server.call()).await.get("muniment_journal_sync_seconds_count").unwrap();
    let before = syncs().await;
    let mut slowed = 0;
    for _ in 0..120 {
        let response = stranger.get("/api/v1/secrets").send().await.unwrap();
        match response.status() {
            StatusCode::UNAUTHORIZED => {}
            StatusCode::TOO_MANY_REQUESTS => {
                assert_eq!(response.headers()["retry-after"], "1");
                slowed += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(slowed > 0, "120 guesses in a row are more than an address has");
    let cost = syncs().await - before;
    assert!(
        cost <= 50.0,
        "120 guesses cost {cost} syncs: twenty of each code, and what else happened meanwhile"
    );
    // What was counted is recorded at the end, too.
    assert!(server.stop().await.success());
    server.run().await;
    let caller = server.call();
    caller.until_count("cluster:local resource:secrets code:401", 20).await;
    caller.until_count("kind:pipeline \"with 401\"", 1).await;
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_acts_as_somebody_else_and_is_recorded_as_both() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--token-auth-file", &token_file(folder.path())]).await;
    let root = server.call().with_token("root-token");
    let acts = async |caller: &Caller, path: &str, user: &str| {
        let request = caller.get(path).header("impersonate-user", user).header("impersonate-group", "dev");
        let response = request.send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let (status, refused) = acts(&root, "/api/v1/pods", "carol").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "pods is forbidden: User \"carol\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    let alice = server.call().with_token("alice-token");
    let (status, refused) = acts(&alice, "/api/v1/nodes", "root").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "users \"root\" is forbidden: User \"alice\" cannot impersonate resource \"users\" in API group \"\" at the \
         cluster scope"
    );
    let caller = server.call();
    let seen = event(&caller, "cluster:local resource:pods user:root stage:ResponseComplete").await;
    assert_eq!(
        seen["impersonatedUser"],
        json!({"username": "carol", "groups": ["dev", "system:authenticated"]})
    );
    assert_eq!(seen["annotations"]["authorization.k8s.io/decision"], "forbid");
    let seen = event(&caller, "cluster:local resource:nodes user:alice stage:ResponseComplete").await;
    assert_eq!((&seen["impersonatedUser"], &seen["annotations"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_holds_its_place_until_its_reader_goes() {
    let server = Server::start(&["--max-watches", "1"]).await;
    let caller = server.call();
    let watch = async || caller.get("/api/v1/configmaps?watch=true").send().await.unwrap();
    let first = watch().await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = watch().await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(second.json::<Value>().await.unwrap()["reason"], "TooManyRequests");
    assert_eq!(get(&caller, "/api/v1/configmaps").await.0, StatusCode::OK, "reads have their own places");
    drop(first);
    eventually("a free place", async || (watch().await.status() == StatusCode::OK).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_for_too_much_is_told_when_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(&["--token-auth-file", &token_file(folder.path()), "--max-user-rate", "1"]).await;
    let root = server.call().with_token("root-token");
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(root.get("/api/v1/pods").send().await.unwrap().status().as_u16());
    }
    assert!(codes.starts_with(&[200, 200]) && codes.contains(&429), "{codes:?}");
    assert_eq!(get(&server.call(), "/api/v1/pods").await.0, StatusCode::OK, "another user is another matter");
    let seen = event(&server.call(), "cluster:local user:root code:429").await;
    assert_eq!(seen["responseStatus"]["reason"], "TooManyRequests");
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Binds a ClusterRole to a user in a namespace, or everywhere where it is empty.
async fn bind(caller: &Caller, namespace: &str, role: &str, user: &str) -> (StatusCode, Value) {
    let (kind, path) = match namespace {
        "" => ("ClusterRoleBinding", format!("{RBAC}/clusterrolebindings")),
        namespace => ("RoleBinding", format!("{RBAC}/namespaces/{namespace}/rolebindings")),
    };
    let body = json!({
        "kind": kind, "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": { "name": format!("{user}-{role}") },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    send(caller, Method::POST, &path, body).await
}

async fn make_namespace(caller: &Caller, name: &str) {
    let body = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
    let (status, made) = send(caller, Method::POST, "/api/v1/namespaces", body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
}

/// Waits until a GET gives this status.
async fn until(caller: &Caller, path: &str, expected: StatusCode) {
    eventually(path, async || (get(caller, path).await.0 == expected).then_some(())).await;
}

/// Waits until the roles of every cluster are there and gathered.
async fn until_gathered(caller: &Caller) {
    eventually("gathered roles", async || {
        let (_, admin) = get(caller, &format!("{RBAC}/clusterroles/admin")).await;
        (admin["rules"].as_array()?.len() > 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_roles_say_who_may_do_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--token-auth-file", &token_file(folder.path())]).await;
    let (root, alice) = (server.call(), server.call().with_token("alice-token"));
    until_gathered(&root).await;
    for name in ["shop", "bank"] {
        make_namespace(&root, name).await;
    }
    // Everybody who is known may see what is served.
    until(&alice, "/apis", StatusCode::OK).await;
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    assert_eq!(get(&alice, &pods("shop")).await.0, StatusCode::FORBIDDEN);
    let (status, made) = bind(&root, "shop", "edit", "alice").await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    until(&alice, &pods("shop"), StatusCode::OK).await;
    for path in [pods("bank"), "/api/v1/configmaps".to_owned(), "/api/v1/nodes".to_owned()] {
        assert_eq!(get(&alice, &path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let body = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "a" } });
    assert_eq!(send(&alice, Method::POST, &pods("shop"), body).await.0, StatusCode::CREATED);
    let mut seen = event(&root, "cluster:local user:alice verb:create stage:ResponseComplete").await;
    let decisions = seen["annotations"].as_object_mut().unwrap().remove("admission.muniment.io/decisions");
    assert!(decisions.is_some_and(|told| told.as_str().unwrap().contains("NamespaceLifecycle")));
    assert_eq!(
        seen["annotations"],
        json!({
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason":
                "RBAC: allowed by RoleBinding \"alice-edit/shop\" of ClusterRole \"edit\" to User \"alice\"",
        })
    );
    let (status, _) =
        send(&root, Method::DELETE, &format!("{RBAC}/namespaces/shop/rolebindings/alice-edit"), Value::Null)
            .await;
    assert_eq!(status, StatusCode::OK);
    until(&alice, &pods("shop"), StatusCode::FORBIDDEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_what_they_do_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--token-auth-file", &token_file(folder.path())]).await;
    let (root, alice) = (server.call(), server.call().with_token("alice-token"));
    until_gathered(&root).await;
    make_namespace(&root, "shop").await;
    bind(&root, "shop", "admin", "alice").await;
    let roles = format!("{RBAC}/namespaces/shop/roles");
    until(&alice, &roles, StatusCode::OK).await;

    let role = |name: &str, resource: &str, verbs: Value| {
        json!({
            "kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": name },
            "rules": [{ "apiGroups": [""], "resources": [resource], "verbs": verbs }],
        })
    };
    let (status, made) =
        send(&alice, Method::POST, &roles, role("reader", "configmaps", json!(["get"]))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, refused) =
        send(&alice, Method::POST, &roles, role("more", "nodes", json!(["get", "list"]))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused["message"],
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"alice\" (groups=[\"dev\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    // Nor by what one server reads and another does not.
    let mut odd = role("odd", "nodes", json!(["get"]));
    odd["rules"] = json!([{ "verbs": null }, { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    assert_eq!(send(&alice, Method::POST, &roles, odd).await.0, StatusCode::FORBIDDEN);
    // Neither by a change, nor by a patch, nor by a binding.
    let one = format!("{roles}/reader");
    let mut changed = made.clone();
    changed["rules"][0]["resources"] = json!(["nodes"]);
    assert_eq!(send(&alice, Method::PUT, &one, changed).await.0, StatusCode::FORBIDDEN);
    let patch = alice.request(Method::PATCH, &one).header("content-type", "application/json-patch+json");
    let patch = patch.body(r#"[{"op":"replace","path":"/rules/0/verbs","value":["*"]}]"#);
    assert_eq!(patch.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(bind(&alice, "shop", "cluster-admin", "alice").await.0, StatusCode::FORBIDDEN);
    assert_eq!(bind(&alice, "shop", "nothing", "alice").await.0, StatusCode::NOT_FOUND);
    assert_eq!(bind(&alice, "shop", "view", "bob").await.0, StatusCode::CREATED);

    // Whoever may bind a role may do so without having it.
    let binder = json!({
        "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": "binder" },
        "rules": [{
            "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
            "resourceNames": ["cluster-admin"],
        }],
    });
    let (status, made) = send(&root, Method::POST, &format!("{RBAC}/clusterroles"), binder).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    bind(&root, "shop", "binder", "alice").await;
    eventually("the verb bind", async || {
        (bind(&alice, "shop", "cluster-admin", "bob").await.0 == StatusCode::CREATED).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_gather_others_by_their_labels() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--token-auth-file", &token_file(folder.path())]).await;
    let (root, alice) = (server.call(), server.call().with_token("alice-token"));
    until_gathered(&root).await;
    bind(&root, "", "view", "alice").await;
    until(&alice, "/api/v1/pods", StatusCode::OK).await;
    assert_eq!(get(&alice, "/api/v1/nodes").await.0, StatusCode::FORBIDDEN);
    let more = json!({
        "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": { "name": "see-nodes", "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
        "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["list"] }],
    });
    let (status, made) = send(&root, Method::POST, &format!("{RBAC}/clusterroles"), more).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    until(&alice, "/api/v1/nodes", StatusCode::OK).await;
    send(&root, Method::DELETE, &format!("{RBAC}/clusterroles/see-nodes"), Value::Null).await;
    until(&alice, "/api/v1/nodes", StatusCode::FORBIDDEN).await;
}

/// What a review is answered with.
async fn review(caller: &Caller, group: &str, plural: &str, kind: &str, spec: Value) -> Value {
    let body = json!({ "kind": kind, "apiVersion": format!("{group}/v1"), "spec": spec });
    let (status, made) = send(caller, Method::POST, &format!("/apis/{group}/v1/{plural}"), body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_say_who_somebody_is_and_what_they_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--token-auth-file", &token_file(folder.path())]).await;
    let (root, alice) = (server.call(), server.call().with_token("alice-token"));
    until_gathered(&root).await;
    make_namespace(&root, "shop").await;
    bind(&root, "shop", "view", "alice").await;
    until(&alice, "/api/v1/namespaces/shop/pods", StatusCode::OK).await;

    let (_, me) = send(
        &alice,
        Method::POST,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        json!({ "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1" }),
    )
    .await;
    let alice_info = json!({ "username": "alice", "uid": "1", "groups": ["dev", "system:authenticated"] });
    assert_eq!(me["status"]["userInfo"], alice_info);

    let authorization = "authorization.k8s.io";
    let asks = |namespace: &str, verb: &str| json!({ "resourceAttributes": { "namespace": namespace, "verb": verb, "resource": "pods" } });
    let own = async |spec: Value| {
        review(&alice, authorization, "selfsubjectaccessreviews", "SelfSubjectAccessReview", spec).await
    };
    let allowed = own(asks("shop", "list")).await;
    assert_eq!(allowed["allowed"], true);
    assert!(allowed["reason"].as_str().unwrap().contains("RoleBinding \"alice-view/shop\""), "{allowed}");
    assert_eq!(own(asks("shop", "create")).await, json!({ "allowed": false }));
    assert_eq!(own(asks("bank", "list")).await, json!({ "allowed": false }));
    let path = json!({ "nonResourceAttributes": { "path": "/apis", "verb": "get" } });
    assert_eq!(own(path).await["allowed"], true);

    let mut of_alice = asks("shop", "list");
    of_alice["user"] = "alice".into();
    let other = |plural: &'static str, kind: &'static str| (plural, kind);
    let (plural, kind) = other("subjectaccessreviews", "SubjectAccessReview");
    assert_eq!(review(&root, authorization, plural, kind, of_alice.clone()).await["allowed"], true);
    let local = "/apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews";
    let body = |spec: Value| json!({ "kind": "LocalSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec });
    let (status, made) = send(&root, Method::POST, local, body(of_alice.clone())).await;
    assert_eq!((status, &made["status"]["allowed"]), (StatusCode::CREATED, &json!(true)));
    of_alice["resourceAttributes"]["namespace"] = "bank".into();
    assert_eq!(send(&root, Method::POST, local, body(of_alice)).await.0, StatusCode::UNPROCESSABLE_ENTITY);

    let rules = review(
        &alice,
        authorization,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        json!({ "namespace": "shop" }),
    )
    .await;
    assert!(rules["resourceRules"].as_array().unwrap().len() > 10, "{rules}");
    assert!(rules["nonResourceRules"].to_string().contains("/openapi/*"), "{rules}");

    let authentication = "authentication.k8s.io";
    let token = async |text: &str| {
        review(&root, authentication, "tokenreviews", "TokenReview", json!({ "token": text })).await
    };
    let known = token("alice-token").await;
    assert_eq!((&known["authenticated"], &known["user"]), (&json!(true), &alice_info));
    assert_eq!(token("another").await["error"], "invalid bearer token");
    // Who may not ask is not answered, and nothing of a token is kept.
    let body =
        json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": { "token": "x" } });
    let (status, _) = send(&alice, Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", body).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_has_tokens_that_go_with_it_and_with_what_they_are_bound_to() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    let all = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n";
    fs::write(policy.path(), all).unwrap();
    let server = Server::start(&["--audit-policy-file", policy.path().to_str().unwrap()]).await;
    let root = server.call();
    until_gathered(&root).await;
    make_namespace(&root, "shop").await;
    let accounts = "/api/v1/namespaces/shop/serviceaccounts";
    let named =
        |kind: &str, name: &str| json!({ "kind": kind, "apiVersion": "v1", "metadata": { "name": name } });
    let (status, account) = send(&root, Method::POST, accounts, named("ServiceAccount", "web")).await;
    assert_eq!(status, StatusCode::CREATED, "{account}");
    send(&root, Method::POST, "/api/v1/namespaces/shop/secrets", named("Secret", "s")).await;
    let request = async |spec: Value| {
        let body = json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec });
        send(&root, Method::POST, &format!("{accounts}/web/token"), body).await
    };
    let (status, made) = request(json!({ "expirationSeconds": 600 })).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["expirationSeconds"], 600);
    assert!(made["status"]["expirationTimestamp"].as_str().unwrap().ends_with('Z'), "{made}");
    let web = root.with_token(made["status"]["token"].as_str().unwrap());
    let (status, refused) = get(&web, "/api/v1/namespaces/shop/pods").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        refused["message"].as_str().unwrap().contains("User \"system:serviceaccount:shop:web\""),
        "{refused}"
    );

    let bound = json!({ "boundObjectRef": { "kind": "Secret", "apiVersion": "v1", "name": "s" } });
    let (_, made) = request(bound).await;
    let bound = root.with_token(made["status"]["token"].as_str().unwrap());
    assert_eq!(get(&bound, "/apis").await.0, StatusCode::OK);
    for (spec, code) in [
        (json!({ "expirationSeconds": 1 }), 422),
        (json!({ "boundObjectRef": { "kind": "Secret", "apiVersion": "v1", "name": "none" } }), 404),
        (json!({ "boundObjectRef": { "kind": "ConfigMap", "apiVersion": "v1", "name": "s" } }), 400),
    ] {
        assert_eq!(request(spec.clone()).await.0.as_u16(), code, "{spec}");
    }
    // What was verified counts for ten seconds more.
    send(&root, Method::DELETE, "/api/v1/namespaces/shop/secrets/s", Value::Null).await;
    until(&bound, "/apis", StatusCode::UNAUTHORIZED).await;
    assert_eq!(get(&web, "/apis").await.0, StatusCode::OK);
    send(&root, Method::DELETE, &format!("{accounts}/web"), Value::Null).await;
    until(&web, "/apis", StatusCode::UNAUTHORIZED).await;

    let seen = event(&root, "cluster:local resource:serviceaccounts sub:token code:201").await;
    let id = &seen["annotations"]["authentication.kubernetes.io/issued-credential-id"];
    assert!(id.as_str().unwrap().starts_with("JTI="), "{seen}");
    assert_eq!(seen["responseObject"]["kind"], "TokenRequest", "{seen}");
    for holder in [&web, &bound] {
        for name in ["journal", "index"] {
            assert!(!holds(&server.data().join(name), holder.token.as_bytes()), "a token in the {name}");
        }
    }
    assert!(holds(&server.data().join("journal"), b"TokenRequest"), "the search itself finds what is there");
}

/// Whether a file under `folder` holds `needle`.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        // The index may remove a file while it is looked for.
        fs::read(&path).unwrap_or_default().windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_the_gateway_by_the_file_of_the_data_folder() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(&[]).await;
    let file = server.data().join("admin.kubeconfig");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.log().contains("export KUBECONFIG="), "{}", server.log());
    let root = server.call();
    until_gathered(&root).await;
    bind(&root, "", "view", "alice").await;
    let Ok(found) = std::process::Command::new("kubectl").arg("version").arg("--client").output() else {
        return server::skipped("there is no kubectl");
    };
    assert!(found.status.success());
    let kubectl = async |args: &[&str]| {
        let (args, file) = (args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), file.clone());
        let run = move || {
            std::process::Command::new("kubectl").env("KUBECONFIG", file).args(args).output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let said = kubectl(&["auth", "can-i", "--list", "--as", "alice"]).await;
    assert!(said.contains("selfsubjectreviews.authentication.k8s.io") && said.contains("pods/log"), "{said}");
    assert_eq!(kubectl(&["auth", "can-i", "delete", "pods", "--as", "alice"]).await.trim(), "no");
    assert_eq!(kubectl(&["auth", "can-i", "list", "pods", "--as", "alice"]).await.trim(), "yes");
    let said = kubectl(&["get", "pods", "--token", "another"]).await;
    assert!(said.contains("You must be logged in to the server"), "the token that is given counts: {said}");
    let said = kubectl(&["auth", "whoami"]).await;
    assert!(said.contains("muniment:token:") && said.contains("system:masters"), "{said}");
}
