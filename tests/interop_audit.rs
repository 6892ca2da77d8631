//! The audit events of a session with kubectl, ours beside those of a real kube-apiserver under the same policy: what
//! differs is listed here with its reason, and nothing else may.
//!
//! `make interop` builds the API server and runs this test; `cargo test` runs it where the server is built already.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/kubectl.rs"]
mod kubectl;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use kubectl::{Kubectl, commands};
use peer::Peer;
use serde_json::{Map, Value, json};
use server::{PATIENCE, Server};

/// The module of the reports, where the support files look for it.
mod skipped {
    pub(crate) use crate::server::skipped;
}

/// Commands of somebody else and as somebody else, behind the session's own.
const MORE: [&str; 16] = [
    "auth whoami",
    "auth can-i --list",
    "auth can-i create pods --as anna --as-group team",
    "get pods -n shop --as anna",
    "get pod worker -n shop --as anna",
    "create configmap refused -n shop --from-literal=a=b --as anna",
    "create token default -n shop",
    "get --raw /api/v1/namespaces/shop/pods?limit=1&fieldSelector=metadata.name%3Dworker",
    "get --raw /api/v1/namespaces/shop/pods?watch=true&resourceVersion=none",
    "get --raw /api/v1/namespaces/shop/pods?watch=true --as anna",
    "get --raw /api/v1/namespaces/shop/pods?watch=true&timeoutSeconds=1",
    "get --raw /apis/none.example.org/v1/things",
    "get --raw /none",
    "exec worker -n shop -- ls",
    "get events.events.k8s.io -n shop",
    "delete namespace shop --wait=false",
];

/// The last command, by whose events the end of the session is known.
const LAST: &str = "get namespace end-of-session";

/// Annotations that only we make, of requests that change something: see docs/gateway.md and docs/admission.md.
const OURS: [&str; 2] = ["muniment.io/change", "admission.muniment.io/decisions"];

/// Annotations that only kube-apiserver makes, of requests that take it longer than half a second: their times.
const THEIRS: &str = "apiserver.latency.k8s.io/";

/// What differs, and nothing else may: why, in which command's events, and in which fields of them.
const DIFFERENCES: [(&str, &str, &[&str]); 7] = [
    (
        "Server-side apply is refused before its body is read.",
        "apply --server-side -f tests/kubectl/replaced.yaml",
        &[
            "requestObject",
            "responseStatus/code",
            "responseStatus/message",
            "responseStatus/reason",
            "responseStatus/status",
        ],
    ),
    (
        "Where kube-apiserver fails with 500, the client is told of its mistake.",
        "get --raw /api/v1/namespaces/shop/pods?watch=true&resourceVersion=none",
        &["responseStatus/code", "responseStatus/message", "responseStatus/reason"],
    ),
    (
        "A group that is not there is answered with a Status, not with a text.",
        "get --raw /apis/none.example.org/v1/things",
        &[
            "responseStatus/details",
            "responseStatus/message",
            "responseStatus/reason",
            "responseStatus/status",
        ],
    ),
    (
        "Paths outside the Kubernetes API are those of the own interface, whose uses are records of another kind.",
        "get --raw /none",
        &["only theirs: RequestReceived", "only theirs: ResponseComplete"],
    ),
    (
        "It is said which test of a patch failed.",
        r#"patch configmap front -n shop --type=json -p [{"op":"test","path":"/data/currency","value":"EUR"}]"#,
        &["responseStatus/details", "responseStatus/message"],
    ),
    (
        "What changed of a Pod is not printed.",
        r#"patch pod worker -n shop -p {"spec":{"hostNetwork":true}}"#,
        &["responseStatus/details/causes", "responseStatus/message"],
    ),
    (
        "kube-apiserver names one fault of a label twice.",
        "label pod worker -n shop -- -bad=x",
        &["responseStatus/details/causes"],
    ),
];

/// Microseconds since 1970.
fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap()
}

/// Runs the session, and gives when each command began.
fn session(kubectl: &Kubectl) -> Vec<(i64, String)> {
    let commands = commands().map(|(_, command)| command).chain(MORE).chain([LAST]);
    commands
        .map(|command| {
            let begun = now();
            kubectl.run(&command.split(' ').collect::<Vec<_>>());
            (begun, command.to_owned())
        })
        .collect()
}

/// The events of kubectl in a log, once each request in it has ended and the last command is there.
fn events(log: &Path) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let events: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<Value> = events.into_iter().filter(is_kubectls).collect();
        let ended: BTreeSet<&str> =
            events.iter().filter(|e| e["stage"] == "ResponseComplete").map(id).collect();
        let is_whole = events.iter().all(|event| ended.contains(id(event)))
            && events.iter().any(|event| event["objectRef"]["name"] == "end-of-session");
        if is_whole {
            return events;
        }
        assert!(begun.elapsed() < PATIENCE, "{}: the session has no end", log.display());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_kubectls(event: &Value) -> bool {
    event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl/"))
}

fn id(event: &Value) -> &str {
    event["auditID"].as_str().unwrap()
}

/// The events of each command, by the times at which commands began.
fn by_command(events: Vec<Value>, begun: &[(i64, String)]) -> Vec<Vec<Value>> {
    let mut told = vec![Vec::new(); begun.len()];
    for event in events {
        let at: jiff::Timestamp = event["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap();
        let at = at.as_microsecond();
        let command = begun.iter().rposition(|(begun, _)| *begun <= at);
        // What was asked before the session is not of it.
        if let Some(command) = command {
            told[command].push(comparable(event));
        }
    }
    for events in &mut told {
        events.sort_by_key(ToString::to_string);
    }
    told
}

/// What of an event has to be the same: all but its id, times and addresses, what is another one at each run, and the
/// bodies, of which only counts whether they are there.
fn comparable(mut event: Value) -> Value {
    let mut told = Map::new();
    let fields = [
        "stage",
        "level",
        "verb",
        "requestURI",
        "user",
        "impersonatedUser",
        "objectRef",
        "responseStatus",
        "annotations",
    ];
    for field in fields {
        let value = event[field].take();
        if !value.is_null() {
            told.insert(field.to_owned(), value);
        }
    }
    if let Some(Value::Object(annotations)) = told.get_mut("annotations") {
        annotations.retain(|name, _| !OURS.contains(&name.as_str()) && !name.starts_with(THEIRS));
        if annotations.is_empty() {
            told.remove("annotations");
        }
    }
    // Whether a document is sent again depends on when their server has made all of them.
    let is_document = told["requestURI"].as_str().is_some_and(|uri| uri.starts_with("/openapi/"));
    if let Some(code) = told.get_mut("responseStatus").map(|status| &mut status["code"])
        && is_document
        && *code == 304
    {
        *code = json!(200);
    }
    for body in ["requestObject", "responseObject"] {
        told.insert(body.to_owned(), json!(!event[body].is_null()));
    }
    let mut told = Value::Object(told);
    settle(&mut told, "");
    told
}

/// Puts a word in the place of what is another one at each run.
fn settle(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.sort_keys();
            members.iter_mut().for_each(|(name, value)| settle(value, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| settle(item, name)),
        Value::String(text) => match name {
            "uid" if text.len() == 36 => *text = "UID".to_owned(),
            "resourceVersion" => *text = "REVISION".to_owned(),
            "requestURI" => *text = uri(text),
            _ => {}
        },
        _ => {}
    }
}

/// A URI without revisions, times of watches, hashes of documents and uids; the terms of a selector, which kubectl
/// writes in any order, sorted.
fn uri(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else { return text.to_owned() };
    let settled = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name @ ("resourceVersion" | "timeoutSeconds" | "hash"), _)) => format!("{name}=N"),
        Some((name @ "fieldSelector", terms)) => {
            let without_uid = |term: &str| match term.split_once("uid%3D") {
                Some((field, _)) => format!("{field}uid%3DUID"),
                None => term.to_owned(),
            };
            let mut terms: Vec<String> = terms.split("%2C").map(without_uid).collect();
            terms.sort_unstable();
            format!("{name}={}", terms.join("%2C"))
        }
        _ => pair.to_owned(),
    });
    format!("{path}?{}", settled.collect::<Vec<_>>().join("&"))
}

/// The events of `these` that are not among `those`, each as often as it is too much.
fn beyond(these: &[Value], those: &[Value]) -> Vec<Value> {
    let mut left = those.to_vec();
    let is_beyond = |event: &&Value| match left.iter().position(|other| other == *event) {
        Some(found) => {
            left.swap_remove(found);
            false
        }
        None => true,
    };
    these.iter().filter(is_beyond).cloned().collect()
}

/// Something that differs between two events, or that one side lacks.
struct Difference {
    /// Which field, or whose event it is.
    field: String,
    /// Theirs and ours.
    values: String,
    /// Of which request and stage.
    request: String,
}

/// What differs between the events of one command.
fn differences(theirs: &[Value], ours: &[Value]) -> Vec<Difference> {
    let (theirs, mut ours) = (beyond(theirs, ours), beyond(ours, theirs));
    let what = |event: &Value| {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("stage"), text("verb"), text("requestURI"))
    };
    let lone = |whose: &str, event: &Value| {
        let field = format!("only {whose}: {}", event["stage"].as_str().unwrap_or_default());
        Difference { field, values: event.to_string(), request: what(event) }
    };
    let mut found = Vec::new();
    for event in theirs {
        match ours.iter().position(|other| what(other) == what(&event)) {
            Some(at) => compare("", &event, &ours.swap_remove(at), &what(&event), &mut found),
            None => found.push(lone("theirs", &event)),
        }
    }
    found.extend(ours.iter().map(|event| lone("ours", event)));
    found
}

/// Each field that differs.
fn compare(place: &str, theirs: &Value, ours: &Value, request: &str, found: &mut Vec<Difference>) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for name in names {
                let place = if place.is_empty() { name.clone() } else { format!("{place}/{name}") };
                compare(&place, &theirs[name], &ours[name], request, found);
            }
        }
        _ if theirs == ours => {}
        _ => found.push(Difference {
            field: place.to_owned(),
            values: format!("{theirs} {ours}"),
            request: request.to_owned(),
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_session_are_those_of_a_real_api_server() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    peer.set("AUDIT", "blocking-strict");
    peer.set("ENC", "identity");
    peer.script(&["start", "etcd", "apiserver"]);
    let (policy, tokens) = (peer.folder.join("etc/audit-policy.yaml"), peer.folder.join("etc/tokens.csv"));
    let log = folder.path().join("ours.log");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    // As the other one is set up: no controllers, no accounts for Pods, quotas that nobody counted.
    let server = Server::start(&[
        "--controllers=-*",
        "--disable-admission-plugins",
        "ServiceAccount,ResourceQuota",
        "--pod-security-default",
        "privileged",
        "--token-auth-file",
        &path(&tokens),
        "--audit-policy-file",
        &path(&policy),
        "--audit-log-path",
        &path(&log),
    ])
    .await;
    let token = peer.token("admin");
    let theirs = Kubectl::at(&peer.api(), &token, &peer.folder.join("pki/ca.crt")).unwrap();
    let ours = Kubectl::at(&server.call().url, &token, &server.data().join("ca.pem")).unwrap();
    let logs = [peer.folder.join("log/audit.log"), log];
    let told = tokio::task::spawn_blocking(move || {
        let (theirs, ours) = (session(&theirs), session(&ours));
        let commands: Vec<String> = ours.iter().map(|(_, command)| command.clone()).collect();
        let [their_log, our_log] = &logs;
        (commands, by_command(events(their_log), &theirs), by_command(events(our_log), &ours))
    });
    let (commands, theirs, ours) = told.await.unwrap();
    let count = |events: &[Vec<Value>]| events.iter().map(Vec::len).sum::<usize>();
    println!("{} commands, {} events of theirs, {} of ours", commands.len(), count(&theirs), count(&ours));
    assert!(count(&theirs) > 300, "each command has some");

    let mut found = BTreeMap::new();
    for ((command, theirs), ours) in commands.iter().zip(&theirs).zip(&ours) {
        for Difference { field, values, request } in differences(theirs, ours) {
            found.insert((command.as_str(), field), format!("{request}: {values}"));
        }
    }
    let fields = DIFFERENCES.iter().flat_map(|(_, command, fields)| fields.iter().map(|f| (*command, *f)));
    let listed: BTreeSet<(&str, String)> =
        fields.map(|(command, field)| (command, field.to_owned())).collect();
    let new: Vec<String> = found
        .iter()
        .filter(|(key, _)| !listed.contains(*key))
        .map(|((command, field), example)| format!("{command}\n  {field}\n    {example}"))
        .collect();
    assert!(new.is_empty(), "{} differences that are not listed:\n{}", new.len(), new.join("\n"));
    let gone: Vec<_> = listed.iter().filter(|key| !found.contains_key(*key)).collect();
    assert!(gone.is_empty(), "listed, and there no more: {gone:?}");
}
