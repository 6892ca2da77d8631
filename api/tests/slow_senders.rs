//! Senders that are slow take nothing from the others: neither their turn nor their memory.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use std::time::Duration;

use api::{
    intake::{Bounds, pace::Allowance},
    server::router,
};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode, header},
};
use futures::{StreamExt, stream};
use parts::{bounded, token};
use serde_json::Value;
use tower::ServiceExt;

const MIB: usize = 1024 * 1024;

/// Nobody is cut off while a test looks.
const PATIENT: Allowance =
    Allowance { pause: Duration::from_secs(600), grace: Duration::from_secs(600), bytes_per_second: 1 };

fn event(number: usize) -> String {
    let at = ingest::time::Clock::system().now();
    format!(
        r#"{{"level":"Metadata","auditID":"{number}","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{{}},"requestReceivedTimestamp":"{at}","stageTimestamp":"{at}"}}"#
    )
}

struct Intake {
    router: Router,
    bearer: String,
    _folder: tempfile::TempDir,
}

impl Intake {
    fn new(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (secret, kept) = token("intake:c", 1);
        let router = router(bounded(folder.path(), &[kept], bounds));
        Self { router, bearer: format!("Bearer {}", secret.expose()), _folder: folder }
    }

    async fn post(&self, body: Body) -> (StatusCode, Value) {
        let request = Request::post("/v1/intake/audit/c").header(header::AUTHORIZATION, &self.bearer);
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), MIB).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// A sender that sends this and then nothing more.
    fn stuck(&self, sent: impl Into<Bytes>) -> tokio::task::JoinHandle<StatusCode> {
        let chunks = stream::iter([Ok::<_, std::io::Error>(sent.into())]);
        let rest = stream::pending();
        let request = Request::post("/v1/intake/audit/c").header(header::AUTHORIZATION, &self.bearer);
        let request = request.body(Body::from_stream(chunks.chain(rest))).unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { router.oneshot(request).await.unwrap().status() })
    }
}

#[tokio::test]
async fn many_slow_senders_do_not_stop_a_good_one() {
    let intake = Intake::new(Bounds { pace: PATIENT, ..Bounds::default() });
    let slow: Vec<_> = (0..500).map(|i| intake.stuck(format!("{}\n{{\"level\":", event(i)))).collect();
    for i in 0..20 {
        tokio::task::yield_now().await;
        let (status, answer) = intake.post(Body::from(event(1_000 + i))).await;
        assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &1.into()), "{answer}");
    }
    assert!(slow.iter().all(|sender| !sender.is_finished()));
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_sender_that_pauses_or_dribbles_is_told_so_and_what_it_sent_is_kept() {
    let pace = Allowance {
        pause: Duration::from_millis(300),
        grace: Duration::from_millis(600),
        bytes_per_second: 100_000,
    };
    let intake = Intake::new(Bounds { pace, ..Bounds::default() });
    let sent = || stream::iter([Ok::<_, std::io::Error>(Bytes::from(event(1) + "\n"))]);
    let (status, answer) = intake.post(Body::from_stream(sent().chain(stream::pending()))).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::REQUEST_TIMEOUT, &"body_stalled".into()));
    assert_eq!(answer["error"]["accepted"], 1, "{answer}");

    let dribble = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    });
    let (status, answer) = intake.post(Body::from_stream(sent().chain(dribble))).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::REQUEST_TIMEOUT, &"body_too_slow".into()));
    assert_eq!(answer["error"]["accepted"], 1, "{answer}");
}

#[tokio::test]
async fn half_items_take_no_more_memory_than_all_may_and_free_it_when_they_end() {
    let bounds = Bounds { memory: 16 * MIB, pace: PATIENT, ..Bounds::default() };
    let intake = Intake::new(bounds);
    let half = || format!("{{\"level\":\"{}", "x".repeat(3 * MIB));
    let slow: Vec<_> = (0..8).map(|_| intake.stuck(half())).collect();
    // Those that found no room are sent away after a while; the others wait for the rest of their item.
    let away = async {
        while !slow.iter().any(|sender| sender.is_finished()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), away).await.expect("somebody is sent away");
    let mut refused = 0;
    for sender in slow {
        match sender.is_finished() {
            true => {
                assert_eq!(sender.await.unwrap(), StatusCode::TOO_MANY_REQUESTS);
                refused += 1;
            }
            false => sender.abort(),
        }
    }
    assert!(refused >= 1);
    let whole = format!("{}\n", event(1)) + &" ".repeat(MIB) + &event(2);
    let freed = async {
        while intake.post(Body::from(whole.clone())).await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), freed).await.expect("room is free again");
}
