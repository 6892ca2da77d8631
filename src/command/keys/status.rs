//! `muniment keys status` and `muniment keys rotate`: what lies under which key, and writing it anew.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{
    client::{Client, ClientArgs, Refusal},
    command::block_on,
    table,
};

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// The server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// One resource, as the configuration names it; all of them by default
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// Values that are written in a second at most
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_second: u32,
    #[command(flatten)]
    client: ClientArgs,
}

/// Shows what lies under which key. Values that cannot be decrypted make it a failure.
///
/// # Errors
/// When the server cannot be reached.
pub(super) fn run(args: &StatusArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let inventory = block_on(async { client.json(client.request(Method::GET, "/v1/keys")).await })?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{inventory:#}")?;
    } else {
        out.write_all(shown(&inventory).as_bytes())?;
    }
    let resources = inventory["resources"].as_array().into_iter().flatten();
    let unreadable: u64 = resources.filter_map(|keys| keys["unreadable"].as_u64()).sum();
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(inventory: &Value) -> String {
    let resources = inventory["resources"].as_array().map_or(&[][..], Vec::as_slice);
    if resources.is_empty() {
        return "nothing is encrypted: give muniment serve an --encryption-provider-config\n".to_owned();
    }
    let mut rows = Vec::new();
    let mut rest = String::new();
    for keys in resources {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = text(&keys["resource"]);
        let count = keys["count"].as_u64().unwrap_or(0);
        for usage in keys["keys"].as_array().into_iter().flatten() {
            let here = usage["count"].as_u64().unwrap_or(0);
            rows.push(vec![
                resource.clone(),
                text(&usage["provider"]),
                text(&usage["key"]),
                here.to_string(),
                format!("{:.1} %", 100.0 * here as f64 / count.max(1) as f64),
                usage["oldest"].to_string(),
            ]);
        }
        if count == 0 {
            rows.push(vec![resource.clone(), "-".into(), "-".into(), "0".into(), "-".into(), "-".into()]);
        }
        if let Some(stale @ 1..) = keys["stale"].as_u64() {
            rest.push_str(&format!(
                "{stale} of {resource} would now be written under another key: muniment keys rotate --resource {resource}\n"
            ));
        }
        for example in keys["examples"].as_array().into_iter().flatten() {
            rest.push_str(&format!("{}\n", text(example)));
        }
    }
    let headings = ["RESOURCE", "PROVIDER", "KEY", "COUNT", "SHARE", "OLDEST REVISION"];
    table::layout(&headings, &rows) + &rest
}

/// Asks for a rotation, or joins the one that is under way, and shows how far it is until it ends.
///
/// # Errors
/// When the server cannot be reached, or something is left under an old key.
pub(super) fn rotate(args: &RotateArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    block_on(follow(&client, args))
}

async fn follow(client: &Client, args: &RotateArgs) -> Result<ExitCode> {
    let mut ask = client.request(Method::POST, "/v1/keys/rotation").query(&[("per_second", args.per_second)]);
    if let Some(resource) = &args.resource {
        ask = ask.query(&[("resource", resource)]);
    }
    match client.send(ask).await {
        Ok(_) => {}
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|r| r.status == StatusCode::CONFLICT) => {
            writeln!(std::io::stderr(), "a rotation is under way already; this is how far it is")?;
        }
        Err(error) => return Err(error),
    }
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let ended = loop {
        let state = client.json(client.request(Method::GET, "/v1/keys/rotation")).await?;
        bar.set_message(format!("{} looked at, {} written anew", state["seen"], state["rewritten"]));
        bar.tick();
        if state["state"] != "running" {
            break state;
        }
        tokio::time::sleep(POLL).await;
    };
    bar.finish_and_clear();
    let mut out = std::io::stdout();
    for proof in ended["proofs"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "{}: all {} values lie under the first key, read whole at revision {}; older revisions hold old values \
             until the store is compacted",
            proof["resource"].as_str().unwrap_or_default(),
            proof["count"],
            proof["revision"],
        )?;
    }
    if ended["state"] != "done" {
        bail!(
            "the rotation ended early, after {} values: {}; asking again goes on",
            ended["rewritten"],
            ended["error"].as_str().unwrap_or("the server was started anew")
        );
    }
    writeln!(out, "{} values were written anew", ended["rewritten"])?;
    Ok(ExitCode::SUCCESS)
}
