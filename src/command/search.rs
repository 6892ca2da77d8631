//! `muniment search`: events in a terminal, as a table, JSON lines or CSV.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    client::{Client, ClientArgs, Refusal},
    command::block_on,
    exit::{self, Usage},
};

mod follow;
mod render;

use render::{Format, Renderer};

/// The largest page that is asked for at once; more is fetched by following the cursor.
const PAGE: usize = 500;

/// How long the next event is asked for while the ledger does not have it yet. The server waits two seconds of each
/// time; a ledger that is further behind than this is not about to catch up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two times.
const PAUSE: Duration = Duration::from_millis(500);

/// Flags of `muniment search`.
#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// What to find, as 'verb:delete resource:secrets'; everything when empty
    #[arg(default_value = "", allow_hyphen_values = true)]
    query: String,
    /// Only events at or after this time: 2026-11-23, 2026-11-23T10:00:00Z, now-2h
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How many events at most, newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// One JSON object a line: the envelope, with the event's own bytes in `event`
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values with a heading
    #[arg(long)]
    csv: bool,
    /// Show events as they arrive from now on, until interrupted
    #[arg(long, conflicts_with_all = ["from", "to", "limit"])]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses the query.
pub(crate) fn run(args: SearchArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (_, true) => Format::Csv,
        _ => Format::Table { colour: std::io::stdout().is_terminal() },
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut renderer = Renderer::new(format, &mut out);
    let code = block_on(search(&client, &args, &mut renderer)).map_err(query_mistake)?;
    out.flush()?;
    Ok(code)
}

async fn search<W: Write>(
    client: &Client,
    args: &SearchArgs,
    renderer: &mut Renderer<'_, W>,
) -> Result<ExitCode> {
    if args.follow {
        follow::follow(client, args, renderer).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut deadline = Instant::now() + PATIENCE;
    let mut left = args.limit;
    let mut cursor: Option<String> = None;
    let mut found = left == 0;
    while left > 0 {
        let page = page(client, args, left.min(PAGE), cursor.as_deref()).await?;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        renderer.items(items.iter().take(left))?;
        left = left.saturating_sub(items.len());
        found |= !items.is_empty();
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_some() && is_pending(&page) {
            if !items.is_empty() {
                deadline = Instant::now() + PATIENCE;
            } else if Instant::now() >= deadline {
                return incomplete(renderer);
            }
            // What follows is still to come: the same place is asked for again.
            renderer.flush()?;
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        warn_if_partial(&page);
        if cursor.is_none() || items.is_empty() {
            break;
        }
    }
    renderer.end()?;
    if !found && !args.json && !args.csv {
        eprintln!("no event matches");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the page ended before an event that the ledger does not have yet.
fn is_pending(page: &Value) -> bool {
    page["pending"].as_array().is_some_and(|ids| !ids.is_empty())
}

fn incomplete<W: Write>(renderer: &mut Renderer<'_, W>) -> Result<ExitCode> {
    renderer.end()?;
    eprintln!(
        "more events match, and the next one is not in the ledger yet, which is behind: ask again later; /readyz \
         of the server says how far behind"
    );
    Ok(ExitCode::from(exit::INCOMPLETE))
}

async fn page(client: &Client, args: &SearchArgs, limit: usize, cursor: Option<&str>) -> Result<Value> {
    let mut query = vec![("q", args.query.clone()), ("limit", limit.to_string())];
    query.extend(args.from.iter().map(|from| ("from", from.clone())));
    query.extend(args.to.iter().map(|to| ("to", to.clone())));
    query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
    client.json(client.request(Method::GET, "/v1/events").query(&query)).await
}

fn warn_if_partial(page: &Value) {
    if page["partial"].as_bool() == Some(true) {
        eprintln!(
            "warning: the answer is partial: {}",
            page["reason"].as_str().unwrap_or("a limit was reached")
        );
    }
}

/// A query that the server refuses is the caller's mistake, and the exit code says so.
fn query_mistake(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Refusal>() {
        Ok(refusal) if refusal.status == StatusCode::BAD_REQUEST => {
            Usage::from(anyhow::Error::new(refusal)).into()
        }
        Ok(refusal) => refusal.into(),
        Err(error) => error,
    }
}
