//! The built binary, started on a free port with a data folder of its own.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Certificate, Method, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "skipped.rs"]
mod skipped;
pub(crate) use skipped::skipped;

/// How long a test waits for what an idle machine does within a second or two.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// The built binary, without variables of ours that the environment may hold.
pub(crate) fn muniment() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muniment"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MUNIMENT_") {
            command.env_remove(name);
        }
    }
    command
}

/// Where the real samples are, unless this clone stands alone.
pub(crate) fn sample(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples").join(name);
    if !file.exists() {
        skipped("../shared is absent");
        return None;
    }
    Some(file)
}

/// The time that lies this long ago, as events write it.
pub(crate) fn ago(age: Duration) -> String {
    let micros = (std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - age).as_micros() as i64;
    format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap())
}

/// An event on one line.
pub(crate) fn event(id: &str, at: &str) -> String {
    json!({
        "level": "Metadata", "auditID": id, "stage": "ResponseComplete", "requestURI": "/", "verb": "get",
        "user": { "username": "anna" }, "requestReceivedTimestamp": at, "stageTimestamp": at,
    })
    .to_string()
}

/// Waits until `condition` gives something, for at most [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What a process holds in memory of its own (RssAnon), in KiB, while it runs.
pub(crate) fn anonymous_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A data folder, and the process that runs on it when one does.
pub(crate) struct Server {
    folder: TempDir,
    address: String,
    args: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts with these flags and waits until it is ready.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut server = Self::stopped(args);
        server.run().await;
        server
    }

    /// A folder in which nothing runs yet.
    pub(crate) fn stopped(args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let address = "127.0.0.1:0".to_owned();
        Self { folder: tempfile::tempdir().unwrap(), address, args, child: None }
    }

    /// From the next start on the process listens where it listens now.
    pub(crate) fn keep_address(&mut self) {
        self.call().url.trim_start_matches("https://").clone_into(&mut self.address);
    }

    /// Other flags, from the next start on.
    pub(crate) fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the process again on the same folder and waits until it is ready.
    pub(crate) async fn run(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = muniment()
            .args(["serve", "--bind-address", &self.address, "--data-dir"])
            .arg(self.data())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until `/readyz` says yes.
    pub(crate) async fn ready(&mut self) {
        eventually("ready", async || {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(exited.is_none(), "the server ended with {exited:?}:\n{}", self.log());
            let client = self.client()?;
            let response = client.get("/readyz").send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the process wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A caller with the folder's token, when the server has published where it is.
    pub(crate) fn client(&self) -> Option<Caller> {
        let data = self.data();
        let server: Value = serde_json::from_slice(&fs::read(data.join("server.json")).ok()?).ok()?;
        let token = fs::read_to_string(data.join("client.token")).ok()?;
        let ca = Certificate::from_pem(&fs::read(data.join("ca.pem")).ok()?).ok()?;
        let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        Some(Caller { http, url: server["url"].as_str()?.to_owned(), token: token.trim().to_owned() })
    }

    /// The same, as soon as a server that has just been started answers.
    pub(crate) async fn answering(&self) -> Caller {
        eventually("the server answers", async || {
            let caller = self.client()?;
            caller.get("/livez").send().await.ok().map(|_| caller)
        })
        .await
    }

    /// The same, of a server that is ready.
    pub(crate) fn call(&self) -> Caller {
        self.client().expect("the server is ready")
    }

    /// A client command of the binary, on this server's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = muniment();
        command.env("MUNIMENT_DATA_DIR", self.data()).args(args);
        command
    }

    /// Runs a client command to its end, off the runtime's thread.
    pub(crate) async fn output(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Forgets where the process listened: the next one chooses another port.
    pub(crate) fn forget_address(&self) {
        match fs::remove_file(self.data().join("server.json")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
            _ => (),
        }
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a process").id()
    }

    /// What the process holds in memory of its own (RssAnon), in KiB.
    pub(crate) fn anonymous_kib(&self) -> u64 {
        anonymous_kib(self.pid()).expect("the process runs")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a process");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Ends the process as a crash does, and waits for it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the process to end and waits for it.
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a process");
        eventually("ended", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// Someone who calls with a token.
#[derive(Clone)]
pub(crate) struct Caller {
    http: reqwest::Client,
    /// Where the server is.
    pub(crate) url: String,
    /// The token; empty for none.
    pub(crate) token: String,
}

impl Caller {
    /// The same server with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The same server by another client.
    pub(crate) fn with_http(&self, http: reqwest::Client) -> Self {
        Self { http, ..self.clone() }
    }

    /// A request.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// A GET.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// The JSON of a successful GET.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Posts a body to the intake of a cluster.
    pub(crate) async fn post(&self, cluster: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::POST, &format!("/v1/intake/audit/{cluster}")).body(body).send().await.unwrap()
    }

    /// How many records match.
    pub(crate) async fn count(&self, query: &str) -> u64 {
        let request = self.get("/v1/histogram").query(&[("q", query), ("interval", "24h")]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["total"].as_u64().unwrap_or_else(|| panic!("{query}: {answer}"))
    }

    /// Waits until this many records match, for as long as their number changes at least once in [`PATIENCE`].
    pub(crate) async fn until_count(&self, query: &str, expected: u64) {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let count = self.count(query).await;
            if count == expected {
                return;
            }
            if last != Some(count) {
                (last, since) = (Some(count), Instant::now());
            }
            let waited = since.elapsed();
            assert!(waited < PATIENCE, "{expected} records for {query:?}: {count}, unchanged for {waited:?}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The page of the metrics at one moment.
#[derive(Debug)]
pub(crate) struct Figures(String);

impl Figures {
    /// The page as it is now.
    pub(crate) async fn of(caller: &Caller) -> Self {
        Self(caller.get("/metrics").send().await.unwrap().text().await.unwrap())
    }

    /// The figure of a name with its labels; nothing before it was measured.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}
