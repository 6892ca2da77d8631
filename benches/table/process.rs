//! The built `muniment` as a process: started, asked and ended by the rows that measure it from outside.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// A running `muniment serve` with a data folder of its own.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

impl Server {
    /// Starts it and waits until it is ready. What it says goes to `serve.log` in the folder.
    pub(crate) async fn start(folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let log = fs::File::create(folder.join("serve.log"))?;
        let mut child = muniment("serve", folder)
            .args(["--bind-address", &address, "--log-level", "warn"])
            .args(flags)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let url = format!("https://{address}");
        let probe = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
        let began = Instant::now();
        while !probe
            .get(format!("{url}/readyz"))
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "muniment serve ended with {status}: {}",
                    fs::read_to_string(folder.join("serve.log"))?
                );
            }
            if began.elapsed() > START {
                let _ = child.kill();
                bail!("muniment serve is not ready: {}", fs::read_to_string(folder.join("serve.log"))?);
            }
            tokio::time::sleep(LOOK).await;
        }
        let authority = fs::read(folder.join("ca.pem")).context("the server made no ca.pem")?;
        let http = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority)?)
            .pool_max_idle_per_host(256)
            .build()?;
        let token = fs::read_to_string(folder.join("client.token"))?.trim().to_owned();
        Ok(Self { child, folder: folder.to_owned(), url, http, token })
    }

    /// Ends it as an operator would, and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(began.elapsed() < START, "muniment serve did not end");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Anonymous memory of the process now, in bytes: what is not backed by a file.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).query(query)
    }

    /// Posts an EventList and waits for the answer that makes it durable.
    pub(crate) fn post(&self, body: bytes::Bytes) -> reqwest::RequestBuilder {
        self.http
            .post(format!("{}/v1/intake/audit/bench", self.url))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(body)
    }

    /// How many records match, as the index has them now.
    pub(crate) async fn count(&self, q: &str) -> anyhow::Result<u64> {
        let answer =
            self.get("/v1/histogram", &[("q", q), ("interval", "24h")]).send().await?.error_for_status()?;
        Ok(answer.json::<Value>().await?["total"].as_u64().unwrap_or_default())
    }

    /// How many numbers of its boots the ledger has.
    pub(crate) async fn recorded(&self) -> anyhow::Result<u64> {
        let answer =
            self.get("/v1/completeness", &[]).send().await?.error_for_status()?.json::<Value>().await?;
        let boots = answer["boots"].as_array().cloned().unwrap_or_default();
        Ok(boots.iter().filter_map(|boot| boot["count"].as_u64()).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of the binary on this data folder, without what the benchmark itself was told by variables.
pub(crate) fn muniment(command: &str, folder: &Path) -> Command {
    let mut process = Command::new(env!("CARGO_BIN_EXE_muniment"));
    process.arg(command).arg("--data-dir").arg(folder).stdin(Stdio::null());
    process
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Bytes of all files under a folder.
pub(crate) fn bytes_under(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_under(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
