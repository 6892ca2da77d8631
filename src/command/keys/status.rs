//! `muniment keys status` and `muniment keys rotate`: what lies under which key, and writing it anew.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use ingest::time::Clock;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::advice::advice;
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
    /// Days after which a key should be replaced
    #[arg(long, value_name = "DAYS", default_value = "90", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    rotation_days: u32,
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
        let now = jiff::Timestamp::from_microsecond(Clock::system().now().micros())?;
        out.write_all(shown(&inventory, now, args.rotation_days).as_bytes())?;
    }
    let resources = inventory["resources"].as_array().into_iter().flatten();
    let unreadable: u64 = resources.filter_map(|keys| keys["unreadable"].as_u64()).sum();
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(inventory: &Value, now: jiff::Timestamp, rotation_days: u32) -> String {
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
                written(&usage["oldest_written"]),
            ]);
        }
        if count == 0 {
            rows.push(vec![resource.clone(), "-".into(), "-".into(), "0".into(), "-".into(), "-".into()]);
        }
        rest.push_str(&advice(keys, now, rotation_days));
        for example in keys["examples"].as_array().into_iter().flatten() {
            rest.push_str(&format!("{}\n", text(example)));
        }
    }
    let headings = ["RESOURCE", "PROVIDER", "KEY", "COUNT", "SHARE", "OLDEST WRITE"];
    table::layout(&headings, &rows) + &rest + &writes(inventory)
}

/// Between which times something was written, as far as it is known, in UTC.
fn written(times: &Value) -> String {
    let time = |member: &str| times[member].as_str()?.parse::<jiff::Timestamp>().ok();
    // Earlier is never claimed than is known: the one is rounded down, the other up.
    let shown = |time: jiff::Timestamp| time.strftime("%Y-%m-%dT%H:%MZ").to_string();
    let up = |time: jiff::Timestamp| time.checked_add(jiff::SignedDuration::from_secs(59)).unwrap_or(time);
    match (time("after").map(shown), time("by").map(up).map(shown)) {
        (Some(after), Some(by)) => format!("{after} to {by}"),
        (Some(after), None) => format!("after {after}"),
        (None, Some(by)) => format!("by {by}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// How often the keys that write were used, where that has a bound.
fn writes(inventory: &Value) -> String {
    let mut rows = Vec::new();
    let mut rest = String::new();
    for usage in inventory["writes"].as_array().into_iter().flatten() {
        let text = |member: &str| usage[member].as_str().unwrap_or_default().to_owned();
        let (key, writes) = (text("key"), usage["writes"].as_u64().unwrap_or(0));
        let limit = usage["limit"].as_u64().unwrap_or(u64::MAX);
        rows.push(vec![
            key.clone(),
            text("fingerprint"),
            writes.to_string(),
            format!("{:.1} %", 100.0 * writes as f64 / limit.max(1) as f64),
            usage["instances"].as_object().map_or(0, serde_json::Map::len).to_string(),
        ]);
        if writes >= limit {
            rest.push_str(&format!(
                "{key} is used up, and nothing more is written under it: give another key the first place\n"
            ));
        } else if usage["worn"] == true {
            rest.push_str(&format!("{key} has had its time: give another key the first place, and rotate\n"));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let headings = ["KEY", "FINGERPRINT", "USES TAKEN", "OF 2^32", "INSTANCES"];
    format!(
        "\n{}{rest}What a kube-apiserver writes under these keys beside Muniment is not counted.\n",
        table::layout(&headings, &rows)
    )
}

/// What a proof says, and up to where the store's history holds old values.
fn proven(proof: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (revision, key) = (proof["revision"].as_u64().unwrap_or(0), &proof["key"]);
    let history = if proof["is_forgotten"] == true {
        "nothing older is left in the store's history".to_owned()
    } else {
        format!(
            "the store's history up to revision {} may hold values under old keys until it is compacted to {revision}",
            revision.saturating_sub(1)
        )
    };
    format!(
        "{}: all {} values lie under {} {}, read whole at revision {revision}; {history}",
        text(&proof["resource"]),
        proof["count"],
        text(&key["provider"]),
        text(&key["key"]),
    )
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
    let mut waited_for = Value::Null;
    let ended = loop {
        let state = client.json(client.request(Method::GET, "/v1/keys/rotation")).await?;
        if state["waits_for"] != waited_for {
            waited_for = state["waits_for"].clone();
            for line in waited_for.as_array().into_iter().flatten().filter_map(Value::as_str) {
                writeln!(std::io::stderr(), "waiting: {line}")?;
            }
        }
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
        writeln!(out, "{}", proven(proof))?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_oldest_write_has_the_times_that_are_known() {
        let (first, second) = ("2026-11-22T00:00:59.9Z", "2026-11-23T00:00:01Z");
        let times = |after: Option<&str>, by: Option<&str>| written(&json!({ "after": after, "by": by }));
        assert_eq!(times(Some(first), Some(second)), "2026-11-22T00:00Z to 2026-11-23T00:01Z");
        assert_eq!(times(Some(first), None), "after 2026-11-22T00:00Z");
        assert_eq!(times(None, Some(first)), "by 2026-11-22T00:01Z");
        assert_eq!(times(None, None), "unknown");
    }

    #[test]
    fn the_status_shows_uses_and_who_is_not_counted() {
        let usage = |key: &str, writes: u64, worn: bool| {
            json!({ "provider": "aesgcm", "key": key, "fingerprint": "aa", "writes": writes, "limit": 4_294_967_296_u64,
                "worn": worn, "instances": { "one": writes, "two": 0 } })
        };
        let keys = json!({ "resource": "secrets", "count": 0, "keys": [] });
        let inventory = json!({ "resources": [keys], "writes": [
            usage("new", 16_384, false), usage("old", 3_000_000_000, true), usage("spent", 4_294_967_296, true)] });
        assert_eq!(
            shown(&inventory, jiff::Timestamp::UNIX_EPOCH, 90),
            "\
RESOURCE  PROVIDER  KEY  COUNT  SHARE  OLDEST WRITE
secrets   -         -    0      -      -

KEY    FINGERPRINT  USES TAKEN  OF 2^32  INSTANCES
new    aa           16384       0.0 %    2
old    aa           3000000000  69.8 %   2
spent  aa           4294967296  100.0 %  2
old has had its time: give another key the first place, and rotate
spent is used up, and nothing more is written under it: give another key the first place
What a kube-apiserver writes under these keys beside Muniment is not counted.
"
        );
    }
}
