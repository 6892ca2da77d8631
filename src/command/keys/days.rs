//! `muniment keys days` and `muniment keys shred`: the keys that seal the bodies of events, and dropping one.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use ingest::time::Day;
use reqwest::Method;
use serde_json::Value;

use crate::{
    client::{Client, ClientArgs},
    command::block_on,
    table,
};

#[derive(Args, Debug)]
pub(super) struct DaysArgs {
    /// The server's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Args, Debug)]
pub(super) struct ShredArgs {
    /// The day (UTC), as 2026-11-23; it must be over
    #[arg(long, value_name = "DAY")]
    day: Day,
    #[command(flatten)]
    client: ClientArgs,
}

/// Shows the key of each day.
///
/// # Errors
/// When the server cannot be reached.
pub(super) fn run(args: &DaysArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let answer = block_on(async { client.json(client.request(Method::GET, "/v1/keys/days")).await })?;
    let mut out = std::io::stdout();
    if args.json {
        writeln!(out, "{answer:#}")?;
    } else {
        out.write_all(shown(&answer).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let days = answer["days"].as_array().map_or(&[][..], Vec::as_slice);
    if days.is_empty() {
        return "no bodies are sealed: name events.muniment.io in the --encryption-provider-config\n"
            .to_owned();
    }
    let row = |day: &Value| {
        vec![text(&day["day"]), text(&day["key"]), text(&day["wrapped_by"]), text(&day["shredded_at"])]
    };
    table::layout(&["DAY", "KEY", "WRAPPED BY", "SHREDDED"], &days.iter().map(row).collect::<Vec<_>>())
}

/// Drops the key of a day.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub(super) fn shred(args: &ShredArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let path = format!("/v1/keys/days/{}", args.day);
    block_on(async { client.send(client.request(Method::DELETE, &path)).await })?;
    writeln!(
        std::io::stdout(),
        "{}: the request and response bodies of that day are gone for good",
        args.day
    )?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn days_are_shown_with_what_wraps_their_keys() {
        let answer = json!({ "days": [
            { "day": "2026-11-22", "key": "a", "created_at": "x", "shredded_at": "2026-11-24T00:00:00.000000Z" },
            { "day": "2026-11-23", "key": "b", "created_at": "x", "wrapped_by": "aesgcm key1" }] });
        assert_eq!(
            shown(&answer),
            "\
DAY         KEY  WRAPPED BY   SHREDDED
2026-11-22  a    -            2026-11-24T00:00:00.000000Z
2026-11-23  b    aesgcm key1  -
"
        );
    }
}
