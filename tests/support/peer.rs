//! A real kube-apiserver and its etcd, with data, keys and ports of their own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this file")]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::skipped::skipped;

/// The processes, once they are started. They end with it.
pub struct Peer {
    scripts: PathBuf,
    built: PathBuf,
    /// Where everything of theirs is.
    pub folder: PathBuf,
    /// What the scripts are told.
    variables: BTreeMap<&'static str, String>,
}

impl Peer {
    /// Finds what was built. Where nothing was, the test is reported as skipped, unless it was asked for.
    pub fn find(folder: &Path) -> Option<Self> {
        let (scripts, built) = match built() {
            Ok(found) => found,
            Err(reason) => {
                assert!(variable("MUNIMENT_TEST_INTEROP").is_none(), "{reason}");
                skipped(&reason);
                return None;
            }
        };
        let ports = ["ETCD_PORT", "ETCD_PEER_PORT", "API_PORT", "HOOK_PORT"];
        let variables = ports.map(|name| (name, free_port().to_string())).into();
        Some(Self { scripts, built, folder: folder.join("peer"), variables })
    }

    /// Tells the scripts something.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.variables.insert(name, value.to_owned());
    }

    /// The URL of its etcd.
    pub fn etcd(&self) -> String {
        format!("http://127.0.0.1:{}", self.variables["ETCD_PORT"])
    }

    /// The URL of its API server.
    pub fn api(&self) -> String {
        format!("https://127.0.0.1:{}", self.variables["API_PORT"])
    }

    /// What somebody shows it: `admin` or `bench`.
    pub fn token(&self, name: &str) -> String {
        let token = fs::read_to_string(self.folder.join(format!("etc/{name}.token"))).unwrap();
        token.trim().to_owned()
    }

    /// Runs the script that starts and stops them.
    pub fn script(&self, args: &[&str]) {
        let mut command = Command::new(self.scripts.join("run.sh"));
        command.args(args).env("PEER_DIR", &self.folder).env("BIN", &self.built).envs(&self.variables);
        let status = command.status().unwrap();
        assert!(status.success(), "run.sh {} failed; see {}", args.join(" "), self.folder.display());
    }

    /// The API server admits Pods with their service accounts as well, unlike what the scripts have it do. From the next
    /// start on.
    pub fn admit_accounts(&mut self) {
        let real = self.built.join("kube-apiserver");
        let script = format!(
            "#!/usr/bin/env bash\nargs=()\nwhile [ $# -gt 0 ]; do\n  if [ \"$1\" = --disable-admission-plugins ]; then \
             shift 2; else args+=(\"$1\"); shift; fi\ndone\nexec \"{}\" \"${{args[@]}}\"\n",
            real.display()
        );
        self.built = self.folder.join("bin");
        fs::create_dir_all(&self.built).unwrap();
        let program = self.built.join("kube-apiserver");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.set("API_ARGS", "--enable-admission-plugins=ServiceAccount");
    }

    /// What the API server is known by.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("pki/ca.crt")
    }

    /// kubectl against the API server.
    pub fn command(&self, token: &str, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(["--server", &self.api()]);
        command.arg("--certificate-authority").arg(self.folder.join("pki/ca.crt"));
        command.args(["--token", &self.token(token), "--request-timeout", "60s"]).args(args);
        command.env("HOME", &self.folder);
        command
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.join("log/apiserver.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                eprintln!("apiserver: {line}");
            }
        }
        self.script(&["stop", "etcd", "apiserver"]);
    }
}

/// Where the API server was built, or why the test cannot run.
fn built() -> Result<(PathBuf, PathBuf), String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/peer");
    let built = PathBuf::from(variable("PEER_DIR").unwrap_or_else(|| "/tmp/peer".into())).join("bin");
    if !scripts.join("run.sh").exists() {
        return Err("../shared is absent".into());
    }
    if !built.join("kube-apiserver").exists() {
        return Err(format!("no kube-apiserver in {}; `make interop` builds it", built.display()));
    }
    Ok((scripts, built))
}

#[allow(clippy::disallowed_methods, reason = "a test is told by its caller where the built server is")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
