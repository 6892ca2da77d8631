//! Networked, end to end: a full topic until Postgres and the index have all of it; then disk and queries on the same data.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use uuid::Uuid;

use crate::{
    Args, bare,
    database::Database,
    embedded::until_both_have,
    figures::{Figure, Goal, Line, Times, median},
    input,
    process::{self, LOOK, Server},
    topic::Topic,
};

/// What filling the topic may take before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Queries of each kind; the median counts.
const QUERIES: usize = 50;

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Line>> {
    let kafka = args.kafka.clone().context("the networked row needs --kafka or MUNIMENT_TEST_KAFKA")?;
    let postgres =
        args.postgres.as_deref().context("the networked row needs --postgres or MUNIMENT_TEST_POSTGRES")?;
    let events = args.events();
    let input = args.folder()?;
    let log = input.path().join("audit.log");
    let raw = input::log_file(&log, events)?;
    let topic = Topic { broker: kafka, name: format!("bench-{}", Uuid::new_v4().simple()) };
    let entries = fill(args, &topic, postgres, &log, events as u64).await?;
    let (mut ours, mut loops, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds() {
        let (database, folder) = (Database::create(postgres).await?, args.folder()?);
        let began = Instant::now();
        let server = serve(&topic, &database.url(), "recorder,indexer,query", folder.path()).await?;
        until_both_have(&server, "cluster:bench", events as u64).await?;
        ours.push(events as f64 / began.elapsed().as_secs_f64());
        if round + 1 == args.rounds() {
            lines = at_rest(server, &database, raw).await?;
        }
        database.drop().await?;
        loops.push(events as f64 / bare_loop(args, &topic, entries, postgres).await?);
        args.tell(round, ours[round], loops[round]);
    }
    lines.insert(
        0,
        Line::new("networked, full topic until both are caught up", Figure::PerSecond(median(ours)))
            .beside("bare loop", Figure::PerSecond(median(loops)))
            .goal(Goal::RatioAtLeast(0.75))
            .goal(Goal::AtLeast(Figure::PerSecond(10_000.0))),
    );
    Ok(lines)
}

async fn serve(topic: &Topic, database: &str, roles: &str, folder: &Path) -> anyhow::Result<Server> {
    let flags = ["--kafka", &topic.broker, "--topic", &topic.name, "--postgres", database, "--roles", roles];
    Server::start(folder, &flags).await
}

/// Imports the log file through an instance that only takes in and relays; how many entries the topic then has.
async fn fill(args: &Args, topic: &Topic, postgres: &str, log: &Path, events: u64) -> anyhow::Result<u64> {
    let (database, folder) = (Database::create(postgres).await?, args.folder()?);
    let server = serve(topic, &database.url(), "intake", folder.path()).await?;
    let mut command = process::muniment("import", server.folder());
    command.args(["--cluster", "bench", "--no-wait"]).arg(log).stdout(std::process::Stdio::null());
    let status = tokio::process::Command::from(command).status().await?;
    ensure!(status.success(), "muniment import ended with {status}");
    let began = Instant::now();
    let entries = loop {
        let entries = topic.entries()?;
        if entries >= events {
            break entries;
        }
        ensure!(began.elapsed() < PATIENCE, "the topic has {entries} of {events} events");
        tokio::time::sleep(LOOK * 10).await;
    };
    server.stop().await?;
    database.drop().await?;
    Ok(entries)
}

async fn bare_loop(args: &Args, topic: &Topic, entries: u64, postgres: &str) -> anyhow::Result<f64> {
    let (database, folder) = (Database::create(postgres).await?, args.folder()?);
    // The ledger makes its tables; after that it is left alone.
    ingest::ledger::PostgresLedger::connect(&database.url()).await?.close().await;
    let (topic, url, index) = (topic.clone(), database.url(), folder.path().to_owned());
    let seconds =
        tokio::task::spawn_blocking(move || bare::networked(&topic, entries, &url, &index)).await??;
    database.drop().await?;
    Ok(seconds)
}

/// What the data takes and how fast it is found, once all of it is there.
async fn at_rest(server: Server, database: &Database, raw: u64) -> anyhow::Result<Vec<Line>> {
    let mut lines = queries(&server, database).await?;
    let ledger = database.bytes().await?;
    let folder = server.folder().to_owned();
    server.stop().await?;
    let index = process::bytes_under(&folder.join("index"))?;
    lines.push(
        Line::new("disk: Postgres ledger and index", Figure::OfRaw((ledger + index) as f64 / raw as f64))
            .goal(Goal::AtMost(Figure::OfRaw(0.70))),
    );
    Ok(lines)
}

async fn queries(server: &Server, database: &Database) -> anyhow::Result<Vec<Line>> {
    let mut sql = database.connect().await?;
    // What an operator would give Postgres for these two questions. It is dropped with the database.
    for index in ["(resource, verb, at DESC)", "(at)"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE INDEX ON record {index}"))).execute(&mut sql).await?;
    }
    sqlx::query("ANALYZE record").execute(&mut sql).await?;
    let (mut ours, mut theirs) = ([Times::default(), Times::default()], [Times::default(), Times::default()]);
    let last = [("q", "resource:secrets verb:get code:403"), ("limit", "100")];
    let hourly = [("q", ""), ("interval", "1h")];
    for _ in 0..QUERIES {
        for (times, (path, query)) in ours.iter_mut().zip([("/v1/events", last), ("/v1/histogram", hourly)]) {
            let asked = Instant::now();
            server.get(path, &query).send().await?.error_for_status()?.bytes().await?;
            times.push(asked.elapsed());
        }
        for (times, question) in theirs.iter_mut().zip([
            "SELECT id, event FROM record WHERE resource = 'secrets' AND verb = 'get' AND code = 403 \
             ORDER BY at DESC LIMIT 100",
            "SELECT id, event FROM (SELECT date_trunc('hour', at)::text AS id, count(*)::text AS event FROM record \
             GROUP BY 1) AS hours",
        ]) {
            let asked = Instant::now();
            sqlx::query(question).fetch_all(&mut sql).await?;
            times.push(asked.elapsed());
        }
    }
    let names = ["last 100 by filter: p50", "hourly histogram over everything: p50"];
    let goals = [Duration::from_millis(30), Duration::from_millis(200)];
    Ok((0..2)
        .map(|n| {
            Line::new(names[n], Figure::Time(ours[n].quantile(0.5)))
                .beside("Postgres with indexes", Figure::Time(theirs[n].quantile(0.5)))
                .goal(Goal::AtMost(Figure::Time(goals[n])))
        })
        .collect())
}
