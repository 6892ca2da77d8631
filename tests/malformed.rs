//! Whatever comes in: bad items are refused with their place, and their good neighbours are kept.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;

use std::{fs, path::PathBuf};

use load::{event, list, now};
use reqwest::StatusCode;
use serde_json::Value;
use server::{Server, sample};

/// The answer to a body between two good events; both must be kept.
async fn between_good_ones(server: &Server, cluster: &str, bad: &[u8]) -> Value {
    let time = now();
    let mut body = serde_json::to_vec(&event(1, &time)).unwrap();
    body.push(b'\n');
    body.extend_from_slice(bad);
    body.push(b'\n');
    body.extend(serde_json::to_vec(&event(2, &time)).unwrap());
    let response = server.call().post(cluster, body).await;
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{cluster}: {text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer
}

/// Waits until both good events of each of these clusters are found.
async fn neighbours_found(server: &Server, clusters: &str, count: u64) {
    server.call().until_count(&format!("cluster:{clusters} audit_id:(load-1 or load-2)"), 2 * count).await;
}

/// Each refused item has a reason, words, and a place after the first good event.
fn named(answer: &Value, what: &str) {
    assert!(answer["rejected"].as_u64().unwrap() > 0, "{what}: nothing was refused: {answer}");
    for error in answer["errors"].as_array().unwrap() {
        assert!(error["line"].as_u64().unwrap() >= 2, "{what}: {error}");
        assert!(error["offset"].as_u64().unwrap() > 0, "{what}: {error}");
        assert!(!error["reason"].as_str().unwrap().is_empty(), "{what}: {error}");
        assert!(error["message"].as_str().unwrap().len() > 10, "{what}: {error}");
    }
}

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[tokio::test]
async fn other_projects_samples_are_taken_or_refused_item_by_item() {
    let Some(samples) = sample("") else { return };
    // Recorded years ago: they are within the retention here.
    let server = Server::start(&["--retention-days", "36500"]).await;
    let (mut accepted, mut files) = (0, 0);
    for file in files_below(samples) {
        if !file.extension().is_some_and(|e| e == "json" || e == "jsonl") || file.ends_with("run1.jsonl") {
            continue;
        }
        let answer = between_good_ones(&server, &format!("sample-{files}"), &fs::read(&file).unwrap()).await;
        let taken = answer["accepted"].as_u64().unwrap() - 2;
        let refused = answer["rejected"].as_u64().unwrap();
        assert!(taken + refused > 0, "{}: neither taken nor refused: {answer}", file.display());
        if refused > 0 {
            named(&answer, &file.display().to_string());
            println!("{}: {taken} taken, {refused} refused: {}", file.display(), answer["errors"][0]);
        }
        (accepted, files) = (accepted + taken, files + 1);
    }
    neighbours_found(&server, "sample-*", files).await;
    // Odd verbs, paths and ages among them: all are well-formed events, and an audit trail keeps what it is sent.
    assert!(accepted >= 891 && files >= 90, "{accepted} accepted in {files} files");
}

#[tokio::test]
async fn bytes_that_are_no_events_are_refused_with_their_place() {
    let server = Server::start(&[]).await;
    let deep = ["{\"a\":".repeat(5_000), "1".to_owned(), "}".repeat(5_000)].concat();
    let mut invalid = serde_json::to_vec(&event(9, &now())).unwrap();
    let at = invalid.windows(5).position(|w| w == b"carla").unwrap();
    invalid[at] = 0xff;
    let mut seed = 7u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    // Opened by a line of its own, so that the neighbours stand on other lines.
    .map(|byte| if byte == b'\n' { 0 } else { byte })
    .take(100_000)
    .collect();
    let cases: [(&str, &[u8]); 7] = [
        ("word", b"hello"),
        ("number", b"42"),
        ("cut", br#"{"level":"Metadata","auditID":"x","stage":"#),
        ("deep", deep.as_bytes()),
        ("utf8", &invalid),
        ("random", &random),
        ("empty-object", b"{}"),
    ];
    for (name, bad) in cases {
        let answer = between_good_ones(&server, &format!("bytes-{name}"), bad).await;
        named(&answer, name);
    }
    neighbours_found(&server, "bytes-*", cases.len() as u64).await;
}

#[tokio::test]
async fn a_bad_item_within_a_list_costs_only_itself() {
    let server = Server::start(&[]).await;
    let time = now();
    let bad = serde_json::json!({ "level": "Loud", "auditID": "x", "stage": "ResponseComplete", "stageTimestamp": time });
    let body = list(vec![event(1, &time), bad, serde_json::json!(17), event(2, &time)]);
    let response = server.call().post("list", body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(2), Some(2)), "{answer}");
    assert_eq!(answer["errors"][0]["index"], 1, "{answer}");
    assert_eq!(answer["errors"][1]["index"], 2, "{answer}");
    server.call().until_count("cluster:list", 2).await;
}

/// A good event, a line of 100 MB, and a good event.
fn hundred_megabytes() -> Vec<u8> {
    let time = now();
    let mut body = serde_json::to_vec(&event(1, &time)).unwrap();
    body.extend_from_slice(b"\n{\"level\":\"Metadata\",\"auditID\":\"");
    body.resize(body.len() + 100_000_000, b'x');
    body.extend_from_slice(b"\"}\n");
    body.extend(serde_json::to_vec(&event(2, &time)).unwrap());
    body
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_ends_the_request_and_what_stood_before_it_is_kept() {
    let server = Server::start(&[]).await;
    let before = server.anonymous_kib();
    let packed = zstd::encode_all(hundred_megabytes().as_slice(), 1).unwrap();
    let request = server.call().request(reqwest::Method::POST, "/v1/intake/audit/long");
    let response = request.header("content-encoding", "zstd").body(packed).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        (&answer["error"]["accepted"], &answer["error"]["rejected"]),
        (&1.into(), &1.into()),
        "{answer}"
    );
    assert_eq!(answer["error"]["errors"][0]["line"], 2, "{answer}");
    server.call().until_count("cluster:long audit_id:load-1", 1).await;
    let grown = server.anonymous_kib().saturating_sub(before);
    assert!(grown < 100_000, "{grown} KiB more in memory for one line");
}

#[tokio::test]
async fn an_import_skips_a_line_of_a_hundred_megabytes_and_keeps_both_neighbours() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    fs::write(&file, hundred_megabytes()).unwrap();
    let output = server.output(&["import", "--json", "--cluster", "long", file.to_str().unwrap()]).await;
    assert!(!output.status.success(), "something was refused");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["accepted"], &summary["rejected"]), (&2.into(), &1.into()), "{summary}");
    server.call().until_count("cluster:long audit_id:(load-1 or load-2)", 2).await;
}

#[tokio::test]
async fn a_body_just_below_the_bound_is_taken_within_bounded_memory() {
    const BODY: usize = 63 << 20;
    let server = Server::start(&[]).await;
    let before = server.anonymous_kib();
    let time = now();
    let mut body = Vec::with_capacity(BODY);
    let mut sent = 0;
    while body.len() < BODY - 20_000 {
        let mut event = event(sent, &time);
        event["requestObject"] = serde_json::json!({ "text": "x".repeat(16_000) });
        serde_json::to_writer(&mut body, &event).unwrap();
        body.push(b'\n');
        sent += 1;
    }
    let answer: Value = server.call().post("large", body).await.json().await.unwrap();
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_u64()), (Some(sent), Some(0)), "{answer}");
    let grown = server.anonymous_kib().saturating_sub(before);
    assert!(grown < 256 * 1024, "{grown} KiB more in memory for one body");
    server.call().until_count("cluster:large", sent).await;
}
