//! An import whose client or server is killed goes on where it was: nothing missing, nothing twice, and what was
//! acknowledged is not sent again.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use server::{PATIENCE, Server, ago, event};
use tempfile::TempDir;

/// Enough for dozens of requests, so that a kill falls between the first and the last.
const EVENTS: u64 = 60_000;

/// The same where a kill ends the server, which takes longer to go on than a client.
const FEWER: u64 = 20_000;

/// How many items are noted as done in the data folder, of the one import there is.
fn noted(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("imports")).into_iter().flatten().flatten();
    let notes = files.filter(|file| file.path().extension().is_some_and(|e| e == "json"));
    let notes = notes.filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok());
    notes.filter_map(|note| note["items"].as_u64()).max().unwrap_or(0)
}

/// A log file of this many events, in a folder of its own.
fn log_file(events: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let at = ago(Duration::ZERO);
    let mut lines = String::new();
    for n in 0..events {
        writeln!(lines, "{}", event(&format!("e{n}"), &at)).unwrap();
    }
    fs::write(&file, lines).unwrap();
    (folder, file)
}

/// Waits until the import is somewhere in the first half of `events`: another place at each run of the test.
async fn somewhere(server: &Server, client: &mut Child, events: u64) -> u64 {
    let random = u64::from(uuid::Uuid::new_v4().as_fields().0) % (events / 2);
    let begun = Instant::now();
    while noted(&server.data()) <= random {
        assert!(client.try_wait().unwrap().is_none(), "the import was over before item {random}");
        assert!(begun.elapsed() < PATIENCE, "item {random}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    random
}

/// Waits until all of them are found, none of them twice, and nothing else is missing.
async fn all_there(server: &Server, cluster: &str, events: u64) {
    server.call().until_count(&format!("cluster:{cluster}"), events).await;
    let answer = server.call().json("/v1/completeness").await;
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(noted(&server.data()), 0, "the note of a finished import goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_goes_on_after_what_was_acknowledged() {
    let server = Server::start(&[]).await;
    let (_folder, file) = log_file(EVENTS);
    let args = ["import", "--cluster", "resumed", "--json", file.to_str().unwrap()];
    let mut client = server.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let random = somewhere(&server, &mut client, EVENTS).await;
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
    all_there(&server, "resumed", EVENTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_by_itself_after_its_server_was_killed() {
    let mut server = Server::start(&[]).await;
    server.keep_address();
    let (_folder, file) = log_file(FEWER);
    let args = ["import", "--cluster", "outlived", "--json", file.to_str().unwrap()];
    let mut client = server.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    somewhere(&server, &mut client, FEWER).await;
    server.kill();
    server.run().await;

    let ended = tokio::task::spawn_blocking(move || client.wait_with_output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{error}");
    assert!(error.contains("waiting for https://127.0.0.1:") && error.contains("going on"), "{error}");
    let summary: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!([&summary["skipped"], &summary["accepted"]], [&0.into(), &Value::from(FEWER)], "{summary}");
    // A batch that the first process had made durable without an answer came again, and was recognized.
    all_there(&server, "outlived", FEWER).await;
}
