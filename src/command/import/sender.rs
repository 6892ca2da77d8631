//! Sends batches to the intake, two at a time, and repeats what the server could not take yet.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use api::intake::IntakeAnswer;
use indicatif::ProgressBar;
use reqwest::{Method, StatusCode, header};
use tokio::{task::JoinHandle, time::Instant};

use super::{batch::Batch, summary::Summary};
use crate::client::{Client, refusal};

/// Batches that are on their way at once: while one is synced, the next is read.
const IN_FLIGHT: usize = 2;

/// The waits between tries, where the server does not say how long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long a batch is tried again, and where it is said that it is.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    give_up_after: Duration,
    bar: ProgressBar,
    /// What is waited for, while something is: the batches on their way share it, so that it is said once.
    waiting: Arc<Mutex<Option<String>>>,
}

impl Patience {
    /// Gives up after this time; tells beside this bar.
    pub(crate) fn new(give_up_after: Duration, bar: ProgressBar) -> Self {
        Self { give_up_after, bar, waiting: Arc::default() }
    }

    fn waits(&self, url: &str, reason: &anyhow::Error) {
        let text = format!("{reason:#}");
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.as_ref() != Some(&text) {
            let bound = self.give_up_after;
            self.say(&format!("waiting for {url}: {text}; trying again, for {bound:?} at most"));
            *waiting = Some(text);
        }
    }

    fn goes_on(&self) {
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.say("going on");
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

/// Sends the batches of one file.
pub(crate) struct Sender<'c> {
    client: &'c Client,
    path: String,
    file: &'c str,
    patience: Patience,
    on_the_way: VecDeque<(Batch, JoinHandle<Result<IntakeAnswer>>)>,
}

impl<'c> Sender<'c> {
    /// A sender for `cluster`'s events of `file`.
    pub(crate) fn new(client: &'c Client, cluster: &str, file: &'c str, patience: Patience) -> Self {
        let path = format!("/v1/intake/audit/{cluster}");
        Self { client, path, file, patience, on_the_way: VecDeque::new() }
    }

    /// Sends a batch. When enough are on their way, waits for the oldest and tells how many items are done then.
    ///
    /// # Errors
    /// When the server refuses for good, or does not take a batch for long.
    pub(crate) async fn send(&mut self, mut batch: Batch, summary: &mut Summary) -> Result<Option<u64>> {
        let body = bytes::Bytes::from(std::mem::take(&mut batch.body));
        let path = format!("{}?unreadable={}", self.path, batch.unreadable.len());
        let task = tokio::spawn(deliver(self.client.clone(), path, body, self.patience.clone()));
        self.on_the_way.push_back((batch, task));
        if self.on_the_way.len() >= IN_FLIGHT { self.settle(summary).await } else { Ok(None) }
    }

    /// Waits for the oldest batch on its way; nothing when there is none.
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub(crate) async fn settle(&mut self, summary: &mut Summary) -> Result<Option<u64>> {
        let Some((batch, task)) = self.on_the_way.pop_front() else { return Ok(None) };
        let answer = task.await.context("sending ended early")??;
        summary.add(self.file, &batch, &answer);
        Ok(Some(batch.end))
    }
}

async fn deliver(
    client: Client,
    path: String,
    body: bytes::Bytes,
    patience: Patience,
) -> Result<IntakeAnswer> {
    let deadline = Instant::now() + patience.give_up_after;
    let mut wait = FIRST_WAIT;
    loop {
        let (reason, asked) = match attempt(&client, &path, body.clone()).await? {
            Attempt::Answered(answer) => {
                patience.goes_on();
                return Ok(answer);
            }
            Attempt::Later(reason, asked) => (reason, asked),
        };
        if Instant::now() >= deadline {
            bail!("{reason}; the import is interrupted, the same command goes on where it was");
        }
        patience.waits(client.url(), &reason);
        tokio::time::sleep(asked.unwrap_or(wait).min(LONGEST_WAIT)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

enum Attempt {
    Answered(IntakeAnswer),
    Later(anyhow::Error, Option<Duration>),
}

async fn attempt(client: &Client, path: &str, body: bytes::Bytes) -> Result<Attempt> {
    let request =
        client.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json").body(body);
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Ok(Attempt::Later(client.unreachable(error), None)),
    };
    let status = response.status();
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    if status.is_success() {
        return match response.json().await {
            Ok(answer) => Ok(Attempt::Answered(answer)),
            Err(error) => Ok(Attempt::Later(client.unreachable(error), None)),
        };
    }
    let refused = refusal(response).await;
    match status {
        StatusCode::BAD_REQUEST if refused.error["code"] == "nothing_accepted" => {
            let answer =
                serde_json::from_value(refused.error).map_err(|e| anyhow!("an answer does not read: {e}"))?;
            Ok(Attempt::Answered(answer))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Ok(Attempt::Later(refused.into(), asked.map(Duration::from_secs)))
        }
        status if status.is_server_error() => {
            Ok(Attempt::Later(refused.into(), asked.map(Duration::from_secs)))
        }
        _ => Err(refused.into()),
    }
}
