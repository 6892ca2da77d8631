//! An answer that needs nothing of the body waits until the body has arrived, within bounds.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use api::server::router;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use futures::{StreamExt, stream};
use parts::{api, token};
use tower::ServiceExt;

const CHUNK: usize = 64 * 1024;

/// A body of this many chunks, and how many of them were taken.
fn counted(chunks: usize) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let body = stream::iter(0..chunks).map(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from(vec![b' '; CHUNK]))
    });
    (Body::from_stream(body), taken)
}

async fn post(router: &Router, path: &str, bearer: &str, body: Body) -> StatusCode {
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {bearer}"))
        .header(header::CONTENT_TYPE, "application/json");
    router.clone().oneshot(request.body(body).unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn whichever_part_refuses_the_body_has_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let ((client, of_client), (intake, of_intake)) = (token("client", 1), token("intake:mine", 2));
    let router = router(api(folder.path(), &[of_client, of_intake]));
    let large = 100;
    for (path, bearer, status, chunks) in [
        ("/v1/tokens", "none", StatusCode::UNAUTHORIZED, 10),
        ("/v1/intake/audit/other", intake.expose(), StatusCode::FORBIDDEN, large),
        ("/v1/nothing", client.expose(), StatusCode::NOT_FOUND, large),
        ("/v1/events", client.expose(), StatusCode::METHOD_NOT_ALLOWED, large),
        ("/v1/intake/audit/not%20a%20name", client.expose(), StatusCode::BAD_REQUEST, large),
        ("/v1/tokens", client.expose(), StatusCode::PAYLOAD_TOO_LARGE, large),
        ("/v1/intake/audit/mine", client.expose(), StatusCode::PAYLOAD_TOO_LARGE, 64 * 16 + large),
    ] {
        let (body, taken) = counted(chunks);
        assert_eq!(post(&router, path, bearer, body).await, status, "{path}");
        assert_eq!(taken.load(Ordering::SeqCst), chunks, "{status} for {path}");
    }
}

#[tokio::test]
async fn no_more_is_taken_than_the_bounds_say() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(api(folder.path(), &[]));
    let (body, taken) = counted(1_000);
    assert_eq!(post(&router, "/v1/tokens", "none", body).await, StatusCode::UNAUTHORIZED);
    assert!(taken.load(Ordering::SeqCst) <= 1024 * 1024 / CHUNK + 1, "{taken:?}");

    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let begun = Instant::now();
    assert_eq!(post(&router, "/v1/tokens", "none", endless).await, StatusCode::UNAUTHORIZED);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_send_is_answered_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let router = router(api(folder.path(), &[]));
    let (body, taken) = counted(10);
    let request = Request::post("/v1/tokens").header(header::EXPECT, "100-continue");
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}
