//! Over HTTP/2, a request that is refused before its body has ended gets its answer, whole.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use reqwest::{Method, StatusCode, Version, header};
use serde_json::Value;
use server::{Caller, Server, ago, event};

const MIB: usize = 1024 * 1024;

/// Posts a body and gives the code and message of the refusal.
async fn refused(caller: &Caller, path: &str, body: Vec<u8>, status: StatusCode) -> (String, String) {
    let request = caller.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
    let response = request.body(body).send().await.unwrap();
    assert_eq!((response.status(), response.version()), (status, Version::HTTP_2), "{path}");
    let answer: Value = response.json().await.unwrap();
    let text = |name: &str| answer["error"][name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text("code"), text("message"))
}

#[tokio::test]
async fn every_refusal_arrives_with_its_message() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let made = server.output(&["token", "create", "--intake", "mine"]).await;
    let intake = caller.with_token(String::from_utf8(made.stdout).unwrap().trim());
    let (stranger, body) = (caller.with_token("none"), || vec![b' '; 16 * MIB]);
    for (caller, path, body, status, code) in [
        (&stranger, "/v1/intake/audit/mine", vec![b' '; MIB], StatusCode::UNAUTHORIZED, "unauthorized"),
        (&intake, "/v1/intake/audit/other", body(), StatusCode::FORBIDDEN, "forbidden"),
        (&caller, "/v1/intake/audit/a%20b", body(), StatusCode::BAD_REQUEST, "bad_cluster"),
        (&caller, "/v1/nothing", body(), StatusCode::NOT_FOUND, "not_found"),
        (&caller, "/v1/tokens", body(), StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
        (
            &caller,
            "/v1/intake/audit/mine",
            vec![b' '; 80 * MIB],
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
        ),
    ] {
        let (found, message) = refused(caller, path, body, status).await;
        assert_eq!(found, code, "{path}: {message}");
        assert!(!message.is_empty());
    }
}

#[tokio::test]
async fn a_full_journal_says_so_and_when_to_come_again() {
    // Kafka is nowhere, so nothing leaves the journal.
    let mut server = Server::stopped(&["--kafka", "127.0.0.1:1", "--journal-max-bytes", "2MiB"]);
    server.spawn();
    let caller = server.answering().await;
    let at = ago(std::time::Duration::ZERO);
    let mut kept = 0;
    let answer = loop {
        let body: Vec<String> = (0..400).map(|i| event(&format!("{kept}-{i}"), &at)).collect();
        let answer = caller.post("full", body.join("\n")).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        kept += 1;
        assert!(kept < 100, "the journal is never full");
    };
    assert_eq!((answer.status(), answer.version()), (StatusCode::TOO_MANY_REQUESTS, Version::HTTP_2));
    let wait: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "journal_full", "{error}");

    // A whole webhook's batch, most of which has not been read when the answer is known.
    let body: Vec<String> = (0..40_000).map(|i| event(&format!("more-{i}"), &at)).collect();
    let (code, message) = refused(
        &caller,
        "/v1/intake/audit/full",
        body.join("\n").into_bytes(),
        StatusCode::TOO_MANY_REQUESTS,
    )
    .await;
    assert_eq!(code, "journal_full", "{message}");
    let ready = caller.with_token("").get("/readyz").send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
}
