//! Bad input to the Kubernetes API of the built binary: what is malformed, too large, too slow or one request within
//! another is refused with a Status, and recorded.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use futures::{StreamExt, stream};
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, PATIENCE, Server, eventually};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A request that is refused, and how.
struct Case {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
    code: u16,
    reason: &'static str,
    /// What is wrong, where a single field is.
    field: &'static str,
}

fn case(
    asked: (&str, &str),
    content_type: &'static str,
    body: impl Into<Vec<u8>>,
    told: (u16, &'static str, &'static str),
) -> Case {
    let ((method, path), (code, reason, field)) = (asked, told);
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    Case { method, path: path.to_owned(), content_type, body: body.into(), code, reason, field }
}

fn cases() -> Vec<Case> {
    let map =
        |more: &str| format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a"}}{more}}}"#);
    let merge = "application/merge-patch+json";
    let json_patch = "application/json-patch+json";
    let one = &format!("{CONFIG_MAPS}/a")[..];
    let query = |text: &str| format!("{CONFIG_MAPS}?{text}");
    let pod =
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}"#;
    let service =
        r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"s"},"spec":{"ports":[{"port":70000}]}}"#;
    let secret = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"data":{"a b":"eA=="}}"#;
    let role = r#"{"kind":"Role","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r"},"rules":[{"resources":["pods"],"apiGroups":[""]}]}"#;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let large = map(&format!(r#","data":{{"x":"{}"}}"#, "x".repeat(3 * 1024 * 1024)));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bad = (400, "BadRequest", "");
    vec![
        case(("POST", CONFIG_MAPS), JSON, "{", bad),
        case(("POST", CONFIG_MAPS), JSON, "", bad),
        case(("POST", CONFIG_MAPS), JSON, deep, bad),
        case(("POST", CONFIG_MAPS), JSON, b"{\"kind\":\"\xff\"}".to_vec(), bad),
        case(("POST", CONFIG_MAPS), JSON, map(r#","data":5"#), bad),
        case(("POST", CONFIG_MAPS), JSON, pod, bad),
        case(("POST", &query("fieldValidation=Strict")), JSON, map(r#","datum":{}"#), bad),
        case(("POST", CONFIG_MAPS), "application/yaml", "kind: [", bad),
        case(("POST", CONFIG_MAPS), PROTOBUF, "k8s\0\u{7f}", bad),
        case(("POST", CONFIG_MAPS), PROTOBUF, "nothing of the kind", bad),
        case(("POST", CONFIG_MAPS), "text/plain", map(""), (415, "UnsupportedMediaType", "")),
        case(("POST", CONFIG_MAPS), JSON, large, (413, "RequestEntityTooLarge", "")),
        case(
            ("POST", CONFIG_MAPS),
            JSON,
            map("").replace("\"a\"", "\"A\""),
            (422, "Invalid", "metadata.name"),
        ),
        case(("POST", PODS), JSON, pod, (422, "Invalid", "spec.containers[0].image")),
        case(
            ("POST", "/api/v1/namespaces/default/services"),
            JSON,
            service,
            (422, "Invalid", "spec.ports[0].port"),
        ),
        case(("POST", "/api/v1/namespaces/default/secrets"), JSON, secret, (422, "Invalid", "data[a b]")),
        case(("POST", roles), JSON, role, (422, "Invalid", "rules[0].verbs")),
        case(
            ("PATCH", one),
            merge,
            r#"{"metadata":{"labels":{"-":"x"}}}"#,
            (422, "Invalid", "metadata.labels"),
        ),
        case(("PATCH", one), merge, "[", bad),
        case(
            ("PATCH", one),
            json_patch,
            r#"[{"op":"replace","path":"/data/none","value":"x"}]"#,
            (422, "Invalid", ""),
        ),
        case(("PATCH", one), "application/nothing", "{}", (415, "UnsupportedMediaType", "")),
        case(("PUT", one), JSON, map("").replace("\"a\"", "\"b\""), bad),
        case(
            ("PUT", one),
            JSON,
            map("").replace("\"a\"", "\"a\",\"resourceVersion\":\"1\""),
            (409, "Conflict", ""),
        ),
        case(("POST", CONFIG_MAPS), JSON, map(""), (409, "AlreadyExists", "")),
        case(("DELETE", one), JSON, r#"{"preconditions":{"uid":"other"}}"#, (409, "Conflict", "")),
        case(("DELETE", one), JSON, "{", bad),
        case(("GET", &query("limit=many")), JSON, "", bad),
        case(("GET", &query("labelSelector=a==b==c")), JSON, "", bad),
        case(("GET", &query("fieldSelector=data=x")), JSON, "", bad),
        case(("GET", &query("continue=nonsense")), JSON, "", bad),
        case(("GET", &query("watch=true&resourceVersion=none")), JSON, "", bad),
        case(("GET", "/api/v1/namespaces/default/configmaps/none"), JSON, "", (404, "NotFound", "")),
        case(("GET", "/apis/none.example.org/v1/things"), JSON, "", (404, "NotFound", "")),
        case(("GET", "/api/v1/namespaces/default/configmaps/a/b/c/d"), JSON, "", (404, "NotFound", "")),
        case(("DELETE", "/api/v1/componentstatuses/a"), JSON, "", (405, "MethodNotAllowed", "")),
        case(("OPTIONS", CONFIG_MAPS), JSON, "", (405, "MethodNotAllowed", "")),
    ]
}

/// The codes of the closing records under an audit id, once there is one.
async fn until_recorded(caller: &Caller, audit_id: &str) -> Vec<Value> {
    eventually("a closing record", async || {
        let found = caller.json(&format!("/v1/events?q=audit_id:{audit_id}%20stage:ResponseComplete")).await;
        let items = found["items"].as_array().unwrap().iter();
        let codes: Vec<Value> = items.map(|item| item["event"]["responseStatus"]["code"].clone()).collect();
        (!codes.is_empty()).then_some(codes)
    })
    .await
}

#[tokio::test]
async fn every_refusal_is_a_status_with_the_field_and_has_its_record() {
    let server = Server::start(&["--controllers=-*", "--disable-admission-plugins", "ServiceAccount"]).await;
    let caller = server.call();
    let made = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "a" } });
    assert!(
        caller.request(Method::POST, CONFIG_MAPS).json(&made).send().await.unwrap().status().is_success()
    );
    let cases = cases();
    for (n, case) in cases.iter().enumerate() {
        let what = format!("{n}: {} {} {:.60}", case.method, case.path, String::from_utf8_lossy(&case.body));
        let request =
            caller.request(case.method.clone(), &case.path).header("content-type", case.content_type);
        let request = request.header("audit-id", format!("bad-{n}")).body(case.body.clone());
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), case.code, "{what}");
        assert_eq!(response.headers()["content-type"], JSON, "{what}");
        let status: Value = response.json().await.unwrap();
        let told = [&status["kind"], &status["status"], &status["code"], &status["reason"]];
        assert_eq!(
            told,
            [&json!("Status"), &json!("Failure"), &json!(case.code), &json!(case.reason)],
            "{what}"
        );
        assert!(!status["message"].as_str().unwrap().is_empty(), "{what}: {status}");
        if !case.field.is_empty() {
            let causes = status["details"]["causes"].as_array().unwrap_or_else(|| panic!("{what}: {status}"));
            assert!(causes.iter().any(|cause| cause["field"] == case.field), "{what}: {status}");
        }
    }
    for (n, case) in cases.iter().enumerate() {
        let codes = until_recorded(&caller, &format!("bad-{n}")).await;
        assert_eq!(codes, [json!(case.code)], "{n}: {} {}", case.method, case.path);
    }
}

#[tokio::test]
async fn who_sends_too_slowly_is_refused_and_that_is_recorded() {
    let server = Server::start(&["--controllers=-*"]).await;
    let caller = server.call();
    // Neither a handshake nor a head: the connection is closed, and nobody is known to be asking.
    let mut silent = TcpStream::connect(caller.url.trim_start_matches("https://")).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let closed = tokio::task::spawn_blocking(move || silent.read(&mut [0; 16]).unwrap());
    // A body that begins and goes no further.
    let begun = stream::iter([Ok::<_, std::io::Error>("{\"kind\":")]).chain(stream::pending());
    let request = caller.request(Method::POST, CONFIG_MAPS).header("content-type", JSON);
    let request = request.header("audit-id", "slow").body(Body::wrap_stream(begun));
    let answer = tokio::time::timeout(PATIENCE, request.send()).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "Timeout");
    assert_eq!(closed.await.unwrap(), 0, "closed without a word");
    assert_eq!(until_recorded(&caller, "slow").await, [json!(504)]);
}

/// Sends bytes over TLS, and gives all that comes back until the server closes.
fn raw(server: &Server, sent: &str) -> String {
    let address = server.call().url.trim_start_matches("https://").to_owned();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &address, "-CAfile"]);
    command.arg(server.data().join("ca.pem")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("openssl is there, scripts/setup brings it");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(sent.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The status lines in what came back.
fn statuses(answer: &str) -> Vec<&str> {
    let lines = answer.lines().filter(|line| line.starts_with("HTTP/1.1 "));
    lines.map(|line| line["HTTP/1.1 ".len()..].split(' ').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_within_another_is_refused_or_has_to_show_who_sends_it() {
    let server = Server::start(&["--controllers=-*"]).await;
    let caller = server.call();
    let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", caller.token);
    let post = |more: &str| format!("POST {CONFIG_MAPS} HTTP/1.1\r\n{head}Content-Type: {JSON}\r\n{more}");
    let smuggled =
        "DELETE /api/v1/namespaces/smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // What has two meanings, or none, is not read on: the connection ends.
    for more in [
        format!("Content-Length: 5\r\nContent-Length: 0\r\n\r\n{smuggled}"),
        format!("Content-Length: +5\r\n\r\n{smuggled}"),
        format!("Content-Length: 5, 0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: identity\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked, gzip\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{smuggled}"),
        format!("X: a\r\n b\r\n\r\n{smuggled}"),
        format!("X: a\0b\r\n\r\n{smuggled}"),
    ] {
        let answer = raw(&server, &post(&more));
        assert_eq!(statuses(&answer), ["400"], "{more}: {answer}");
    }
    // Where two lengths are given, chunks count, and the connection ends behind them (RFC 9112 section 6.3).
    for (n, lengths) in [
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("two-lengths-{n}");
        let answer = raw(&server, &post(&format!("Audit-ID: {id}\r\n{lengths}\r\n0\r\n\r\n{smuggled}")));
        assert_eq!(statuses(&answer), ["400"], "{lengths}: {answer}");
        assert!(answer.contains("\"reason\":\"BadRequest\""), "{answer}");
        assert_eq!(until_recorded(&caller, &id).await, [json!(400)]);
    }
    // A chunk that is none ends the body, and with it the connection.
    let answer = raw(&server, &post(&format!("Transfer-Encoding: chunked\r\n\r\nzz\r\n{smuggled}")));
    assert_eq!(statuses(&answer), ["400"], "{answer}");
    assert_eq!(caller.count("verb:delete resource:namespaces").await, 0, "nobody asked for that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_means_the_same_to_who_decides_and_to_who_serves() {
    let tokens = tempfile::NamedTempFile::new().unwrap();
    fs::write(tokens.path(), "anna-token,anna,anna\n").unwrap();
    let args = ["--controllers=-*", "--token-auth-file", tokens.path().to_str().unwrap()];
    let server = Server::start(&args).await;
    let root = server.call();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": { "name": "anna" },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": "anna" }],
    });
    assert!(root.request(Method::POST, rbac).json(&binding).send().await.unwrap().status().is_success());
    let anna = root.with_token("anna-token");
    eventually("anna may see her own", async || {
        anna.get(CONFIG_MAPS).send().await.unwrap().status().is_success().then_some(())
    })
    .await;
    for path in [
        "/api/v1/namespaces/default%2f..%2fkube-system/configmaps",
        "/api/v1/namespaces/default/../kube-system/configmaps",
        "/api/v1/namespaces/default/configmaps%2f..%2f..%2fkube-system%2fconfigmaps",
        "/api/v1/namespaces/default/configmaps/..%2f..%2fkube-system%2fconfigmaps",
        "/api/v1/namespaces//kube-system/configmaps",
        "/api/v1/namespaces/kube-system/configmaps?namespace=default",
        "/api/v1/watch/namespaces/kube-system/configmaps",
        "/api/v1/namespaces/kube-system/configmaps/",
        "//api/v1/namespaces/kube-system/configmaps",
        "/API/v1/namespaces/kube-system/configmaps",
        "/api/v1/namespaces/default%00/configmaps",
    ] {
        let answer = raw(
            &server,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer anna-token\r\nConnection: close\r\n\r\n"
            ),
        );
        let status = statuses(&answer);
        assert!(matches!(status[..], ["400" | "401" | "403" | "404"]), "{path}: {answer}");
        assert!(!answer.contains("ConfigMapList"), "{path}: {answer}");
    }
}
