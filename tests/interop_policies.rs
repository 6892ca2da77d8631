//! Our admission beside a real kube-apiserver: both are asked the requests of `tests/interop/session.yaml` in turn, and
//! answer the same. Both ask one webhook, which is this test.
//!
//! `make interop` builds the API server and runs this test; `cargo test` runs it where it is built already.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/hook.rs"]
mod hook;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::{fs, path::Path, time::Duration};

use hook::{Hook, patched, said};
use peer::Peer;
use reqwest::{Certificate, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

/// The module of the reports, where the support files look for it.
mod skipped {
    pub(crate) use crate::server::skipped;
}

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// Letters of the names that servers generate.
const LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";

/// One request, and what is compared of its answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    show: Vec<String>,
    until: Option<Until>,
    /// Where something is to be for [`Until::Changed`], and not for [`Until::Unchanged`].
    at: Option<String>,
    #[serde(default)]
    audit: bool,
    differs: Option<String>,
}

/// When what was configured before is in force.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Until {
    Refused,
    Warned,
    Passed,
    Changed,
    Unchanged,
}

/// An answer, as far as servers may not differ in it.
#[derive(Debug, PartialEq)]
struct Answer {
    code: u16,
    said: Value,
    warnings: Vec<String>,
    shown: Vec<Value>,
}

impl Step {
    fn method(&self) -> Method {
        self.what.split(' ').next().unwrap().parse().unwrap()
    }

    fn path(&self) -> String {
        let path = self.what.split(' ').nth(1).unwrap();
        let (first, rest) = path.split_once('/').map_or((path, String::new()), |(f, r)| (f, format!("/{r}")));
        match first {
            "" => path.to_owned(),
            "policies" => format!("{GROUP}/validatingadmissionpolicies{rest}"),
            "bindings" => format!("{GROUP}/validatingadmissionpolicybindings{rest}"),
            "mutations" => format!("{GROUP}/mutatingadmissionpolicies{rest}"),
            "mutation-bindings" => format!("{GROUP}/mutatingadmissionpolicybindings{rest}"),
            "mutating" => format!("{GROUP}/mutatingwebhookconfigurations{rest}"),
            "validating" => format!("{GROUP}/validatingwebhookconfigurations{rest}"),
            namespace => format!("/api/v1/namespaces/{namespace}{rest}"),
        }
    }

    /// The body with what every object of its kind needs.
    fn body(&self, hook: &Hook) -> Value {
        let mut body = self.body.clone();
        if self.method() != Method::POST {
            return body;
        }
        let path = self.path();
        if path.ends_with("/pods") && body["spec"]["containers"].is_null() {
            body["spec"]["containers"] = json!([{ "name": "app", "image": "app:1" }]);
        }
        let needs_rules = path.ends_with("policies") && body["spec"] != json!({});
        if needs_rules && body["spec"]["matchConstraints"].is_null() {
            body["spec"]["matchConstraints"] = json!({ "resourceRules": [on_maps()] });
        }
        for webhook in body.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            let path = webhook.as_object_mut().unwrap().shift_remove("path").unwrap();
            webhook["clientConfig"] = hook.url(path.as_str().unwrap());
            webhook["sideEffects"] = "None".into();
            webhook["admissionReviewVersions"] = json!(["v1"]);
            let mut rule = on_maps();
            for (key, value) in webhook["rules"].as_object().into_iter().flatten() {
                rule[key] = value.clone();
            }
            webhook["rules"] = json!([rule]);
        }
        body
    }

    async fn send(&self, caller: &Caller, hook: &Hook, is_dry_run: bool) -> (Answer, Value) {
        let query = if is_dry_run { "?dryRun=All" } else { "" };
        let method = self.method();
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let mut request = caller.request(method, &format!("{}{query}", self.path()));
        if !self.body.is_null() {
            request = request.header("content-type", kind).body(self.body(hook).to_string());
        }
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|warning| blurred(warning.to_str().unwrap())).collect();
        let object: Value = response.json().await.unwrap();
        let said = if code < 300 {
            Value::Null
        } else {
            let details = &object["details"];
            json!({
                "reason": object["reason"], "message": object["message"],
                "details": { "name": details["name"], "group": details["group"], "kind": details["kind"] },
                "causes": details["causes"],
            })
        };
        let shown = self.show.iter().map(|at| object.pointer(at).cloned().unwrap_or_default());
        let shown = shown.map(|value| serde_json::from_str(&blurred(&value.to_string())).unwrap()).collect();
        let said = serde_json::from_str(&blurred(&said.to_string())).unwrap();
        (Answer { code, said, warnings, shown }, object)
    }

    /// Sends dry runs until what was configured is in force.
    async fn wait(&self, caller: &Caller, hook: &Hook, until: Until) {
        eventually(&format!("{} {}", self.what, self.body), async || {
            let (answer, object) = self.send(caller, hook, true).await;
            let is_in_force = match until {
                Until::Refused => answer.code >= 300,
                Until::Warned => !answer.warnings.is_empty(),
                Until::Passed => answer.code < 300 && answer.warnings.is_empty(),
                Until::Changed => object.pointer(self.at.as_deref().unwrap()).is_some(),
                Until::Unchanged => object.pointer(self.at.as_deref().unwrap()).is_none(),
            };
            is_in_force.then_some(())
        })
        .await;
    }

    /// What the names of the object and its resource are in audit events.
    fn audited(&self) -> (String, String) {
        let path = self.path();
        let resource = path.rsplit('/').next().unwrap();
        (resource.to_owned(), self.body["metadata"]["name"].as_str().unwrap().to_owned())
    }
}

fn on_maps() -> Value {
    json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] })
}

/// A text without what is random in it: letters of generated names, and uids.
fn blurred(text: &str) -> String {
    let is_uid = |word: &str| word.len() == 36 && word.bytes().filter(|b| *b == b'-').count() == 4;
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let end = word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).len();
        let (name, rest) = word.split_at(end);
        let generated = name
            .rsplit_once('-')
            .filter(|(_, last)| last.len() == 5 && last.chars().all(|letter| LETTERS.contains(letter)));
        match generated {
            _ if is_uid(name) => out.push_str("UID"),
            Some((prefix, _)) => out.push_str(&format!("{prefix}-XXXXX")),
            None => out.push_str(name),
        }
        out.push_str(rest);
    }
    out
}

/// What the webhook answers, by path and by the name of the object.
fn webhook(path: &str, request: &Value) -> Value {
    let refused = |status: Value| said(request, json!({ "allowed": false, "status": status }));
    match (path, request["name"].as_str().unwrap_or_default()) {
        ("/label", _) => {
            patched(request, json!([{ "op": "add", "path": "/metadata/labels", "value": { "hook": "yes" } }]))
        }
        ("/same", _) => patched(request, json!([{ "op": "replace", "path": "/data/a", "value": "b" }])),
        ("/fails", _) => hook::broken(),
        ("/nonsense", _) => json!({ "hello": "world" }),
        ("/uid", _) => said(&json!({ "uid": "other" }), json!({ "allowed": true })),
        (_, "said-nothing") => said(request, json!({ "allowed": false })),
        (_, "said-reason") => refused(json!({ "reason": "Teapot" })),
        (_, "said-200") => refused(json!({ "code": 200, "message": "but no" })),
        (_, "said-causes") => {
            refused(json!({ "code": 422, "message": "two flaws", "reason": "Invalid", "details": {
            "name": "x", "group": "g", "kind": "k", "causes": [{ "reason": "r", "message": "m", "field": "data.a" }, { "message": "n" }] } }))
        }
        (_, "said-warn") => said(
            request,
            json!({
            "allowed": true, "warnings": ["take care", "take \"care\""], "auditAnnotations": { "seen": "yes" } }),
        ),
        (_, "said-no") => refused(json!({ "code": 403, "message": "not this name", "reason": "Forbidden" })),
        _ => said(request, json!({ "allowed": true })),
    }
}

/// What admission tells the audit, of annotations.
fn of_admission(annotations: &Value) -> Value {
    const OTHER: [&str; 5] = [
        "authorization.k8s.io/",
        "admission.muniment.io/",
        "apiserver.latency.k8s.io/",
        "audit.k8s.io/",
        "pod-security.kubernetes.io/",
    ];
    let all = annotations.as_object().into_iter().flatten();
    let kept = all.filter(|(key, _)| !OTHER.iter().any(|prefix| key.starts_with(prefix)));
    Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

async fn ours(caller: &Caller, (resource, name): &(String, String)) -> Value {
    eventually("the audit has it", async || {
        let query = [("q", format!("resource:{resource} verb:create name:{name} stage:ResponseComplete"))];
        let page: Value = caller.get("/v1/events").query(&query).send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array()?;
        let made =
            items.iter().find(|item| !item["event"]["requestURI"].as_str().unwrap().contains("dryRun"))?;
        Some(of_admission(&made["event"]["annotations"]))
    })
    .await
}

async fn theirs(log: &Path, (resource, name): &(String, String)) -> Value {
    eventually("the log has it", async || {
        let log = fs::read_to_string(log).ok()?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut made = events.filter(|event| {
            let object = &event["objectRef"];
            object["resource"] == **resource
                && object["name"] == **name
                && event["verb"] == "create"
                && event["stage"] == "ResponseComplete"
                && !event["requestURI"].as_str().unwrap_or_default().contains("dryRun")
        });
        made.next_back().map(|event| of_admission(&event["annotations"]))
    })
    .await
}

/// Who may do everything on the real API server.
fn master(peer: &Peer, other: &Caller) -> Caller {
    let authority = Certificate::from_pem(&fs::read(peer.authority()).unwrap()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let mut caller = other.with_http(http).with_token(&peer.token("admin"));
    caller.url = peer.api();
    caller
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_answered_as_a_real_api_server_answers_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    peer.admit_accounts();
    peer.script(&["start", "etcd", "apiserver"]);
    let policy = peer.folder.join("etc/audit-policy.yaml");
    let flags = [
        "--controllers=-*",
        "--pod-security-default",
        "privileged",
        "--audit-policy-file",
        policy.to_str().unwrap(),
    ];
    let server = Server::start(&flags).await;
    let our = server.call();
    let their = master(&peer, &our);
    for caller in [&our, &their] {
        eventually("the first namespaces", async || {
            let found = caller.get("/api/v1/namespaces/kube-system").send().await.unwrap();
            found.status().is_success().then_some(())
        })
        .await;
    }
    let hook = Hook::start("127.0.0.1", Duration::ZERO, webhook).await;
    let session = include_str!("interop/session.yaml");
    let steps: Vec<Step> = serde_saphyr::from_str(session).unwrap();
    let (mut differing, mut compared) = (Vec::new(), 0);
    for step in &steps {
        if let Some(until) = step.until {
            for caller in [&our, &their] {
                step.wait(caller, &hook, until).await;
            }
            continue;
        }
        let (ours_said, theirs_said) =
            (step.send(&our, &hook, false).await.0, step.send(&their, &hook, false).await.0);
        compared += 1;
        let mut tell = |what: &str, ours: String, theirs: String| {
            differing
                .push(format!("{} {}: {what}\n   ours: {ours}\n theirs: {theirs}", step.what, step.body));
        };
        match (&step.differs, ours_said == theirs_said) {
            (None, false) => tell("another answer", format!("{ours_said:?}"), format!("{theirs_said:?}")),
            (Some(why), true) => tell("the same by now", why.clone(), format!("{theirs_said:?}")),
            _ => {}
        }
        if step.audit {
            let audited = step.audited();
            let log = peer.folder.join("log/audit.log");
            let (ours, theirs) = (ours(&our, &audited).await, theirs(&log, &audited).await);
            if ours != theirs {
                tell("other annotations", ours.to_string(), theirs.to_string());
            }
        }
    }
    println!("{compared} answers compared");
    assert!(differing.is_empty(), "{} of {compared} differ:\n{}", differing.len(), differing.join("\n"));
}
