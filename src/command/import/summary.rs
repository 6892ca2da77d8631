//! What became of an import: read, accepted, duplicate, rejected with line numbers, and how fast.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::Result;
use api::intake::IntakeAnswer;
use indicatif::{ProgressBar, ProgressStyle};
use ingest::accept::Place;
use reqwest::Method;
use serde_json::{Value, json};

use super::{batch::Batch, source::Source};
use crate::client::Client;

/// Rejected items that are told of one by one.
const MAX_SHOWN: usize = 1_000;

/// Rejected items that the text for people shows.
const MAX_LINES: usize = 20;

/// How long the ledger is waited for; it takes thousands of events a second.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the ledger is asked how far it is.
const LEDGER_POLL: Duration = Duration::from_millis(200);

/// One rejected item.
#[derive(Debug)]
struct Rejected {
    file: String,
    place: Place,
    reason: String,
    message: String,
}

/// The figures so far.
#[derive(Debug)]
pub(crate) struct Summary {
    started: Instant,
    took: Duration,
    /// Items that an earlier, interrupted run has sent.
    pub(crate) skipped: u64,
    accepted: u64,
    /// Items that were rejected.
    pub(crate) rejected: u64,
    duplicates: Option<u64>,
    before: Option<BTreeMap<String, u64>>,
    last_seqs: BTreeMap<String, u64>,
    shown: Vec<Rejected>,
}

impl Summary {
    /// Begins, noting how many duplicates the ledger had counted before.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub(crate) async fn begin(client: &Client) -> Result<Self> {
        let before = boots(client).await?.map(|boots| duplicates(&boots));
        Ok(Self {
            started: Instant::now(),
            took: Duration::ZERO,
            skipped: 0,
            accepted: 0,
            rejected: 0,
            duplicates: None,
            before,
            last_seqs: BTreeMap::new(),
            shown: Vec::new(),
        })
    }

    /// Adds what the server said of a batch.
    pub(crate) fn add(&mut self, file: &str, batch: &Batch, answer: &IntakeAnswer) {
        self.accepted += answer.accepted;
        self.rejected += answer.rejected;
        if let (Some(boot), Some(seq)) = (&answer.boot, answer.last_seq) {
            let last = self.last_seqs.entry(boot.clone()).or_default();
            *last = seq.max(*last);
        }
        let unreadable = batch.unreadable.iter().map(|(place, rejection)| {
            (*place, rejection.reason.as_str().to_owned(), rejection.detail.clone())
        });
        let refused =
            answer.errors.iter().map(|e| (batch.place_of(e.offset), e.reason.clone(), e.message.clone()));
        let mut all: Vec<_> = unreadable.chain(refused).collect();
        all.sort_by_key(|(place, ..)| place.item);
        for (place, reason, message) in all {
            if self.shown.len() < MAX_SHOWN {
                self.shown.push(Rejected { file: file.to_owned(), place, reason, message });
            }
        }
    }

    /// Waits until the ledger has every event that was sent, and counts how many it had already.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub(crate) async fn count_duplicates(&mut self, client: &Client) -> Result<()> {
        self.took = self.started.elapsed();
        let Some(before) = self.before.clone() else { return Ok(()) };
        let deadline = Instant::now() + LEDGER_TIMEOUT;
        while Instant::now() < deadline {
            let Some(boots) = boots(client).await? else { return Ok(()) };
            if self.last_seqs.iter().all(|(boot, last)| reached(&boots, boot) >= *last) {
                let after = duplicates(&boots);
                let more = after.iter().map(|(boot, n)| n - before.get(boot).copied().unwrap_or(0).min(*n));
                self.duplicates = Some(more.sum());
                return Ok(());
            }
            tokio::time::sleep(LEDGER_POLL).await;
        }
        Ok(())
    }

    /// Notes how long it took, the wait for the ledger aside.
    pub(crate) fn end(&mut self) {
        if self.took.is_zero() {
            self.took = self.started.elapsed();
        }
    }

    fn read(&self) -> u64 {
        self.accepted + self.rejected
    }

    fn rate(&self) -> u64 {
        (self.read() as f64 / self.took.as_secs_f64().max(0.001)) as u64
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let duplicates = match self.duplicates {
            Some(n) => format!("{n} (were in the ledger already, as it counted during this import)"),
            None => "unknown (the ledger was not asked or has not caught up)".to_owned(),
        };
        let mut out = format!(
            "read       {}\naccepted   {}\nduplicate  {duplicates}\nrejected   {}\nrate       {} items/s, {:.1} s",
            self.read(),
            self.accepted,
            self.rejected,
            self.rate(),
            self.took.as_secs_f64(),
        );
        if self.skipped > 0 {
            out.push_str(&format!("\nskipped    {} (sent by an earlier run)", self.skipped));
        }
        for item in self.shown.iter().take(MAX_LINES) {
            out.push_str(&format!("\n{}:{}: {}: {}", item.file, item.place.line, item.reason, item.message));
        }
        let hidden = self.rejected.saturating_sub(self.shown.len().min(MAX_LINES) as u64);
        if hidden > 0 {
            out.push_str(&format!("\nand {hidden} more"));
        }
        out
    }

    /// For programs.
    pub(crate) fn json(&self) -> String {
        let errors = self.shown.iter().map(|item| {
            json!({
                "file": item.file, "line": item.place.line, "offset": item.place.offset,
                "item": item.place.item, "reason": item.reason, "message": item.message,
            })
        });
        json!({
            "read": self.read(),
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "skipped": self.skipped,
            "seconds": self.took.as_secs_f64(),
            "errors": errors.collect::<Vec<_>>(),
        })
        .to_string()
    }
}

/// What the ledger knows of each boot; nothing when this server does not answer queries, or not yet.
async fn boots(client: &Client) -> Result<Option<Vec<Value>>> {
    let request = client.request(Method::GET, "/v1/completeness");
    let response = request.send().await.map_err(|e| client.unreachable(e))?;
    if response.status() == reqwest::StatusCode::UNAUTHORIZED
        || response.status() == reqwest::StatusCode::FORBIDDEN
    {
        return Ok(None);
    }
    if !response.status().is_success() {
        return Ok(None);
    }
    let mut answer: Value = response.json().await?;
    Ok(serde_json::from_value(answer["boots"].take()).ok())
}

fn duplicates(boots: &[Value]) -> BTreeMap<String, u64> {
    let each = boots
        .iter()
        .map(|b| (b["boot"].as_str().unwrap_or("").to_owned(), b["duplicates"].as_u64().unwrap_or(0)));
    each.collect()
}

/// The last number of `boot` up to which nothing is missing.
fn reached(boots: &[Value], boot: &str) -> u64 {
    let found = boots.iter().find(|b| b["boot"] == boot);
    let Some(found) = found else { return 0 };
    match found["holes"].as_array().and_then(|holes| holes.first()) {
        Some(hole) => hole["first"].as_u64().unwrap_or(1).saturating_sub(1),
        None => found["last_seq"].as_u64().unwrap_or(0),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(source: &Source) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    match source.size() {
        Some(size) => {
            let style =
                ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}");
            ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        None => ProgressBar::new_spinner(),
    }
}
