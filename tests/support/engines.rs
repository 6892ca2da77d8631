//! The real engines that the tests speak to: shared ones from the environment, and own ones that a test may break.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this file")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// How long a test waits for a condition that an idle machine meets within a second or two.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "the tests' engines are named in the environment")]
fn address(variable: &str, engine: &str) -> String {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| {
        panic!(
            "{variable} does not name a running {engine}: start one with \
             `eval \"$(tests/engines start target/engines/run {engine})\"`, or run `make test`, which does"
        )
    })
}

/// Address of the Kafka broker that all tests share.
pub fn kafka() -> String {
    address("MUNIMENT_TEST_KAFKA", "kafka")
}

/// Addresses of the three-node Kafka cluster that all tests share.
pub fn kafka3() -> String {
    address("MUNIMENT_TEST_KAFKA3", "kafka3")
}

/// Address of the etcd that all tests share.
pub fn etcd() -> String {
    address("MUNIMENT_TEST_ETCD", "etcd")
}

/// Address of the moto that all tests share: AWS KMS in every region.
pub fn moto() -> String {
    address("MUNIMENT_TEST_MOTO", "moto")
}

/// A name for a topic, group or member that no other test uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

/// An empty database, dropped with this value.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Creates one.
    pub async fn create() -> Self {
        Self::create_on(address("MUNIMENT_TEST_POSTGRES", "postgres")).await
    }

    /// Creates one on the Postgres at this address.
    pub async fn create_on(server: String) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        statement(&server, format!("CREATE DATABASE {name}")).await;
        Self { server, name }
    }

    /// Its `postgres://` address.
    pub fn url(&self) -> String {
        self.url_on(&self.server)
    }

    /// The same database, reached as `server` says.
    pub fn url_on(&self, server: &str) -> String {
        database_url(server, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A runtime cannot be entered twice on one thread, and the test's own is still there.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(statement(&server, sql));
        });
        if dropped.join().is_err() {
            eprintln!("the database {} was left behind", self.name);
        }
    }
}

async fn statement(server: &str, sql: String) {
    let mut connection =
        PgConnection::connect(server).await.unwrap_or_else(|e| panic!("no connection to {server}: {e}"));
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// `server` with its path replaced by `/name`; parameters stay.
fn database_url(server: &str, name: &str) -> String {
    let (base, parameters) = server.split_once('?').map_or((server, None), |(b, p)| (b, Some(p)));
    let host_end = base.find("://").map_or(0, |i| i + 3);
    let path = base[host_end..].find('/').map_or(base.len(), |i| host_end + i);
    let parameters = parameters.map(|p| format!("?{p}")).unwrap_or_default();
    format!("{}/{name}{parameters}", &base[..path])
}

/// Engines of one test alone, which it may stop, kill and pause. They are removed with this value.
pub struct Own {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

impl Own {
    /// Starts the named engines (as `tests/engines` calls them) and returns when they answer.
    pub fn start(engines: &[&str]) -> Self {
        let mut own = Self { folder: TempDir::new().unwrap(), variables: BTreeMap::new() };
        own.begin_again(engines);
        own
    }

    /// Starts engines that [`Self::stop`] or [`Self::kill`] has ended, on the same port and data.
    pub fn begin_again(&mut self, engines: &[&str]) {
        let exports = run("start", self.folder.path(), engines);
        for line in exports.lines() {
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|l| l.split_once('=')) {
                self.variables.insert(name.to_owned(), value.trim_matches('\'').to_owned());
            }
        }
    }

    /// Ends them in good order; their data stays.
    pub fn stop(&self, engines: &[&str]) {
        run("stop", self.folder.path(), engines);
    }

    /// Ends one process at once with SIGKILL; its data stays as it is.
    pub fn kill(&self, process: &str) {
        self.signal(process, Signal::KILL);
        // The next start must find the port free.
        let pid = self.pid(process);
        let ended = || !fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        let steps = PATIENCE.as_millis() / 20;
        assert!((0..steps).any(|_| ended() || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }));
    }

    /// Freezes one process with SIGSTOP: its connections stay open and nothing answers.
    pub fn pause(&self, process: &str) {
        self.signal(process, Signal::STOP);
        // A thread that runs meanwhile may answer once more.
        let tasks = format!("/proc/{}/task", self.pid(process));
        let is_stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        };
        let begun = Instant::now();
        while !fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())) {
            assert!(begun.elapsed() < PATIENCE, "{process} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets a frozen process go on.
    pub fn unpause(&self, process: &str) {
        self.signal(process, Signal::CONT);
    }

    /// The number of a process (`kafka`, `kafka3-1`, `postgres`, `etcd`).
    pub fn pid(&self, process: &str) -> i32 {
        let file = self.folder.path().join(format!("{process}.pid"));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        text.trim().parse().unwrap()
    }

    /// Where the engines keep everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port on which a process listens (`kafka`, `kafka-secured-sasl`, `postgres`).
    pub fn port(&self, name: &str) -> u16 {
        fs::read_to_string(self.folder.path().join(format!("{name}.port"))).unwrap().trim().parse().unwrap()
    }

    /// Address of this test's Kafka.
    pub fn kafka(&self) -> &str {
        self.variable("MUNIMENT_TEST_KAFKA")
    }

    /// Addresses of this test's three-node Kafka.
    pub fn kafka3(&self) -> &str {
        self.variable("MUNIMENT_TEST_KAFKA3")
    }

    /// Address of this test's Postgres.
    pub fn postgres(&self) -> &str {
        self.variable("MUNIMENT_TEST_POSTGRES")
    }

    /// Address of this test's etcd.
    pub fn etcd(&self) -> &str {
        self.variable("MUNIMENT_TEST_ETCD")
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("this test did not start what {name} names"))
    }

    fn signal(&self, process: &str, signal: Signal) {
        kill_process(Pid::from_raw(self.pid(process)).unwrap(), signal).unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        run("wipe", self.folder.path(), &[]);
    }
}

/// Runs `tests/engines VERB DIR ENGINES…` without the shared engines' variables, so that it starts own ones.
fn run(verb: &str, folder: &Path, engines: &[&str]) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/engines");
    let mut command = Command::new(&script);
    command.arg(verb).arg(folder).args(engines);
    for name in ["KAFKA", "KAFKA3", "POSTGRES", "ETCD", "MOTO"] {
        command.env_remove(format!("MUNIMENT_TEST_{name}"));
    }
    let output = command.output().unwrap_or_else(|e| panic!("{} does not run: {e}", script.display()));
    assert!(
        output.status.success(),
        "{} {verb} {engines:?} failed:\n{}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
