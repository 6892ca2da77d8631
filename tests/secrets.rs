//! Secrets, tokens and keys in every shape that they take in an event are in no byte of journal, topic, ledger and index.
//!
//! Stores compress, so a scan of their files alone proves little: what they hold is read through each of them too, and
//! each scan has to find a text that was planted openly beside the secrets.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/kafka.rs"]
mod kafka_support;
#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::{fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use engines::{Own, unique};
use load::{list, now, page};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::{Value, json};
use server::{Caller, Server};

/// A text that stands openly beside each secret: a scan that does not find it has not looked.
const OPEN: &str = "openly-planted-control-text";

/// The secrets, each of its own so that a failure names the shape.
#[derive(Default)]
struct Planted(Vec<(String, String)>);

impl Planted {
    /// A password of this shape.
    fn password(&mut self, shape: &str) -> String {
        let secret = format!("Pw-{}-{}-zq", self.0.len(), uuid::Uuid::new_v4().simple());
        self.0.push((shape.to_owned(), secret.clone()));
        secret
    }

    /// The same as it stands in a Secret's data.
    fn data(&mut self, shape: &str) -> String {
        let encoded = STANDARD.encode(self.password(shape));
        self.0.push((format!("{shape}, base64"), encoded.clone()));
        encoded
    }

    /// A JSON web token.
    fn jwt(&mut self, shape: &str) -> String {
        let part = |text: &str| STANDARD.encode(text).replace(['+', '/', '='], "");
        let signature = part(&uuid::Uuid::new_v4().simple().to_string());
        let subject = uuid::Uuid::new_v4();
        let token = format!(
            "{}.{}.{signature}",
            part(r#"{"alg":"RS256","kid":"k"}"#),
            part(&format!(r#"{{"sub":"system:serviceaccount:shop:{subject}"}}"#))
        );
        self.0.push((format!("{shape}, signature of a JWT"), signature));
        token
    }

    /// A PEM private key of two lines.
    fn pem(&mut self, shape: &str) -> String {
        let line = STANDARD.encode(uuid::Uuid::new_v4().simple().to_string());
        self.0.push((format!("{shape}, PEM"), line.clone()));
        format!("-----BEGIN PRIVATE KEY-----\nMIIEvQ{line}\n-----END PRIVATE KEY-----\n")
    }

    /// Fails when a secret is among these bytes.
    fn absent_from(&self, place: &str, bytes: &[u8]) {
        for (shape, secret) in &self.0 {
            assert!(!contains(bytes, secret), "{shape} is in {place}");
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

fn event(verb: &str, resource: &str, sub: Option<&str>, more: Value) -> Value {
    let mut reference =
        json!({ "resource": resource, "namespace": "shop", "name": OPEN, "apiVersion": "v1" });
    if let Some(sub) = sub {
        reference["subresource"] = json!(sub);
    }
    let mut event = json!({
        "level": "RequestResponse", "auditID": uuid::Uuid::new_v4(), "stage": "ResponseComplete", "verb": verb,
        "requestURI": format!("/api/v1/namespaces/shop/{resource}/{OPEN}"), "user": { "username": "eve" },
        "objectRef": reference, "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": now(), "stageTimestamp": now(),
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn secret(p: &mut Planted, shape: &str) -> Value {
    let applied = json!({ "kind": "Secret", "stringData": { "password": p.password(&format!("{shape}, last-applied")) } });
    json!({
        "kind": "Secret", "apiVersion": "v1",
        "metadata": { "name": OPEN, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": applied.to_string() } },
        "data": { "password": p.data(&format!("{shape}, data")) },
        "stringData": { "password": p.password(&format!("{shape}, stringData")) },
    })
}

/// A private key in base64 as `base64` prints it, each line a secret of its own.
fn wrapped_key(p: &mut Planted) -> String {
    let body: String = (0..8).map(|_| STANDARD.encode(uuid::Uuid::new_v4().as_bytes()) + "\n").collect();
    let pem = format!(" -----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n");
    let encoded = STANDARD.encode(pem);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let whole = lines.iter().filter(|line| line.len() == 76);
    p.0.extend(whole.map(|line| ("wrapped base64 of a key".to_owned(), (*line).to_owned())));
    lines.join("\n")
}

/// A private key with what looks like a marker within.
fn forged_marker(p: &mut Planted) -> String {
    let marker = format!("$redacted(rule=jwt,len=1,hmac={})", "0".repeat(64));
    let [before, after] = ["before", "after"].map(|side| {
        let line = STANDARD.encode(uuid::Uuid::new_v4().simple().to_string());
        p.0.push((format!("{side} a forged marker"), line.clone()));
        line
    });
    format!("-----BEGIN PRIVATE KEY-----\n{before}\n{marker}\n{after}\n-----END PRIVATE KEY-----\n")
}

fn bodiless(mut object: Value) -> Value {
    object.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    object
}

/// One event for each shape.
fn shapes(p: &mut Planted) -> Vec<Value> {
    let mut events = vec![
        event("create", "secrets", None, json!({ "requestObject": secret(p, "create") })),
        event("get", "secrets", None, json!({ "responseObject": secret(p, "get") })),
        event(
            "update",
            "secrets",
            None,
            json!({ "requestObject": bodiless(secret(p, "named by the reference only")) }),
        ),
        event(
            "list",
            "secrets",
            None,
            json!({ "responseObject": {
            "kind": "SecretList", "apiVersion": "v1", "items": [bodiless(secret(p, "list, 1")), bodiless(secret(p, "list, 2"))] } }),
        ),
        event(
            "list",
            "secrets",
            None,
            json!({ "responseObject": {
            "kind": "List", "apiVersion": "v1", "items": [secret(p, "mixed list")] } }),
        ),
        event(
            "list",
            "secrets",
            None,
            json!({ "responseObject": {
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "rows": [
                { "cells": [OPEN, "Opaque", 1], "object": secret(p, "table") }] } }),
        ),
    ];
    let patches = [
        ("JSON patch", json!([{ "op": "replace", "path": "/data/password", "value": p.data("JSON patch") }])),
        (
            "JSON patch of all data",
            json!([{ "op": "add", "path": "/data", "value": { "password": p.data("JSON patch of all data") } }]),
        ),
        ("merge patch", json!({ "data": { "password": p.data("merge patch") } })),
        ("strategic patch", json!({ "stringData": { "password": p.password("strategic patch") } })),
        ("apply", json!(format!("kind: Secret\nstringData:\n  password: {}\n", p.password("apply as YAML")))),
    ];
    events.extend(
        patches
            .into_iter()
            .map(|(_, body)| event("patch", "secrets", None, json!({ "requestObject": body }))),
    );

    let token = p.jwt("TokenRequest");
    events.push(event(
        "create",
        "serviceaccounts",
        Some("token"),
        json!({ "responseObject": {
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": { "token": token } } }),
    ));
    let opaque = p.password("TokenReview");
    events.push(event(
        "create",
        "tokenreviews",
        None,
        json!({ "requestObject": {
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": { "token": opaque } } }),
    ));

    let (jwt, pem, bearer) = (p.jwt("env value"), p.pem("ConfigMap"), p.jwt("bearer in a command"));
    events.push(event(
        "create",
        "pods",
        None,
        json!({ "requestObject": { "kind": "Pod", "apiVersion": "v1", "spec": {
        "containers": [{ "name": "app", "env": [{ "name": "TOKEN", "value": jwt }],
            "command": ["curl", "-H", format!("Authorization: Bearer {bearer}")] }] } } }),
    ));
    events.push(event(
        "create",
        "configmaps",
        None,
        json!({ "requestObject": {
        "kind": "ConfigMap", "apiVersion": "v1", "data": { "key.pem": pem } } }),
    ));
    let (wrapped, forged) = (wrapped_key(p), forged_marker(p));
    events.push(event(
        "create",
        "configmaps",
        None,
        json!({ "requestObject": {
        "kind": "ConfigMap", "apiVersion": "v1", "data": { "wrapped": wrapped, "forged": forged } } }),
    ));
    let uri = format!("/api/v1/namespaces/shop/pods?access_token={}", p.jwt("URL"));
    events.push(event("list", "pods", None, json!({ "requestURI": uri })));
    let uri =
        format!("/api/v1/namespaces/shop/pods?Access_Token={}", p.password("a parameter in another case"));
    events.push(event("list", "pods", None, json!({ "requestURI": uri })));
    let command = format!("Authorization: bEARer {}", p.password("bearer in another case"));
    let manifest = format!(
        "apiVersion: v1\nkind:\n  Secret\nstringData:\n  k: {}\n",
        p.password("a kind on its own line")
    );
    let encoded: Vec<String> = ["", "x", "token: ", "ab"]
        .iter()
        .map(|before| STANDARD.encode(format!("{before}{}", p.jwt("encoded after other text"))))
        .collect();
    p.0.extend(encoded.iter().map(|e| ("an encoded JWT".to_owned(), e[e.len() - 40..].to_owned())));
    events.push(event(
        "create",
        "configmaps",
        None,
        json!({ "requestObject": {
        "kind": "ConfigMap", "apiVersion": "v1", "data": {
            "command": command, "manifest": manifest, "encoded": encoded } } }),
    ));
    let patch = json!({ "configuration": "c", "webhook": "w", "patchType": "JSONPatch", "patch": [
        { "op": "add", "path": "/data/password", "value": p.data("admission patch") }] });
    events.push(event(
        "create",
        "secrets",
        None,
        json!({ "annotations": {
        "patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string(),
        "validate.nginx.ingress.kubernetes.io/seen": p.password("annotation of a webhook"),
        "policy.example.com/seen": p.password("annotation of a policy") } }),
    ));
    let message =
        format!("Secret in version \"v1\" cannot be handled: token {} is refused", p.jwt("message"));
    events.push(event(
        "create",
        "configmaps",
        None,
        json!({ "responseStatus": { "metadata": {}, "code": 400, "message": message } }),
    ));
    let message =
        format!("Secret \"x\" is invalid: data: Invalid value: {:?}", p.password("message about a Secret"));
    events.push(event(
        "create",
        "secrets",
        None,
        json!({ "responseStatus": { "metadata": {}, "code": 422, "message": message } }),
    ));
    events
}

/// Rules of the operator's own: a kind that no reference names, and a form of text.
const RULES: &str = "
bodies:
- name: vault
  group: vault.example.com
  kind: VaultSecret
  keep: [apiVersion, kind, metadata, spec.path]
  keys: [spec.data]
  base64: [spec.data]
texts:
- name: ticket
  words: [tkt-]
  pattern: tkt-Pw-[A-Za-z0-9-]+
";

/// What only [`RULES`] name.
fn ruled_shapes(p: &mut Planted) -> Vec<Value> {
    let vault = |p: &mut Planted, shape: &str| {
        let applied = json!({ "kind": "VaultSecret", "spec": { "note": p.password(&format!("{shape}, last-applied")) } });
        json!({
            "kind": "VaultSecret", "apiVersion": "vault.example.com/v1",
            "metadata": { "name": OPEN, "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": applied.to_string() } },
            "spec": { "path": OPEN, "data": { "password": p.data(&format!("{shape}, data")) },
                "note": p.password(&format!("{shape}, a member of no name")) },
        })
    };
    let list = json!({ "kind": "VaultSecretList", "apiVersion": "vault.example.com/v1", "items": [
        vault(p, "a ruled kind in a list of its own")] });
    let table = json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "rows": [
        { "cells": [OPEN], "object": vault(p, "a ruled kind in a table") }] });
    let manifest = format!(
        "apiVersion: vault.example.com/v1\nkind: VaultSecret\nspec:\n  note: {}\n",
        p.password("a ruled kind in a manifest")
    );
    let ticket = format!("tkt-{}", p.password("a text of a rule"));
    vec![
        event("create", "vaultsecrets", None, json!({ "requestObject": vault(p, "a ruled kind") })),
        event("list", "vaultsecrets", None, json!({ "responseObject": list })),
        event("list", "vaultsecrets", None, json!({ "responseObject": table })),
        event(
            "create",
            "configmaps",
            None,
            json!({ "requestObject": {
            "kind": "ConfigMap", "apiVersion": "v1", "data": { "manifest": manifest, "ticket": ticket } } }),
        ),
        event("get", "pods", None, json!({ "requestURI": format!("/api/v1/pods?note={ticket}") })),
    ]
}

/// Tables, answers and addresses that quote.
fn quoting_shapes(p: &mut Planted) -> Vec<Value> {
    let metadata = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "name": OPEN, "annotations": { "kubectl.kubernetes.io/last-applied-configuration":
            json!({ "kind": "Secret", "stringData": { "k": p.password("a row's metadata, last-applied") } }).to_string() } } });
    let table = json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{ "name": "Name" }],
        "rows": [
            { "cells": [OPEN, p.password("a cell"), 1], "object": bodiless(secret(p, "a row without a kind")) },
            { "cells": [{ "data": p.password("a cell that is an object") }], "object": metadata },
        ] });
    let status = |p: &mut Planted, shape: &str| {
        json!({
            "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
            "message": format!("Secret \"x\" is invalid: data[k]: Invalid value: {:?}", p.password(&format!("{shape}, message"))),
            "details": { "name": OPEN, "kind": "Secret", "causes": [{
                "reason": "FieldValueInvalid", "field": "data[k]",
                "message": format!("Invalid value: {:?}", p.password(&format!("{shape}, cause"))) }] },
        })
    };
    let mut answer = status(p, "a Status as the answer's body");
    answer["kind"] = json!("Status");
    answer["apiVersion"] = json!("v1");
    let mut unreferenced = event(
        "create",
        "secrets",
        None,
        json!({ "responseStatus": status(p, "a Status without a reference") }),
    );
    unreferenced.as_object_mut().unwrap().remove("objectRef");
    unreferenced["requestURI"] = json!("/api/v1/namespaces/shop/secrets?fieldManager=kubectl");
    unreferenced["requestObject"] = json!({ "metadata": { "name": OPEN } });
    let env = |value: String| {
        json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": OPEN }, "spec": {
            "containers": [{ "name": "app", "env": [{ "name": "KEY", "value": value }] }] } })
    };
    let (lines, one_line) = (p.pem("PEM in an env value"), p.pem("PEM in an env value on one line"));
    let one_line = one_line.replace('\n', "\\n");
    // As Go's QueryEscape and as JavaScript's encodeURIComponent write it.
    let form = p.pem("PEM in a URL, as forms are").replace('\n', "%0A").replace(' ', "+").replace('=', "%3D");
    let component =
        p.pem("PEM in a URL, as components are").replace('\n', "%0A").replace(' ', "%20").replace('=', "%3D");
    let strict = p
        .pem("PEM in a URL, encoded throughout")
        .replace('-', "%2D")
        .replace('\n', "%0A")
        .replace(' ', "%20");
    let dotless = p.jwt("JWT in a URL, encoded throughout").replace('.', "%2E");
    vec![
        event("get", "pods", None, json!({ "requestURI": format!("/api/v1/pods?note={dotless}") })),
        event("list", "secrets", None, json!({ "responseObject": table })),
        event("create", "secrets", None, json!({ "responseStatus": status(p, "a Status") })),
        event("create", "secrets", None, json!({ "responseObject": answer })),
        unreferenced,
        event("create", "pods", None, json!({ "requestObject": env(lines) })),
        event("create", "pods", None, json!({ "requestObject": env(one_line) })),
        event(
            "connect",
            "pods",
            Some("exec"),
            json!({ "requestURI": format!("/api/v1/pods/x/exec?command=echo&command={form}&stdin=true") }),
        ),
        event(
            "connect",
            "pods",
            Some("exec"),
            json!({ "requestURI": format!("/api/v1/pods/x/exec?command={component}&stdin=true") }),
        ),
        event(
            "connect",
            "pods",
            Some("exec"),
            json!({ "requestURI": format!("/api/v1/pods/x/exec?command={strict}&stdin=true") }),
        ),
    ]
}

/// Every shape, with a file of [`RULES`].
fn all_shapes(p: &mut Planted) -> (Vec<Value>, tempfile::NamedTempFile) {
    let events = [shapes(p), ruled_shapes(p), quoting_shapes(p)].concat();
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(&rules, RULES).unwrap();
    (events, rules)
}

/// Every file below, as it lies there.
fn scan_files(planted: &Planted, place: &str, folder: &Path) -> bool {
    let mut seen = false;
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            seen |= scan_files(planted, place, &path);
        } else if let Ok(bytes) = fs::read(&path) {
            planted.absent_from(&format!("{place}: {}", path.display()), &bytes);
            seen |= contains(&bytes, OPEN);
        }
    }
    seen
}

/// Everything that ledger and index answer with.
async fn scan_answers(planted: &Planted, caller: &Caller, events: usize) {
    caller.until_count("cluster:shop", events as u64).await;
    let text = page(caller, "cluster:shop", "").await.to_string();
    assert!(contains(text.as_bytes(), OPEN), "the control text is not in the ledger: {text}");
    planted.absent_from("the ledger", text.as_bytes());
    // One has no reference to be named by.
    let named = format!("name:{OPEN} or req.metadata.name:{OPEN}");
    assert_eq!(caller.count(&named).await, events as u64);
    let by_text = caller.count(&format!("{OPEN:?}")).await;
    // A few name it in their reference alone, where free text does not look.
    assert!(
        by_text >= events as u64 * 3 / 4,
        "free text finds what stands in the open: {by_text} of {events}"
    );
    for (shape, secret) in &planted.0 {
        assert_eq!(caller.count(&format!("{secret:?}")).await, 0, "{shape} is in the index");
    }
}

/// Everything that the topic holds, as any consumer gets it.
fn scan_topic(planted: &Planted, kafka: &str, topic: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "scan")
        .set("enable.partition.eof", "false")
        .create()
        .unwrap();
    let timeout = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), timeout).unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), timeout).unwrap();
        left += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut open = false;
    while left > 0 {
        let message = consumer.poll(timeout).expect("a message within the time given").unwrap();
        let bytes = message.payload().unwrap();
        planted.absent_from("the topic", bytes);
        open |= contains(bytes, OPEN);
        left -= 1;
    }
    assert!(open, "the control text is not in the topic");
}

async fn send(server: &Server, events: Vec<Value>) {
    let response = server.call().post("shop", list(events)).await;
    let status = response.status();
    assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_a_byte_of_the_embedded_engines() {
    let mut planted = Planted::default();
    let (events, rules) = all_shapes(&mut planted);
    let mut server = Server::start(&["--redaction-rules", rules.path().to_str().unwrap()]).await;
    let count = events.len();
    send(&server, events).await;
    scan_answers(&planted, &server.call(), count).await;
    server.kill();
    assert!(scan_files(&planted, "the data folder", &server.data()), "the control text is in no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_reaches_a_byte_of_kafka_and_postgres() {
    let own = Own::start(&["kafka", "postgres"]);
    let topic = unique("secrets");
    let mut planted = Planted::default();
    let (events, rules) = all_shapes(&mut planted);
    let rules = rules.path().to_str().unwrap();
    let args =
        ["--kafka", own.kafka(), "--topic", &topic, "--postgres", own.postgres(), "--redaction-rules", rules];
    let mut server = Server::start(&args).await;
    let count = events.len();
    send(&server, events).await;
    scan_answers(&planted, &server.call(), count).await;
    scan_topic(&planted, own.kafka(), &topic);
    server.kill();
    assert!(
        scan_files(&planted, "the data folder", &server.data()),
        "the control text is in no file of ours"
    );
    // Stopped in good order, so that Postgres has written out what it held in memory.
    own.stop(&["postgres", "kafka"]);
    assert!(scan_files(&planted, "the engines' folders", own.folder()), "the control text is in no file");
}
