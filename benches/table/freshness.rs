//! From the sending of an event to the query that finds it, under a steady load.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    Args,
    figures::{Figure, Goal, Line, Times},
    input,
    load::Load,
    process::{LOOK, Server},
};

/// Events in a second while freshness is measured.
const RATE: usize = 2_000;
/// Looking for longer than this counts as a failure.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let folder = args.folder()?;
    let server = Arc::new(Server::start(folder.path(), &[]).await?);
    let time = args.full_or_quick(Duration::from_secs(60), Duration::from_secs(10));
    let load = Load::start(Arc::clone(&server), RATE);
    let mut probes = JoinSet::new();
    let began = Instant::now();
    let mut probe = 0;
    while began.elapsed() < time {
        // Probes are spread over the second, so that none of the pipeline's rhythms is favoured.
        tokio::time::sleep(Duration::from_millis(170 + probe % 7 * 23)).await;
        probes.spawn(find(Arc::clone(&server), probe));
        probe += 1;
    }
    let mut times = Times::default();
    while let Some(found) = probes.join_next().await {
        times.push(found??);
    }
    let rate = load.stop().await?;
    anyhow::ensure!(
        rate > RATE as f64 * 0.95,
        "only {rate:.0} events/s were posted: the figures would mean nothing"
    );
    let line = |name: &str, quantile, seconds| {
        Line::new(format!("freshness at {RATE} events/s: {name}"), Figure::Time(times.quantile(quantile)))
            .goal(Goal::AtMost(Figure::Time(Duration::from_secs(seconds))))
    };
    Ok(vec![line("p50", 0.5, 1), line("p99", 0.99, 2)])
}

/// Posts one event that has a name of its own and asks until it is found.
async fn find(server: Arc<Server>, probe: u64) -> anyhow::Result<Duration> {
    let name = format!("probe-{probe}");
    let body = Bytes::from(input::named_event(&name));
    let sent = Instant::now();
    server.post(body).send().await?.error_for_status()?;
    let q = format!("name:={name}");
    loop {
        let page = server.get("/v1/events", &[("q", &q), ("limit", "1")]).send().await?.error_for_status()?;
        if page.json::<serde_json::Value>().await?["items"].as_array().is_some_and(|items| !items.is_empty())
        {
            return Ok(sent.elapsed());
        }
        anyhow::ensure!(sent.elapsed() < FOUND_WITHIN, "{name} was not found within {FOUND_WITHIN:?}");
        tokio::time::sleep(LOOK).await;
    }
}
