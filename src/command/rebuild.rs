//! `muniment rebuild`: asks the server for a new index and shows how far it is.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{
    client::{Client, ClientArgs, Refusal},
    command::block_on,
};

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(500);

/// Flags of `muniment rebuild`.
#[derive(Args, Debug)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the command until the new index is in use.
///
/// # Errors
/// When the server cannot be reached or the rebuild fails.
pub(crate) fn run(args: RebuildArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    block_on(rebuild(&client))
}

async fn rebuild(client: &Client) -> Result<ExitCode> {
    match client.send(client.request(Method::POST, "/v1/rebuild")).await {
        Ok(_) => {}
        // One that is under way already is as good: it is shown instead.
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|r| r.status == StatusCode::CONFLICT) => {}
        Err(error) => return Err(error),
    }
    let bar = progress();
    loop {
        let state = client.json(client.request(Method::GET, "/v1/rebuild")).await?;
        show(&bar, &state);
        match state["state"].as_str() {
            Some("running") => tokio::time::sleep(POLL).await,
            Some("done") => break,
            _ => bail!("the rebuild failed: {}", state["error"].as_str().unwrap_or("for an unknown reason")),
        }
    }
    bar.finish_and_clear();
    writeln!(std::io::stdout(), "the index was made anew and is in use: {} records", bar.position())?;
    Ok(ExitCode::SUCCESS)
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records  {per_sec}  {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, state: &Value) {
    bar.set_length(state["total"].as_u64().unwrap_or(0));
    bar.set_position(state["done"].as_u64().unwrap_or(0));
}
