//! An import whose client is killed goes on where it was: nothing missing, nothing twice, and what was acknowledged is
//! not sent again.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use server::{PATIENCE, Server, ago, event};

/// Enough for dozens of requests, so that a kill falls between the first and the last.
const EVENTS: u64 = 60_000;

/// How many items are noted as done in the data folder, of the one import there is.
fn noted(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("imports")).into_iter().flatten().flatten();
    let notes = files.filter(|file| file.path().extension().is_some_and(|e| e == "json"));
    let notes = notes.filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok());
    notes.filter_map(|note| note["items"].as_u64()).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_goes_on_after_what_was_acknowledged() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let at = ago(Duration::ZERO);
    let mut lines = String::new();
    for n in 0..EVENTS {
        writeln!(lines, "{}", event(&format!("e{n}"), &at)).unwrap();
    }
    fs::write(&file, lines).unwrap();
    let args = ["import", "--cluster", "resumed", "--json", file.to_str().unwrap()];

    // Any point after the first acknowledgement: another one at each run of the test.
    let random = u64::from(uuid::Uuid::new_v4().as_fields().0) % (EVENTS / 2);
    let mut client = server.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while noted(&server.data()) <= random {
        assert!(client.try_wait().unwrap().is_none(), "the import was over before item {random}");
        assert!(begun.elapsed() < PATIENCE, "item {random}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    client.kill().unwrap();
    client.wait().unwrap();
    let done = noted(&server.data());
    assert!(done > random && done < EVENTS, "{done}");

    let again = server.output(&args).await;
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.success(), "{error}");
    assert!(error.contains(&format!("going on after item {done}")), "{error}");
    let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(
        (&summary["skipped"], &summary["accepted"]),
        (&done.into(), &(EVENTS - done).into()),
        "{summary}"
    );

    // At most the requests that were on their way at the kill arrived twice, and the ledger kept each event once.
    server.call().until_count("cluster:resumed", EVENTS).await;
    let answer = server.call().json("/v1/completeness").await;
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(noted(&server.data()), 0, "the note of a finished import goes");
}
