//! Intake over TLS beside the same listener that reads bodies and answers without work.

use std::{
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use reqwest::StatusCode;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    Args,
    database::Database,
    figures::{Figure, Goal, Line, median},
    input,
    process::{self, Server},
};

/// Events of a batch, as kube-apiserver's webhook sends them.
const BATCH: usize = 400;
/// Different batches; they are posted again and again, as the ledger's work is not what is measured.
const BATCHES: usize = 250;
/// Batches under way at once: kube-apiserver sends each in a task of its own.
const SENDERS: usize = 8;
/// How long the listener without work may take to start.
const START: Duration = Duration::from_secs(30);

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let bodies = Arc::new(input::event_lists(BATCHES, BATCH));
    let time = args.full_or_quick(Duration::from_secs(10), Duration::from_secs(2));
    let (mut ours, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds() {
        ours.push(intake_alone(args, &bodies, time).await?);
        let blank = Blank::start(args).await?;
        idle.push(post_for(&blank.http, &blank.url, "none", &bodies, time).await?);
    }
    Ok(vec![
        Line::new(
            format!("intake over TLS, EventLists of {BATCH}, durable"),
            Figure::PerSecond(median(ours)),
        )
        .beside("the same listener without work", Figure::PerSecond(median(idle)))
        .goal(Goal::AtLeast(Figure::PerSecond(20_000.0))),
    ])
}

/// An instance that only takes in and relays: recorder and indexer have processes of their own where intake is busy.
async fn intake_alone(args: &Args, bodies: &Arc<Vec<Bytes>>, time: Duration) -> anyhow::Result<f64> {
    let kafka = args.kafka.as_deref().context("the intake row needs --kafka or MUNIMENT_TEST_KAFKA")?;
    let postgres =
        args.postgres.as_deref().context("the intake row needs --postgres or MUNIMENT_TEST_POSTGRES")?;
    let (folder, database) = (args.folder()?, Database::create(postgres).await?);
    let topic = format!("bench-{}", Uuid::new_v4().simple());
    let url = database.url();
    let flags = ["--roles", "intake", "--kafka", kafka, "--topic", &topic, "--postgres", &url];
    let server = Server::start(folder.path(), &flags).await?;
    let rate = post_for(&server.http, &server.url, &server.token, bodies, time).await?;
    drop(server);
    database.drop().await?;
    Ok(rate)
}

/// Posts batches for a while; events that were acknowledged in a second.
async fn post_for(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    bodies: &Arc<Vec<Bytes>>,
    time: Duration,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (http, bodies) = (http.clone(), Arc::clone(bodies));
        let (url, token) = (format!("{url}/v1/intake/audit/bench"), token.to_owned());
        senders.spawn(async move {
            let mut posted = 0;
            while began.elapsed() < time {
                let body = bodies[(sender * BATCHES / SENDERS + posted) % bodies.len()].clone();
                let request = http.post(&url).bearer_auth(&token).header("content-type", "application/json");
                let answer = request.body(body).send().await?;
                // A full journal is part of the picture: the sender waits as it is told.
                if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                    tokio::time::sleep(process::LOOK).await;
                    continue;
                }
                answer.error_for_status()?.bytes().await?;
                posted += 1;
            }
            anyhow::Ok(posted)
        });
    }
    let mut posted = 0;
    while let Some(done) = senders.join_next().await {
        posted += done??;
    }
    Ok((posted * BATCH) as f64 / began.elapsed().as_secs_f64())
}

/// The server without work, as a process of its own.
struct Blank {
    child: Child,
    _folder: tempfile::TempDir,
    url: String,
    http: reqwest::Client,
}

impl Blank {
    async fn start(args: &Args) -> anyhow::Result<Self> {
        let (address, folder) = (process::free_address()?, args.folder()?);
        let child = Command::new(std::env::current_exe()?)
            .args(["--blank", &address])
            .arg("--dir")
            .arg(folder.path())
            .spawn()?;
        let blank = Self {
            child,
            _folder: folder,
            url: format!("https://{address}"),
            http: reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?,
        };
        let began = Instant::now();
        while blank.http.get(&blank.url).send().await.is_err() {
            anyhow::ensure!(began.elapsed() < START, "the listener without work does not answer");
            tokio::time::sleep(process::LOOK).await;
        }
        Ok(blank)
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
