//! Kafka and Postgres that only TLS and credentials reach: right ones carry an event to its search; wrong ones are
//! named, waited out without losing anything, and never logged.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use std::{fs, time::Duration};

use engines::{Database, Own, unique};
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use server::{Server, ago, event, eventually, muniment};

/// What an engine's certificates and password are, and what of them must be in no log.
struct Secrets<'o> {
    own: &'o Own,
    password: String,
}

impl<'o> Secrets<'o> {
    fn of(own: &'o Own) -> Self {
        let password = fs::read_to_string(own.folder().join("password")).unwrap().trim().to_owned();
        assert!(password.len() >= 32, "a password that is found only where it was copied to");
        Self { own, password }
    }

    fn file(&self, name: &str) -> String {
        self.own.folder().join("certificates").join(name).display().to_string()
    }

    /// Neither the password nor a line of the client's key.
    fn in_no_line_of(&self, log: &str) {
        let key = fs::read_to_string(self.file("client.key")).unwrap();
        let mut secrets = key.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>();
        assert!(!secrets.is_empty());
        secrets.push(&self.password);
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in:\n{log}");
        }
    }

    /// Flags of `muniment serve` for this broker.
    fn kafka(&self, brokers: String, topic: &str, properties: &[(&str, &str)]) -> Vec<String> {
        let mut args = vec!["--kafka".to_owned(), brokers, "--topic".to_owned(), topic.to_owned()];
        for (name, value) in properties {
            args.extend(["--kafka-config".to_owned(), format!("{name}={value}")]);
        }
        args
    }

    /// The address of a database, with what follows its name.
    fn postgres(&self, login: &str, host: &str, more: &str) -> String {
        format!("postgres://{login}@{host}:{}/postgres?{more}", self.own.port("postgres-secured"))
    }
}

/// The most that is logged in practice, so that what must not be there has every chance to be.
fn with_debug_log(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).chain(["--log-level", "debug"]).collect()
}

/// A file of events goes in by `muniment import` and is found.
async fn works(secrets: &Secrets<'_>, args: &[String]) {
    let mut server = Server::start(&with_debug_log(args)).await;
    let (folder, at) = (tempfile::tempdir().unwrap(), ago(Duration::ZERO));
    let file = folder.path().join("audit.log");
    fs::write(&file, (0..50).map(|i| event(&format!("e{i}"), &at) + "\n").collect::<String>()).unwrap();
    let imported = server.output(&["import", "--cluster", "secured", file.to_str().unwrap()]).await;
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    server.call().until_count("cluster:secured", 50).await;
    assert!(server.stop().await.success());
    secrets.in_no_line_of(&server.log());
}

/// With `wrong` flags the log says why, `/readyz` is red and names the check, and intake goes on; with the right ones
/// again nothing was lost.
async fn is_waited_out(
    secrets: &Secrets<'_>,
    right: &[String],
    wrong: &[String],
    check: &str,
    sentence: &str,
) {
    let mut server = Server::start(&with_debug_log(right)).await;
    assert!(server.stop().await.success());
    server.set_args(&with_debug_log(wrong));
    server.forget_address();
    let before = server.log().len();
    server.spawn();
    eventually(&format!("{sentence:?} is logged"), async || {
        let log = server.log();
        let warned = log[before..].lines().filter(|line| line.contains("cannot be reached; trying again"));
        warned.into_iter().any(|line| line.contains(sentence)).then_some(())
    })
    .await;
    let caller = server.answering().await;
    let answer = caller.with_token("").get("/readyz").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let answer: Value = answer.json().await.unwrap();
    let named = answer["checks"].as_array().unwrap().iter().find(|c| c["name"] == check).unwrap();
    assert_eq!(named["ok"], false, "{answer}");
    secrets.in_no_line_of(&answer.to_string());
    let one = event("one", &ago(Duration::ZERO));
    assert_eq!(caller.post("secured", one).await.status(), StatusCode::OK);
    assert!(server.stop().await.success());

    server.set_args(&with_debug_log(right));
    server.run().await;
    server.call().until_count("cluster:secured", 1).await;
    assert!(server.stop().await.success());
    secrets.in_no_line_of(&server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_reached_by_certificate_or_password_and_by_nobody_else() {
    let own = Own::start(&["kafka-secured"]);
    let secrets = &Secrets::of(&own);
    let (tls, sasl) = (own.port("kafka-secured"), own.port("kafka-secured-sasl"));
    let (ca, stranger) = (&*secrets.file("ca.pem"), &*secrets.file("stranger.pem"));
    let (certificate, key) = (&*secrets.file("client.pem"), &*secrets.file("client.key"));
    let by_certificate = |topic: &str, host: &str, ca: &str| {
        let shown = [("ssl.certificate.location", certificate), ("ssl.key.location", key)];
        let trusted = [("security.protocol", "SSL"), ("ssl.ca.location", ca)];
        secrets.kafka(format!("{host}:{tls}"), topic, &[trusted, shown].concat())
    };
    let by_password = |topic: &str, mechanism: &str, password: &str| {
        let login =
            [("sasl.mechanism", mechanism), ("sasl.username", "muniment"), ("sasl.password", password)];
        let trusted = [("security.protocol", "SASL_SSL"), ("ssl.ca.location", ca)];
        secrets.kafka(format!("localhost:{sasl}"), topic, &[&trusted[..], &login].concat())
    };

    let right = [
        by_certificate(&unique("certificate"), "localhost", ca),
        by_password(&unique("scram"), "SCRAM-SHA-512", &secrets.password),
        by_password(&unique("plain"), "PLAIN", &secrets.password),
    ];
    join_all(right.iter().map(|args| works(secrets, args))).await;

    let wrong = |case: &str| {
        let topic = &*unique(case);
        match case {
            "scram" => (by_password(topic, "SCRAM-SHA-512", "wrong"), "uthentication failed"),
            "plain" => (by_password(topic, "PLAIN", "wrong"), "uthentication failed"),
            "authority" => (by_certificate(topic, "localhost", stranger), "certificate verify failed"),
            "host" => (by_certificate(topic, "127.0.0.1", ca), "certificate verify failed"),
            "no-certificate" => {
                let properties = [("security.protocol", "SSL"), ("ssl.ca.location", ca)];
                (secrets.kafka(format!("localhost:{tls}"), topic, &properties), "bad certificate")
            }
            _ => (secrets.kafka(format!("localhost:{tls}"), topic, &[]), "security.protocol"),
        }
    };
    let cases = ["scram", "plain", "authority", "host", "no-certificate", "no-tls"].map(|case| {
        let (wrong, sentence) = wrong(case);
        let right = by_certificate(&wrong[3], "localhost", ca);
        async move { is_waited_out(secrets, &right, &wrong, "log", sentence).await }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_setting_that_kafkas_client_does_not_know_is_named_without_its_value() {
    for (setting, sentence) in [
        ("sasl.pasword=hunter2", "sasl.pasword"),
        ("ssl.ca.location=/absent.pem", "/absent.pem"),
        ("ssl.key.pem=hunter2", "ssl.key.pem"),
        ("security.protocol=TLS", "security.protocol"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = muniment();
        command.args(["serve", "--bind-address", "127.0.0.1:0", "--kafka", "localhost:1", "--data-dir"]);
        command.arg(folder.path().join("data")).args(["--kafka-config", "security.protocol=SSL"]);
        command.args(["--kafka-config", setting, "--log-level", "debug"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let error = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(sentence) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_reached_over_tls_with_its_password_and_in_no_other_way() {
    let own = Own::start(&["postgres-secured"]);
    let secrets = &Secrets::of(&own);
    let verified = |ca: &str| format!("sslmode=verify-full&sslrootcert={}", secrets.file(ca));
    let login = &*format!("muniment:{}", secrets.password);
    let server = secrets.postgres(login, "localhost", &verified("ca.pem"));

    let database = Database::create_on(server.clone()).await;
    works(secrets, &["--postgres".to_owned(), database.url()]).await;

    let cases = [
        (
            secrets.postgres("muniment:wrong", "localhost", &verified("ca.pem")),
            "password authentication failed",
        ),
        (secrets.postgres(login, "localhost", &verified("stranger.pem")), "invalid peer certificate"),
        (secrets.postgres(login, "127.0.0.1", &verified("ca.pem")), "not valid for name"),
        (secrets.postgres(login, "localhost", "sslmode=disable"), "no encryption"),
    ];
    join_all(cases.iter().map(async |(wrong, sentence)| {
        let database = Database::create_on(server.clone()).await;
        let right = ["--postgres".to_owned(), database.url()];
        let wrong = ["--postgres".to_owned(), database.url_on(wrong)];
        is_waited_out(secrets, &right, &wrong, "ledger", sentence).await;
    }))
    .await;
}
