//! Embedded, end to end: an audit log file is imported until all of it is in the ledger and searchable.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{
    Args, bare,
    figures::{Figure, Goal, Line, median},
    input,
    process::{self, LOOK, Server},
};

/// What a whole import may take before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(1_800);

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let events = args.events();
    let input = args.folder()?;
    let log = input.path().join("audit.log");
    let raw = input::log_file(&log, events)?;
    let (mut ours, mut loops, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds() {
        let folder = args.folder()?;
        let server = Server::start(folder.path(), &[]).await?;
        ours.push(events as f64 / import(&server, &log, events as u64).await?);
        disk.push(settled_bytes(server).await? as f64 / raw as f64);
        let folder = args.folder()?;
        let (ledger, index) = (folder.path().join("ledger.sqlite"), folder.path().join("index"));
        std::fs::create_dir(&index)?;
        let log = log.clone();
        let seconds = tokio::task::spawn_blocking(move || bare::embedded(&log, &ledger, &index)).await??;
        loops.push(events as f64 / seconds);
        args.tell(round, ours[round], loops[round]);
    }
    Ok(vec![
        Line::new("embedded, import until all is searchable", Figure::PerSecond(median(ours)))
            .beside("bare loop", Figure::PerSecond(median(loops)))
            .goal(Goal::RatioAtLeast(0.75))
            .goal(Goal::AtLeast(Figure::PerSecond(8_000.0))),
        Line::new("disk: SQLite ledger and index", Figure::OfRaw(median(disk)))
            .goal(Goal::AtMost(Figure::OfRaw(0.60))),
    ])
}

/// Seconds from the start of `muniment import` until ledger and index have everything.
async fn import(server: &Server, log: &Path, events: u64) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut command = process::muniment("import", server.folder());
    command.args(["--cluster", "bench", "--no-wait"]).arg(log).stdout(std::process::Stdio::null());
    let status = tokio::process::Command::from(command).status().await?;
    ensure!(status.success(), "muniment import ended with {status}");
    until_both_have(server, "cluster:bench", events).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Waits until index and ledger have `events` records of intake.
pub(crate) async fn until_both_have(server: &Server, q: &str, events: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    // The ledger counts facts about the pipeline too, so it has everything once it has at least as many.
    while server.count(q).await? < events || server.recorded().await? < events {
        ensure!(began.elapsed() < PATIENCE, "not everything arrived within {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What ledger and index take once the server has ended and its files are at rest.
async fn settled_bytes(server: Server) -> anyhow::Result<u64> {
    let folder = server.folder().to_owned();
    server.stop().await?;
    let mut bytes = process::bytes_under(&folder.join("index"))?;
    for file in ["ledger.sqlite", "ledger.sqlite-wal"] {
        bytes += std::fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}
