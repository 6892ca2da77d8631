//! What cannot work says why and what to do, and what passes by itself is waited out without losing anything.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use engines::{Database, Own, kafka, unique};
use reqwest::StatusCode;
use serde_json::Value;
use server::{Server, ago, event, eventually, muniment, skipped};

/// Runs a command that is to end by itself.
async fn ended(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A start that ends by itself, with a sentence and an exit code.
async fn refused(args: &[&str], sentence: &str, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = muniment();
    command.arg("serve").args(args);
    if !args.contains(&"--data-dir") {
        command.arg("--data-dir").arg(folder.path().join("data"));
    }
    if !args.contains(&"--bind-address") {
        command.args(["--bind-address", "127.0.0.1:0"]);
    }
    let output = ended(command).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(sentence), "{args:?}: {error}");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
}

#[tokio::test]
async fn a_used_data_folder_without_its_key_is_not_given_another_one() {
    let mut server = Server::start(&[]).await;
    server.stop().await;
    fs::remove_file(server.data().join("deployment.key")).unwrap();
    let output = server.output(&["serve", "--bind-address", "127.0.0.1:0"]).await;
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("deployment.key is missing") && text.contains("--deployment-key-file"), "{text}");
}

#[tokio::test]
async fn a_made_up_count_of_unreadable_items_is_refused() {
    let server = Server::start(&[]).await;
    for count in ["1001", "9223372036854775000", "18446744073709551615"] {
        let response = server.call().post(&format!("demo?unreadable={count}"), "{\"bad\":1}").await;
        let status = response.status();
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (400, &"bad_unreadable".into()), "{answer}");
    }
}

#[tokio::test]
async fn a_wrong_flag_names_what_was_meant() {
    for (args, sentence) in [
        (&["--partitons", "3"][..], "--partitions"),
        (&["--ack", "sometimes"], "[possible values: journal, log]"),
        (&["--retention-days", "0"], "0 is not in 1..=36500"),
        (&["--grace-period", "soon"], "\"soon\" is no duration: write it like 25s, 500ms or 2m"),
        (&["--journal-max-bytes", "much"], "\"much\" is no size: write it like 1048576, 512MiB or 8GiB"),
        (&["--bind-address", "localhost"], "--bind-address"),
        (&["--roles", "intake"], "roles can be split only with --kafka and --postgres"),
        (&["--kafka", "k:1", "--postgres", "p", "--roles", "query"], "needs the role indexer beside it"),
        (&["--ack", "log"], "--ack log is refused without --kafka"),
        (&["--tls-cert-file", "/some.pem"], "--tls-private-key-file"),
    ] {
        refused(args, sentence, 2).await;
    }
    refused(&["--bind-address", "192.0.2.1:1"], "choose another --bind-address", 1).await;
}

#[tokio::test]
async fn an_unreadable_file_is_named() {
    for (args, sentence) in [
        (&["--config", "/absent.yaml"][..], "cannot read the configuration file /absent.yaml"),
        (&["--redaction-rules", "/absent.yaml"], "cannot read the redaction rules /absent.yaml"),
        (&["--audit-policy-file", "/absent.yaml"], "cannot read the audit policy /absent.yaml"),
        (&["--deployment-key-file", "/absent.key"], "/absent.key"),
        (&["--tls-cert-file", "/absent.pem", "--tls-private-key-file", "/absent.pem"], "/absent.pem"),
    ] {
        refused(args, sentence, 2).await;
    }
}

#[tokio::test]
async fn a_file_that_holds_something_else_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let path = file.to_str().unwrap();
    for (flag, text, sentence) in [
        ("--config", "\npartitons: 3\n", ":2: unknown key \"partitons\"; did you mean \"partitions\"?"),
        ("--config", "topic: a\ngrace-period: soon\n", ":2: invalid value 'soon'"),
        ("--config", "topic: [", "line 1"),
        ("--audit-policy-file", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrule: []\n", "3:1:"),
        ("--redaction-rules", "text: []\n", "did you mean \"texts\"?"),
        ("--redaction-rules", "# later\n", "the file is empty"),
    ] {
        fs::write(&file, text).unwrap();
        refused(&[flag, path], sentence, 2).await;
    }
}

#[tokio::test]
async fn an_unknown_variable_of_ours_names_the_nearest_one() {
    for args in [&["config"][..], &["serve"], &["search", "verb:get"]] {
        let mut command = muniment();
        command.args(args).env("MUNIMENT_DATADIR", "x");
        let output = ended(command).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("unknown variable MUNIMENT_DATADIR; did you mean MUNIMENT_DATA_DIR?"),
            "{error}"
        );
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[tokio::test]
async fn a_data_folder_that_is_not_ours_to_use_is_left_alone() {
    let server = Server::start(&[]).await;
    refused(&["--data-dir", server.data().to_str().unwrap()], "in use by another muniment process", 1).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "99\n").unwrap();
    let path = folder.path().to_str().unwrap();
    refused(&["--data-dir", path], "written by a newer muniment; this one reads up to 1", 1).await;
    assert_eq!(fs::read_to_string(folder.path().join("format")).unwrap(), "99\n");
    let file = folder.path().join("format").join("data");
    refused(&["--data-dir", file.to_str().unwrap()], "cannot make the data folder", 1).await;
}

#[tokio::test]
async fn a_client_command_that_cannot_work_says_what_to_do() {
    let mut server = Server::start(&[]).await;
    let folder = server.data().display().to_string();
    for (args, sentence, code) in [
        (&["import", "--cluster", "c", "/absent.log"][..], "/absent.log", 1),
        (&["import", "--cluster", "a b", "/absent.log"], "is no cluster name", 2),
        (&["search", "resorce:pods"], "resource", 2),
        (&["search", "--follow", "--limit", "3"], "cannot be used with", 2),
        (&["search", "--server", "https://127.0.0.1:1"], "start a server with `muniment serve`", 1),
        (&["search", "--token", "mnm_wrong"], "token", 1),
        (&["token", "revoke", "not-an-id"], "not-an-id", 1),
        (&["policy", "check", "/absent.yaml"], "/absent.yaml", 1),
    ] {
        let output = server.output(args).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(sentence), "{args:?}: {error}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    }
    assert!(server.stop().await.success());
    for args in [&["search", "verb:get"][..], &["search", "--follow"], &["token", "list"], &["rebuild"]] {
        let output = server.output(args).await;
        let error = String::from_utf8(output.stderr).unwrap();
        let expected = format!("no server is running from the data folder {folder}; start one with");
        assert!(error.contains(&expected), "{args:?}: {error}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_fewer_partitions_is_refused_with_the_command_that_mends_it() {
    let (database, topic, kafka) = (Database::create().await, unique("narrow"), kafka());
    let url = database.url();
    let engines = ["--kafka", &kafka, "--topic", &topic, "--postgres", &url];
    let mut server = Server::start(&[&engines[..], &["--partitions", "2"]].concat()).await;
    assert!(server.stop().await.success());
    let sentence =
        format!("the topic {topic} has 2 partitions, 4 are configured: configure 2, or add some with");
    // Another key would be refused as well, and one of the two is told first.
    let key = server.data().join("deployment.key");
    let args = [&engines[..], &["--deployment-key-file", key.to_str().unwrap()]].concat();
    refused(&args, &sentence, 1).await;
}

/// What `/readyz` says of each check, once it says no: an answer of a second ago is still given.
async fn checks(server: &Server) -> Option<Value> {
    let response = server.client()?.with_token("").get("/readyz").send().await.ok()?;
    if response.status() == StatusCode::OK {
        return None;
    }
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    response.json().await.ok()
}

fn is_ok(answer: &Value, name: &str) -> Option<bool> {
    answer["checks"].as_array()?.iter().find(|check| check["name"] == name)?["ok"].as_bool()
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_are_away_at_the_start_are_waited_for_while_intake_goes_on() {
    let mut own = Own::start(&["kafka", "postgres"]);
    let (kafka, postgres) = (own.kafka().to_owned(), own.postgres().to_owned());
    let mut server = Server::start(&["--kafka", &kafka, "--postgres", &postgres]).await;
    assert!(server.stop().await.success());
    own.stop(&["kafka", "postgres"]);

    server.spawn();
    let answer = eventually("the server answers", async || checks(&server).await).await;
    assert_eq!(is_ok(&answer, "journal"), Some(true), "{answer}");
    assert_eq!((is_ok(&answer, "log"), is_ok(&answer, "ledger")), (Some(false), Some(false)), "{answer}");
    for name in ["Kafka", "Postgres"] {
        let sentence = format!("{name} cannot be reached; trying again");
        eventually(&sentence, async || (server.log().matches(&sentence).count() >= 2).then_some(())).await;
    }
    let at = ago(Duration::ZERO);
    assert_eq!(server.call().post("away", event("one", &at)).await.status(), StatusCode::OK);
    eventually("the relay's lag is measured", async || {
        let page = server.call().get("/metrics").send().await.unwrap().text().await.unwrap();
        let lag = page.lines().find_map(|line| line.strip_prefix("muniment_relay_lag_records "))?;
        (lag.parse::<f64>().unwrap() >= 1.0).then_some(())
    })
    .await;

    own.begin_again(&["kafka", "postgres"]);
    server.ready().await;
    server.call().until_count("cluster:away", 1).await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_by_the_log_is_refused_with_one_replica() {
    let (database, topic, kafka) = (Database::create().await, unique("alone"), kafka());
    let url = database.url();
    let args = ["--kafka", &kafka, "--topic", &topic, "--postgres", &url, "--ack", "log"];
    refused(&args, "--ack log is refused: the topic does not require two replicas in sync", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_by_the_log_means_two_replicas_have_it() {
    let mut own = Own::start(&["kafka3"]);
    let (database, topic, kafka) = (Database::create().await, unique("three"), own.kafka3().to_owned());
    let url = database.url();
    let args =
        ["--kafka", &kafka, "--topic", &topic, "--postgres", &url, "--replication", "3", "--ack", "log"];
    let mut server = Server::start(&args).await;
    let at = ago(Duration::ZERO);
    let body = (0..200).map(|i| event(&format!("e{i}"), &at)).collect::<Vec<_>>().join("\n");
    let answer = server.call().post("three", body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // The disk is gone with everything that only the journal had; what was acknowledged is in the log.
    server.kill();
    fs::remove_dir_all(server.data().join("journal")).unwrap();
    fs::remove_dir_all(server.data().join("index")).unwrap();
    server.run().await;
    server.call().until_count("cluster:three", 200).await;

    // With one replica nothing is acknowledged, whether the body reads to its end or not, and nothing is lost.
    own.kill("kafka3-3");
    own.kill("kafka3-2");
    let call = server.call();
    let whole = call.post("alone", event("whole", &at));
    let broken = call.post("alone", format!("{}\n{{\"level\":", event("broken", &at)));
    let (whole, broken) = tokio::join!(whole, broken);
    for answer in [whole, broken] {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["error"]["code"], "log_unavailable", "{told}");
        assert_eq!(told["error"]["accepted"].as_u64().unwrap_or_default(), 0, "{told}");
    }
    let metrics = call.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("cluster=\"alone\""), "{metrics}");
    own.begin_again(&["kafka3-2", "kafka3-3"]);
    call.until_count("cluster:alone", 2).await;
    assert!(server.stop().await.success());
}

/// A file system of its own, in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Nothing where none can be mounted: that needs root.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "muniment-test"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}

/// Takes all the room that is left.
fn fill(file: &Path) {
    let mut file = fs::File::create(file).unwrap();
    let block = vec![7; 64 * 1024];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_loses_nothing_and_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount("96m") else {
        skipped("a small file system can be mounted by root only");
        return;
    };
    let mut server = Server::stopped(&["--journal-max-bytes", "32MiB"]);
    std::os::unix::fs::symlink(disk.path(), server.data()).unwrap();
    server.run().await;
    let at = ago(Duration::ZERO);
    let (mut sent, mut kept) = (0, 0);
    let ballast = disk.path().join("ballast");
    for round in 0..3 {
        fill(&ballast);
        // The journal uses up what it reserved before; then nothing is taken.
        loop {
            assert!(sent < 20_000, "nothing was refused");
            let body =
                (sent..sent + 100).map(|i| event(&format!("e{i}"), &at)).collect::<Vec<_>>().join("\n");
            sent += 100;
            let answer = server.call().post("full", body).await;
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                let answer: Value = answer.json().await.unwrap();
                assert_eq!(answer["error"]["code"], "disk_full", "{answer}");
                break;
            }
            assert_eq!(answer.status(), StatusCode::OK);
            kept += 100;
        }
        let answer = eventually("/readyz says so", async || checks(&server).await).await;
        assert_eq!(is_ok(&answer, "journal"), Some(false), "round {round}: {answer}");
        fs::remove_file(&ballast).unwrap();
        let body = event(&format!("after-{round}"), &at);
        eventually("it goes on by itself", async || {
            let status = server.call().post("full", body.clone()).await.status();
            (status == StatusCode::OK).then_some(())
        })
        .await;
        kept += 1;
    }
    server.ready().await;
    server.call().until_count("cluster:full", kept).await;
    assert_eq!(server.call().json("/v1/completeness").await["complete"], true);
    assert!(server.stop().await.success());
    drop(server);
}
