//! Anonymous memory under a steady load.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Args,
    figures::{Figure, Goal, Line},
    load::Load,
    process::Server,
};

/// Events in a second.
const RATE: usize = 5_000;
/// Between two looks at the process.
const SAMPLE: Duration = Duration::from_millis(100);
/// What may be used.
const LIMIT: u64 = 512 << 20;

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let folder = args.folder()?;
    let server = Arc::new(Server::start(folder.path(), &[]).await?);
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
    Ok(vec![
        Line::new(
            format!("anonymous memory at {RATE} events/s for {} s, highest", time.as_secs()),
            Figure::Bytes(peak),
        )
        .goal(Goal::AtMost(Figure::Bytes(LIMIT))),
    ])
}
