//! A real kube-apiserver posts its audit events while Muniment is killed and restarted; both hold the same in the end.
//!
//! `make interop` builds the API server and runs this test; `cargo test` runs it where the server is built already.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/peer.rs"]
mod peer;
#[path = "support/skipped.rs"]
mod skipped;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ingest::{
    accept::Acceptor,
    identity::DeploymentKey,
    redact::{Redactor, RuleSet},
    time::Clock,
};
use peer::{Peer, free_port};
use serde_json::Value;
use tokio::sync::watch;

/// The cluster's name at the intake.
const CLUSTER: &str = "interop";
/// Times that Muniment is killed while kubectl works.
const OUTAGES: usize = 4;
/// Work that goes on before each outage, and without Muniment during it: a few seconds, far below the minute that the server's tries last.
const COMMANDS_BETWEEN: usize = 25;
const COMMANDS_WITHOUT: usize = 30;
/// Longer than the five tries of the server take together.
const DELIVERY: Duration = Duration::from_secs(180);
/// What starting anything here may take on a busy machine.
const START: Duration = Duration::from_secs(120);

/// Waits until `done`, looking again and again, for at most `bound`.
fn wait_for(what: &str, bound: Duration, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < bound, "{what} did not happen within {bound:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Muniment as a process that can be killed and started again.
struct Muniment {
    folder: PathBuf,
    address: String,
    process: Option<Child>,
}

impl Muniment {
    fn new(folder: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut muniment = Self { folder: folder.join("muniment"), address, process: None };
        muniment.start();
        muniment
    }

    fn start(&mut self) {
        fs::create_dir_all(&self.folder).unwrap();
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("serve.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_muniment"))
            .arg("serve")
            .args(["--data-dir", self.data(), "--bind-address", &self.address])
            .env_remove("MUNIMENT_TEST_INTEROP")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        wait_for("readiness of Muniment", START, || {
            let child = self.process.as_mut().unwrap();
            assert!(child.try_wait().unwrap().is_none(), "muniment ended; see {}", self.folder.display());
            let probe = Command::new("curl")
                .args(["-sfk", "-o", "/dev/null", &format!("https://{}/readyz", self.address)])
                .status();
            probe.unwrap().success()
        });
    }

    /// SIGKILL: nothing is written, nothing is answered any more.
    fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn data(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    /// Runs a client command against this server and gives what it prints.
    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_muniment"))
            .args(args)
            .env("MUNIMENT_DATA_DIR", self.data())
            .env_remove("MUNIMENT_TEST_INTEROP")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "muniment {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every event of the cluster that is searchable and in the ledger.
    fn events(&self) -> Vec<Value> {
        let found = self.run(&["search", &format!("cluster:{CLUSTER}"), "--json", "--limit", "1000000"]);
        found.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect()
    }
}

impl Drop for Muniment {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the API server is started with: its own waits between tries stand; only batches are sent sooner than after 30 s.
fn webhook_flags(webhook: &Path) -> String {
    format!("--audit-webhook-config-file={} --audit-webhook-batch-max-wait=1s", webhook.display())
}

impl Peer {
    fn log(&self) -> PathBuf {
        self.folder.join("log/audit.log")
    }

    fn kubectl(&self, token: &str, args: &[&str]) {
        // Some of these are refused, as it should be: refusals are audited too.
        self.command(token, args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }

    /// One round of what people do, secrets among it.
    fn work(&self, round: usize, done: &AtomicUsize) {
        let name = |kind: &str| format!("{kind}-{round}");
        let (map, secret, app, account) = (name("map"), name("secret"), name("app"), name("account"));
        let password = format!("--from-literal=password=planted-{round}");
        let rounds: [(&str, &[&str]); 13] = [
            ("admin", &["create", "configmap", &map, "--from-literal=a=b"]),
            ("admin", &["create", "secret", "generic", &secret, &password]),
            ("admin", &["get", "secret", &secret, "-o", "yaml"]),
            ("admin", &["get", "secrets"]),
            ("bench", &["get", "secrets", "-n", "kube-system"]),
            ("admin", &["create", "deployment", &app, "--image=registry.example.test/app:1", "--replicas=2"]),
            ("admin", &["scale", "deployment", &app, "--replicas=3"]),
            ("admin", &["patch", "deployment", &app, "-p", r#"{"metadata":{"labels":{"tier":"web"}}}"#]),
            ("admin", &["create", "serviceaccount", &account]),
            ("admin", &["create", "token", &account]),
            ("bench", &["auth", "can-i", "delete", "pods"]),
            ("admin", &["delete", "configmap", &map, "--wait=false"]),
            ("admin", &["delete", "secret", &secret, "--wait=false"]),
        ];
        for (token, args) in rounds {
            self.kubectl(token, args);
            done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// An event without what differs between a log line and an item of a batch, as text that does not depend on order.
fn comparable(mut event: Value) -> String {
    if let Some(fields) = event.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    sorted(&event).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let ordered: BTreeMap<&String, Value> =
                fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            ordered
                .into_iter()
                .map(|(key, value)| (key.clone(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The events of the log file as Muniment keeps them: redacted with the deployment's own key.
fn logged(log: &Path, data: &Path) -> Vec<Value> {
    let key = DeploymentKey::load(&data.join("deployment.key")).unwrap();
    let redactor = watch::channel(Arc::new(Redactor::new(&RuleSet::builtin(), &key))).1;
    let acceptor = Acceptor::new(&key, redactor, Clock::system(), None);
    let cluster: Arc<str> = CLUSTER.into();
    let text = fs::read_to_string(log).unwrap();
    // The last line may be half written while the server runs.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let kept = whole.lines().map(|line| acceptor.accept(&cluster, line.as_bytes()).unwrap().event);
    kept.map(|event| serde_json::from_slice(&event).unwrap()).collect()
}

fn comparables(events: Vec<Value>) -> Vec<String> {
    let mut comparables: Vec<String> = events.into_iter().map(comparable).collect();
    comparables.sort_unstable();
    comparables
}

/// Kills Muniment again and again while the API server is worked on.
fn outages(muniment: &mut Muniment, done: &AtomicUsize) {
    for outage in 0..OUTAGES {
        let until = done.load(Ordering::SeqCst) + COMMANDS_BETWEEN;
        wait_for("work before an outage", START, || done.load(Ordering::SeqCst) >= until);
        muniment.kill();
        let began = Instant::now();
        let until = done.load(Ordering::SeqCst) + COMMANDS_WITHOUT;
        wait_for("work during an outage", START, || done.load(Ordering::SeqCst) >= until);
        muniment.start();
        println!("outage {} lasted {:.1} s", outage + 1, began.elapsed().as_secs_f64());
        assert!(began.elapsed() < Duration::from_secs(60), "the API server gives up after about a minute");
    }
}

#[test]
fn a_real_api_server_and_muniment_agree_although_muniment_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut peer) = Peer::find(folder.path()) else { return };
    let mut muniment = Muniment::new(folder.path());
    let webhook = folder.path().join("webhook.yaml");
    fs::write(&webhook, muniment.run(&["token", "create", "--intake", CLUSTER, "--kubeconfig"])).unwrap();
    peer.set("AUDIT", "blocking-strict");
    peer.set("API_ARGS", &webhook_flags(&webhook));
    peer.script(&["start", "etcd", "apiserver"]);
    let peer = Arc::new(peer);

    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let (peer, done, stop) = (Arc::clone(&peer), Arc::clone(&done), Arc::clone(&stop));
            thread::spawn(move || {
                let mut round = worker;
                while !stop.load(Ordering::SeqCst) {
                    peer.work(round, &done);
                    round += 2;
                }
            })
        })
        .collect();
    outages(&mut muniment, &done);
    stop.store(true, Ordering::SeqCst);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    // The log is ahead of the webhook by what is under way, and a server that ends gives its last events up: so what
    // the log holds now is waited for, while the server goes on.
    let copy = folder.path().join("audit.log");
    let text = fs::read(peer.log()).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    fs::write(&copy, &text[..whole]).unwrap();
    let expected = comparables(logged(&copy, &muniment.folder));
    println!("{} kubectl commands, {} events in the log", done.load(Ordering::SeqCst), expected.len());
    let mut held = Vec::new();
    wait_for("delivery of every event", DELIVERY, || {
        held = comparables(muniment.events());
        expected.iter().all(|event| held.binary_search(event).is_ok())
    });
    agrees_with_the_log(&held, &peer, &muniment);

    let summary = muniment.run(&["import", "--cluster", CLUSTER, "--json", copy.to_str().unwrap()]);
    let summary: Value = serde_json::from_str(&summary).unwrap();
    // A batch that the server sent twice because of an outage may be counted within the same moments.
    assert!(summary["duplicates"].as_u64() >= Some(expected.len() as u64), "{summary}");
    agrees_with_the_log(&comparables(muniment.events()), &peer, &muniment);
}

/// Holds nothing twice, nothing that the server did not log, and no planted secret.
fn agrees_with_the_log(held: &[String], peer: &Peer, muniment: &Muniment) {
    let twice: Vec<_> = held.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{} events are held twice, as {}", twice.len(), twice[0][0]);
    let logged = comparables(logged(&peer.log(), &muniment.folder));
    let invented: Vec<_> = held.iter().filter(|event| logged.binary_search(event).is_err()).collect();
    assert!(invented.is_empty(), "{} events were never logged, as {}", invented.len(), invented[0]);
    assert!(!held.concat().contains("planted-"), "a planted password was kept");
}
