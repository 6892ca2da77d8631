//! `--follow`: events as they arrive, over one long answer that is taken up again where it broke off.

use std::{io::Write, time::Duration};

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::Value;

use super::{SearchArgs, render::Renderer};
use crate::client::{Client, Refusal};

/// How long to wait before an answer that broke off is taken up again.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row the answer may break off without a word before that is an error.
const MAX_FAILURES: u32 = 30;

/// The largest message: an event and its envelope, with room to spare.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Shows events until the reader goes away.
pub(super) async fn follow<W: Write>(
    client: &Client,
    args: &SearchArgs,
    renderer: &mut Renderer<'_, W>,
) -> Result<()> {
    let mut last_id: Option<String> = None;
    let (mut failures, mut reached) = (0, false);
    while failures < MAX_FAILURES {
        match listen(client, args, renderer, &mut last_id, &mut reached).await {
            Ok(true) => failures = 0,
            Ok(false) => failures += 1,
            // A server that never answered is not there; one that did is waited for.
            Err(error) if !reached || is_final(&error) => return Err(error),
            Err(error) => {
                failures += 1;
                eprintln!("warning: {error:#}; trying again");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
    bail!("the server breaks off every answer")
}

/// A refusal other than "later", and a reader that went away, are not tried again.
fn is_final(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.status.is_client_error() && refusal.status.as_u16() != 429,
        None => error.downcast_ref::<std::io::Error>().is_some(),
    }
}

/// One answer until it ends; whether anything came.
async fn listen<W: Write>(
    client: &Client,
    args: &SearchArgs,
    renderer: &mut Renderer<'_, W>,
    last_id: &mut Option<String>,
    reached: &mut bool,
) -> Result<bool> {
    let mut request = client.request(Method::GET, "/v1/tail").query(&[("q", &args.query)]);
    if let Some(id) = last_id.as_deref() {
        request = request.header("Last-Event-ID", id);
    }
    let mut response = client.send(request).await?;
    *reached = true;
    renderer.begin()?;
    renderer.flush()?;
    let (mut buffer, mut came) = (Vec::new(), false);
    while let Some(chunk) = response.chunk().await? {
        buffer.extend_from_slice(&chunk);
        if buffer.len() > MAX_MESSAGE_BYTES {
            bail!("the server sends a message of more than {MAX_MESSAGE_BYTES} bytes");
        }
        while let Some(message) = next_message(&mut buffer) {
            came = true;
            show(&message, renderer, last_id)?;
        }
    }
    Ok(came)
}

fn next_message(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.windows(2).position(|w| w == b"\n\n")?;
    let message = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 2);
    Some(message)
}

fn show<W: Write>(message: &str, renderer: &mut Renderer<'_, W>, last_id: &mut Option<String>) -> Result<()> {
    let data = field(message, "data");
    if let Some(id) = field(message, "id").first() {
        *last_id = Some((*id).to_owned());
    }
    if data.is_empty() {
        return Ok(());
    }
    match field(message, "event").first().copied() {
        None | Some("event") => {
            let item: Value = serde_json::from_str(&data.join("\n"))?;
            renderer.items([&item].into_iter())?;
        }
        Some(_) => eprintln!("warning: {}", data.join(" ")),
    }
    renderer.flush()
}

/// The values of a field of a message. One space after the colon is not part of the value.
fn field<'m>(message: &'m str, name: &str) -> Vec<&'m str> {
    let values = message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect()
}
