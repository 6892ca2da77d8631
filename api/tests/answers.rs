//! Whatever a request gets wrong, and whichever part of the server notices it: the answer is the same JSON.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use api::{routes::Routes, server::router};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use parts::{api, token};
use serde_json::Value;
use tower::ServiceExt;

/// More than any answer has.
const MAX_BODY: usize = 64 * 1024;

async fn ask(router: &Router, method: Method, path: &str, bearer: &str) -> (StatusCode, HeaderMap, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {bearer}"))
        .body(Body::empty())
        .unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = to_bytes(answer.into_body(), MAX_BODY).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {status}: {text:?}"));
    (status, headers, json)
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (client, kept) = token("client", 1);
    let api = api(folder.path(), &[kept]);
    let (paths, router) = (Routes::of(&api).paths().to_vec(), router(api));
    for path in paths {
        let path = path.replace("{cluster}", "mine").replace("{id}", &uuid::Uuid::nil().to_string());
        let (status, headers, answer) = ask(&router, Method::PATCH, &path, client.expose()).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer["error"]["code"], "method_not_allowed", "{path}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("PATCH"), "{path}: {answer}");
        let allowed = headers[header::ALLOW].to_str().unwrap();
        assert!(allowed.contains("GET") || allowed.contains("POST"), "{path}: {allowed}");
        assert!(!allowed.contains("PATCH"), "{path}: {allowed}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_of_a_path_or_a_query_is_the_callers_mistake_in_the_same_form() {
    let folder = tempfile::tempdir().unwrap();
    let (client, kept) = token("client", 1);
    let router = router(api(folder.path(), &[kept]));
    let nil = uuid::Uuid::nil();
    for (method, path, code) in [
        (Method::GET, "/v1/events?limit=many".to_owned(), "bad_parameter"),
        (Method::GET, "/v1/events?lmit=1".to_owned(), "bad_parameter"),
        (Method::GET, "/v1/histogram?q=a&q=b".to_owned(), "bad_parameter"),
        (Method::GET, "/v1/tail?since=now".to_owned(), "bad_parameter"),
        (Method::GET, "/v1/completeness?form=now".to_owned(), "bad_parameter"),
        (Method::GET, format!("/v1/events/{nil}?raw=1&raw=1"), "bad_parameter"),
        (Method::GET, format!("/v1/events/{nil}?row=1"), "bad_parameter"),
        (Method::POST, "/v1/intake/audit/mine?unreadable=some".to_owned(), "bad_parameter"),
        (Method::GET, "/v1/events/%ff".to_owned(), "bad_path"),
        (Method::GET, "/v1/tokens/%ff".to_owned(), "bad_path"),
        (Method::POST, "/v1/intake/audit/%ff".to_owned(), "bad_path"),
    ] {
        let (status, _, answer) = ask(&router, method, &path, client.expose()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{path}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{path}: {answer}");
    }
    let (status, _, answer) = ask(&router, Method::GET, "/v1/nothing", client.expose()).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    let (status, _, answer) = ask(&router, Method::GET, "/v1/events", "none").await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::UNAUTHORIZED, &"unauthorized".into()));
}
