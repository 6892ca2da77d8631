//! Our Pod Security beside upstream's own webhook: the same verdict, message, warnings and annotations for Pods made at
//! random, over every level and version that both know. The webhook learns of namespaces from our gateway.
//!
//! `make interop` builds the webhook and runs this test; `cargo test` runs it where it is built already.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/pods.rs"]
mod pods;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use admission::{
    AdmissionChain, AdmissionRequest, BUILT_IN, GroupVersionResource, MemoryCluster, Settings,
    pod_security::{LABEL_PREFIX, Level, PodSecurityConfiguration},
};
use pods::Chance;
use reqwest::{Certificate, Method, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually, skipped};

/// The newest version that the webhook knows: its `latest`.
const NEWEST: u32 = 36;

/// Pods that are compared, unless `MUNIMENT_TEST_PODS` says otherwise.
const PODS: usize = 100_000;

/// Questions that are open at the same time.
const CLIENTS: usize = 16;

/// What the namespaces are held to: each mode by level and version. `latest` is told apart because the two know another
/// newest version.
fn policies() -> Vec<[(&'static str, String); 3]> {
    let mut versions: Vec<String> = (0..=NEWEST).map(|minor| format!("v1.{minor}")).collect();
    versions.push("latest".to_owned());
    let mut chance = Chance::new(7);
    let mut all = Vec::new();
    for version in &versions {
        for level in ["baseline", "restricted"] {
            let mut other = || {
                let level = *chance.of(&["privileged", "baseline", "restricted"]);
                // One namespace is all latest or not at all.
                let version =
                    if version == "latest" { version } else { chance.of(&versions[..versions.len() - 1]) };
                (level, version.clone())
            };
            let (audit, warn) = (other(), other());
            all.push([(level, version.clone()), audit, warn]);
        }
    }
    all
}

fn labels(modes: &[(&'static str, String); 3]) -> Vec<(String, String)> {
    let names = ["enforce", "audit", "warn"].into_iter().zip(modes);
    names
        .flat_map(|(name, (level, version))| {
            [
                (format!("{LABEL_PREFIX}{name}"), (*level).to_owned()),
                (format!("{LABEL_PREFIX}{name}-version"), version.clone()),
            ]
        })
        .collect()
}

/// What was decided, in the words of the answer.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    message: Option<String>,
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

/// Ours, with the namespaces in memory. Our newest version is another one, so `latest` is asked for by its number.
fn chain(policies: &[[(&'static str, String); 3]]) -> AdmissionChain {
    let cluster = MemoryCluster::new();
    for (n, modes) in policies.iter().enumerate() {
        let pinned = |(name, value): (String, String)| {
            let value = if value == "latest" { format!("v1.{NEWEST}") } else { value };
            (name, value)
        };
        let labels: Vec<_> = labels(modes).into_iter().map(pinned).collect();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        cluster.add_namespace(&format!("psa-{n}"), &labels);
    }
    let others: Vec<_> =
        BUILT_IN.iter().filter(|name| **name != "PodSecurity").map(|n| (*n).to_owned()).collect();
    let pod_security = PodSecurityConfiguration::without_file(Level::Privileged);
    let chain = AdmissionChain::before(Arc::new(cluster));
    chain.with_settings(Settings { pod_security, ..Settings::default() }).with_plugins(&[], &others).unwrap()
}

async fn ours(chain: &AdmissionChain, is_latest: bool, pod: Value) -> Decided {
    let request = AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), pod);
    let outcome = chain.admit(&request).await;
    let newest = format!(":v1.{NEWEST}");
    let told = |text: &str| if is_latest { text.replace(&newest, ":latest") } else { text.to_owned() };
    Decided {
        message: outcome.deny_reason().map(told),
        warnings: outcome.warnings.iter().map(|text| told(text)).collect(),
        annotations: outcome
            .annotations
            .iter()
            .map(|(key, value)| (key.trim_start_matches(LABEL_PREFIX).to_owned(), told(value)))
            .collect(),
    }
}

async fn theirs(http: &reqwest::Client, url: &str, pod: &Value) -> Decided {
    let (name, namespace) = (&pod["metadata"]["name"], &pod["metadata"]["namespace"]);
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": name, "namespace": namespace, "operation": "CREATE", "userInfo": {"username": "anna"},
            "object": pod, "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    let answer = http.post(url).json(&review).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let answer: Value = answer.json().await.unwrap();
    let response = &answer["response"];
    let allowed = response["allowed"].as_bool().unwrap_or_else(|| panic!("{answer}"));
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Decided {
        message: (!allowed).then(|| response["status"]["message"].as_str().unwrap_or_default().to_owned()),
        warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The webhook's program, or why the test cannot run.
fn built() -> Result<PathBuf, String> {
    let peer = PathBuf::from(variable("PEER_DIR").unwrap_or_else(|| "/tmp/peer".into()));
    let program = peer.join("bin/podsecurity-webhook");
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("no podsecurity-webhook in {}; `make interop` builds it", peer.join("bin").display()))
    }
}

#[allow(clippy::disallowed_methods, reason = "a test is told by its caller where the built webhook is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The webhook. It ends with the test.
struct Webhook {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Webhook {
    async fn start(program: &Path, folder: &Path, kubeconfig: &Path) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        fs::write(&certificate, issued.cert.pem()).unwrap();
        fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(folder.join("webhook.log")).unwrap();
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(kubeconfig).args(["--bind-address", "127.0.0.1", "--secure-port"]);
        command.arg(port.to_string()).arg("--tls-cert-file").arg(&certificate);
        command.arg("--tls-private-key-file").arg(&key);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let authority = Certificate::from_pem(issued.cert.pem().as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
        let webhook = Self { process, url: format!("https://localhost:{port}/"), http };
        eventually("the webhook is ready", async || {
            let ready = webhook.http.get(format!("{}readyz", webhook.url)).send().await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        webhook
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn make_namespaces(caller: &Caller, policies: &[[(&'static str, String); 3]]) {
    for (n, modes) in policies.iter().enumerate() {
        let labels: BTreeMap<_, _> = labels(modes).into_iter().collect();
        let namespace = json!({"metadata": {"name": format!("psa-{n}"), "labels": labels}});
        let made = caller.request(Method::POST, "/api/v1/namespaces").json(&namespace).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_security_decides_as_upstreams_own_webhook_does() {
    let program = match built() {
        Ok(program) => program,
        Err(reason) => {
            assert!(variable("MUNIMENT_TEST_INTEROP").is_none(), "{reason}");
            return skipped(&reason);
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&["--controllers=-*"]).await;
    let policies = Arc::new(policies());
    make_namespaces(&server.call(), &policies).await;
    let webhook = Webhook::start(&program, folder.path(), &server.data().join("admin.kubeconfig")).await;
    let (http, url, chain) = (webhook.http.clone(), webhook.url.clone(), Arc::new(chain(&policies)));
    let wanted = variable("MUNIMENT_TEST_PODS").and_then(|n| n.parse().ok()).unwrap_or(PODS);
    let (begun, denied) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..CLIENTS).map(|_| {
        let (http, chain, url) = (http.clone(), chain.clone(), url.clone());
        let (policies, begun, denied) = (policies.clone(), begun.clone(), denied.clone());
        tokio::spawn(async move {
            loop {
                let n = begun.fetch_add(1, Ordering::Relaxed);
                if n >= wanted {
                    return;
                }
                let mut chance = Chance::new(n as u64 + 1);
                let place = n % policies.len();
                let mut pod = pods::pod(&format!("pod-{n}"), &mut chance);
                pod["metadata"]["namespace"] = format!("psa-{place}").into();
                let theirs = theirs(&http, &url, &pod).await;
                let is_latest = policies[place][0].1 == "latest";
                let ours = ours(&chain, is_latest, pod.clone()).await;
                assert_eq!(ours, theirs, "{:?}\n{pod}", policies[place]);
                denied.fetch_add(usize::from(theirs.message.is_some()), Ordering::Relaxed);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let denied = denied.load(Ordering::Relaxed);
    println!("{wanted} pods over {} policies: the same of each, {denied} denied", policies.len());
    assert!(
        denied > wanted / 10 && denied < wanted,
        "the pods are too much alike: {denied} of {wanted} denied"
    );
}
