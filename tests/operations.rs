//! What an operator relies on: request ids, logs that programs read, pages and scripts, file modes, bounded metrics, and
//! an end in order.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;
use server::{Caller, PATIENCE, Server, ago, event, eventually, muniment};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

#[tokio::test]
async fn a_request_id_is_echoed_and_stands_in_logs_that_are_json() {
    let server = Server::start(&["--log-format", "json", "--log-level", "info,api=debug"]).await;
    let caller = server.call();
    let answer = caller.get("/v1/nothing").header("X-Request-Id", "seen-by-me-1").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "seen-by-me-1");
    let made = caller.get("/livez").send().await.unwrap();
    assert_eq!(made.headers()["x-request-id"].len(), 36, "{made:?}");
    let long = caller.get("/livez").header("X-Request-Id", "x".repeat(129)).send().await.unwrap();
    assert_eq!(long.headers()["x-request-id"].len(), 36, "{long:?}");
    let lines = eventually("the request is logged", async || {
        let log = server.log();
        let lines: Vec<String> = log.lines().filter(|l| l.starts_with('{')).map(str::to_owned).collect();
        lines.iter().any(|line| line.contains("seen-by-me-1")).then_some(lines)
    })
    .await;
    let mut ids = 0;
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        ids += u32::from(line["span"]["id"] == "seen-by-me-1");
    }
    assert!(ids >= 1, "{lines:?}");
}

#[test]
fn there_is_a_man_page_and_a_completion_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = muniment().arg("man").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let pages: BTreeSet<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for command in ["serve", "config", "import", "search", "token", "policy", "rebuild", "completions"] {
        assert!(pages.contains(&format!("muniment-{command}.1")), "{command}: {pages:?}");
    }
    let page = fs::read_to_string(folder.path().join("muniment-serve.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("data\\-dir"), "{page}");

    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = muniment().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("import") && script.contains("data-dir"),
            "{shell}"
        );
    }
    let bash = muniment().args(["completions", "bash"]).output().unwrap();
    let script = folder.path().join("completion");
    fs::write(&script, bash.stdout).unwrap();
    let parsed = std::process::Command::new("bash").arg("-n").arg(&script).status().unwrap();
    assert!(parsed.success());
}

#[tokio::test]
async fn what_is_private_in_the_data_folder_is_its_owners_alone() {
    let server = Server::start(&[]).await;
    let mode = |name: &str| fs::metadata(server.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["client.token", "deployment.key", "tokens.json", "tls/ca.key"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_made_and_revoked_at_once_end_as_the_last_answer_said() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let tasks: Vec<_> = (0..24)
        .map(|i| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let body = format!(r#"{{"scope":"client","label":"race-{i}"}}"#);
                let request =
                    caller.request(Method::POST, "/v1/tokens").header("Content-Type", "application/json");
                let made: Value = request.body(body).send().await.unwrap().json().await.unwrap();
                let own = caller.with_token(made["token"].as_str().unwrap());
                assert_eq!(own.get("/v1/tokens").send().await.unwrap().status(), StatusCode::OK, "{i}");
                let is_revoked = i % 2 == 0;
                if is_revoked {
                    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
                    let ended = caller.request(Method::DELETE, &path).send().await.unwrap();
                    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
                }
                (own, is_revoked)
            })
        })
        .collect();
    for task in tasks {
        let (own, is_revoked) = task.await.unwrap();
        let status = own.get("/v1/tokens").send().await.unwrap().status();
        assert_eq!(status == StatusCode::UNAUTHORIZED, is_revoked, "{status}");
    }
    let listed = caller.json("/v1/tokens").await;
    let labels = listed["items"].as_array().unwrap().iter().filter_map(|t| t["label"].as_str());
    assert_eq!(labels.filter(|label| label.starts_with("race-")).count(), 12, "{listed}");
}

#[tokio::test]
async fn made_up_methods_and_paths_share_one_name_in_the_metrics() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    for i in 0..20 {
        let method = Method::from_bytes(format!("MADEUP{i}").as_bytes()).unwrap();
        caller.request(method, &format!("/made/up/{i}")).send().await.unwrap();
    }
    let page = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("method=\"other\""), "{page}");
    assert!(!page.contains("MADEUP") && !page.contains("/made/up"), "{page}");
}

#[tokio::test]
async fn every_metric_is_explained_and_what_is_measured_many_times_is_a_histogram() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    caller.post("measured", event("one", &ago(Duration::ZERO))).await;
    caller.until_count("cluster:measured", 1).await;
    let page = eventually("the lag is measured", async || {
        let page = caller.get("/metrics").send().await.unwrap().text().await.unwrap();
        page.contains("muniment_recorder_lag_seconds").then_some(page)
    })
    .await;
    let types: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter(|(name, _)| name.starts_with("muniment_"))
        .collect();
    assert!(types.len() > 15, "{page}");
    for (name, kind) in &types {
        let help = page.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.len() > 10), "{name} is not explained: {page}");
        assert_ne!(*kind, "summary", "{name}");
    }
    for name in
        ["muniment_http_request_seconds", "muniment_journal_sync_seconds", "muniment_journal_block_records"]
    {
        assert!(types.contains(&(name, "histogram")), "{name}: {types:?}");
        assert!(page.contains(&format!("{name}_bucket{{")), "{name}: {page}");
    }
}

#[tokio::test]
async fn details_of_readiness_are_for_those_with_a_token() {
    let server = Server::start(&[]).await;
    let (client, stranger) = (server.call(), server.call().with_token(""));
    let made = server.output(&["token", "create", "--intake", "mine"]).await;
    let intake = client.with_token(String::from_utf8(made.stdout).unwrap().trim());
    for (caller, is_told) in [(&client, true), (&stranger, false), (&intake, false)] {
        let answer = caller.json("/readyz").await;
        let checks = answer["checks"].as_array().unwrap();
        assert!(checks.len() > 4, "{answer}");
        assert!(checks.iter().all(|check| check["detail"].is_string() == is_told), "{answer}");
    }
}

#[tokio::test]
async fn a_first_start_without_its_database_has_a_token_and_takes_events() {
    let mut server = Server::stopped(&["--postgres", "postgres://nobody@127.0.0.1:1/none"]);
    server.spawn();
    let caller = server.answering().await;
    let at = ago(Duration::ZERO);
    assert_eq!(caller.post("early", event("one", &at)).await.status(), StatusCode::OK);
    assert_eq!(
        caller.with_token("").post("early", event("two", &at)).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn an_import_says_at_once_what_it_waits_for_and_gives_up_when_told() {
    // Kafka is nowhere, so nothing leaves the journal.
    let mut server = Server::stopped(&["--kafka", "127.0.0.1:1", "--journal-max-bytes", "1MiB"]);
    server.spawn();
    server.answering().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let at = ago(Duration::ZERO);
    let lines: Vec<String> = (0..20_000).map(|i| event(&format!("e{i}"), &at)).collect();
    fs::write(file.path(), lines.join("\n")).unwrap();
    let path = file.path().to_str().unwrap();
    let output = server.output(&["import", "--cluster", "c", "--give-up-after", "1s", path]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("waiting for https://127.0.0.1:"), "{error}");
    assert!(error.contains("the journal is full") && error.contains("for 1s at most"), "{error}");
    assert!(error.contains("the same command goes on where it was"), "{error}");
}

/// A request whose body is sent piece by piece.
struct Open {
    pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
    answer: JoinHandle<reqwest::Result<reqwest::Response>>,
}

impl Open {
    /// Sends half of a body, more than intake journals at once, and waits until it is found.
    async fn half(caller: &Caller, cluster: &str) -> Self {
        let (pieces, body) = mpsc::channel(1);
        let path = format!("/v1/intake/audit/{cluster}");
        let request = caller.request(Method::POST, &path).body(Body::wrap_stream(ReceiverStream::new(body)));
        let open = Self { pieces, answer: tokio::spawn(request.send()) };
        open.send(0..1_000).await;
        eventually("half a body is taken in", async || {
            (caller.count(&format!("cluster:{cluster}")).await >= 1_000).then_some(())
        })
        .await;
        open
    }

    async fn send(&self, events: std::ops::Range<u32>) {
        let at = ago(Duration::ZERO);
        let piece: String = events.map(|i| event(&format!("e{i}"), &at) + "\n").collect();
        self.pieces.send(Ok(piece.into())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_end_answers_what_is_open_cuts_what_hangs_and_records_its_stop() {
    let mut server = Server::start(&["--grace-period", "20s"]).await;
    let caller = server.call();
    let mut tail = caller.get("/v1/tail?q=verb:nothing").send().await.unwrap();
    let (goes_on, hangs) = (Open::half(&caller, "goes-on").await, Open::half(&caller, "hangs").await);

    server.signal(rustix::process::Signal::TERM);
    let tail_ends = async { while tail.chunk().await.is_ok_and(|chunk| chunk.is_some()) {} };
    tokio::time::timeout(PATIENCE, tail_ends).await.expect("who follows is let go");
    goes_on.send(1_000..1_500).await;
    drop(goes_on.pieces);
    let answer = goes_on.answer.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["accepted"], 1_500, "{answer}");
    assert!(server.ended().await.success());
    assert!(hangs.answer.await.unwrap().is_err(), "what hangs has no answer");
    let log = server.log();
    for late in ["still running at the end", "was not recorded in time", "was not closed in time"] {
        assert!(!log.contains(late), "{late}: {log}");
    }

    server.forget_address();
    server.run().await;
    let caller = server.call();
    caller.until_count("cluster:goes-on", 1_500).await;
    caller.until_count("kind:pipeline event.type:stop", 1).await;
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
}

#[test]
fn a_policy_is_checked_and_explained_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (good, flawed) = (folder.path().join("good.yaml"), folder.path().join("flawed.yaml"));
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    let rules = "rules:\n- level: None\n  users: [bob]\n- level: Request\n  resources: [{group: apps}]\n";
    fs::write(&good, format!("{head}{rules}")).unwrap();
    fs::write(&flawed, format!("{head}rules:\n- level: Metadata\n  verb: [get]\n")).unwrap();
    let run = |verb: &str, file: &std::path::Path, flags: &str| {
        let mut command = muniment();
        command.args(["policy", verb]).arg(file).args(flags.split_whitespace());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let request =
        "--user anna --verb update --api-group apps --resource deployments --namespace shop --name web";

    let (code, told, _) = run("check", &good, "");
    assert!(told.starts_with(&format!("{}: valid, 2 rules, sha256 ", good.display())), "{told}");
    assert_eq!(code, 0);
    let (code, told, _) = run("explain", &good, request);
    assert_eq!(
        told,
        "rules[1] decides: level Request\nrules[0] does not match: the user is not one of \"bob\"\n"
    );
    assert_eq!(code, 0);
    for (verb, flags) in [("check", ""), ("explain", request)] {
        let (code, told, flaws) = run(verb, &flawed, flags);
        let place = format!("{}:5:3: unknown field \"verb\"; did you mean \"verbs\"?", flawed.display());
        assert!(flaws.contains(&place), "{flaws}");
        assert_eq!((code, &*told), (1, ""));
    }
}
