//! Anonymous memory under a steady load, on the embedded engines and on Kafka with Postgres.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use uuid::Uuid;

use crate::{
    Args,
    database::Database,
    figures::{Figure, Goal, Line},
    load::Load,
    process::Server,
};

/// Events in a second.
const RATE: usize = 5_000;
/// Between two looks at the process.
const SAMPLE: Duration = Duration::from_millis(100);
/// How soon after the last event ledger and index have nearly all of them.
const KEEPS_UP: Duration = Duration::from_secs(10);
/// What may be used.
const LIMIT: u64 = 512 << 20;

/// Embedded: every role over SQLite and the journal.
pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let folder = args.folder()?;
    let server = Server::start(folder.path(), &[]).await?;
    highest(args, server, "anonymous memory").await
}

/// Networked: every role over Kafka and Postgres.
pub(crate) async fn networked(args: &Args) -> anyhow::Result<Vec<Line>> {
    let kafka =
        args.kafka.as_deref().context("the row memory-networked needs --kafka or MUNIMENT_TEST_KAFKA")?;
    let postgres = args
        .postgres
        .as_deref()
        .context("the row memory-networked needs --postgres or MUNIMENT_TEST_POSTGRES")?;
    let (folder, database) = (args.folder()?, Database::create(postgres).await?);
    let (topic, url) = (format!("bench-{}", Uuid::new_v4().simple()), database.url());
    let flags = ["--kafka", kafka, "--topic", &topic, "--postgres", &url];
    let server = Server::start(folder.path(), &flags).await?;
    let lines = highest(args, server, "anonymous memory, networked,").await?;
    database.drop().await?;
    Ok(lines)
}

/// The most that the process holds while events come at a steady rate. It has to keep up: what only piles up would cost
/// nothing.
async fn highest(args: &Args, server: Server, what: &str) -> anyhow::Result<Vec<Line>> {
    let server = Arc::new(server);
    let time = args.full_or_quick(Duration::from_secs(300), Duration::from_secs(20));
    let load = Load::start(Arc::clone(&server), RATE);
    let (began, mut peak) = (Instant::now(), 0);
    while began.elapsed() < time {
        tokio::time::sleep(SAMPLE).await;
        peak = peak.max(server.anonymous_memory());
    }
    let rate = load.stop().await?;
    anyhow::ensure!(
        rate > RATE as f64 * 0.95,
        "only {rate:.0} events/s were posted: the figure would mean nothing"
    );
    let (stopped, least) = (Instant::now(), (rate * time.as_secs_f64() * 0.95) as u64);
    while server.count("cluster:bench").await? < least || server.recorded().await? < least {
        anyhow::ensure!(stopped.elapsed() < KEEPS_UP, "ledger or index did not keep up with {RATE} events/s");
        tokio::time::sleep(SAMPLE).await;
    }
    Ok(vec![
        Line::new(
            format!("{what} at {RATE} events/s for {} s, highest", time.as_secs()),
            Figure::Bytes(peak),
        )
        .goal(Goal::AtMost(Figure::Bytes(LIMIT))),
    ])
}
