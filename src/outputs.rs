//! Starts the outputs of the gateway's audit events.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use api::{audit_webhook::Webhook, bodies::DayKeys, health::Check};
use async_trait::async_trait;
use ingest::{
    failing::Failing,
    journal::Journal,
    output::{AuditFile, Feed, FeedOptions, FileOptions, Output, Stdout},
    time::Clock,
};
use tokio::sync::watch;

use crate::{
    settings::{OutputSettings, Settings},
    supervise::{Phase, Supervisor},
};

/// The folder of the outputs' positions in the data folder.
const FOLDER: &str = "outputs";

/// What `--audit-log-path` is for standard output.
const STDOUT: &str = "-";

/// What outputs are fed from.
pub(crate) struct Outputs<'p> {
    pub(crate) settings: &'p Settings,
    pub(crate) data: &'p Path,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) keys: DayKeys,
    pub(crate) supervisor: &'p mut Supervisor,
    pub(crate) checks: &'p mut Vec<Box<dyn Check>>,
}

impl Outputs<'_> {
    /// Opens the outputs and feeds them. Before anything is released from the journal.
    ///
    /// # Errors
    /// When an output cannot be written, or its position cannot be read.
    pub(crate) async fn start(mut self, webhook: Option<Webhook>) -> Result<()> {
        let settings = self.settings.outputs.clone();
        if let Some(path) = &settings.audit_log_path {
            let output = audit_log(path, &settings, self.clock.clone()).await?;
            self.feed("audit-log", output).await?;
        }
        if let Some(webhook) = webhook {
            self.feed("audit-webhook", Box::new(webhook)).await?;
        }
        Ok(())
    }

    async fn feed(&mut self, name: &'static str, output: Box<dyn Output>) -> Result<()> {
        let options = FeedOptions {
            name,
            cluster: self.settings.cluster_name.as_arc().clone(),
            max_bytes: self.settings.outputs.audit_output_max_bytes,
            open: Some(Arc::new(self.keys.clone())),
            clock: self.clock.clone(),
        };
        let (folder, journal) = (self.data.join(FOLDER), self.journal.clone());
        let open = move || {
            let file = folder.join(format!("{name}.json"));
            fs::create_dir_all(&folder)
                .and_then(|()| Feed::open(options, output, journal, &file))
                .with_context(|| format!("cannot use {}, which keeps how far {name} is", file.display()))
        };
        let feed = tokio::task::spawn_blocking(open).await??;
        self.checks.push(Box::new(OutputCheck { name, failing: feed.failing() }));
        let stop = self.supervisor.stop(Phase::Movers);
        self.supervisor.spawn(Phase::Movers, name, async move { Ok(feed.run(stop).await?) });
        Ok(())
    }
}

/// Opens the file, so that one which cannot be written ends the start.
async fn audit_log(path: &Path, settings: &OutputSettings, clock: Clock) -> Result<Box<dyn Output>> {
    if path == Path::new(STDOUT) {
        return Ok(Box::new(Stdout));
    }
    let options = FileOptions {
        path: PathBuf::from(path),
        max_bytes: u64::from(settings.audit_log_maxsize) << 20,
        max_age_days: settings.audit_log_maxage,
        max_backups: settings.audit_log_maxbackup,
    };
    let open = move || AuditFile::open(options, clock);
    let file = tokio::task::spawn_blocking(open).await?.context("--audit-log-path cannot be used")?;
    Ok(Box::new(file))
}

/// Whether an output takes its events. One that does not is named and no more: requests go on without it.
struct OutputCheck {
    name: &'static str,
    failing: watch::Receiver<Option<Failing>>,
}

#[async_trait]
impl Check for OutputCheck {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn check(&self) -> Result<String, String> {
        Ok(match &*self.failing.borrow() {
            None => "takes its events".to_owned(),
            Some(failing) => {
                let (seconds, reason) = (failing.lasted().as_secs(), &failing.reason);
                format!("failing for {seconds} s, and requests go on: {reason}")
            }
        })
    }
}

/// Whether standard output is for events, and nothing else may stand there.
pub(crate) fn is_stdout_taken(settings: &Settings) -> bool {
    settings.outputs.audit_log_path.as_deref() == Some(Path::new(STDOUT))
}
