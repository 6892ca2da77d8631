//! Every route, walked from outside: nothing but health answers without a token, and an intake token opens its own
//! cluster alone.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use api::{
    access::{OPEN, table::TABLE},
    routes::Routes,
    server::router,
};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use parts::{api, token};
use tower::ServiceExt;

async fn status(router: &Router, method: &Method, path: &str, bearer: Option<&str>) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(bearer) = bearer {
        request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD];

#[tokio::test]
async fn no_route_but_health_answers_without_a_valid_token() {
    let folder = tempfile::tempdir().unwrap();
    let api = api(folder.path(), &[]);
    let (paths, router) = (Routes::of(&api).paths().to_vec(), router(api));
    assert!(paths.len() > 10, "{paths:?}");
    let forged = format!("muniment_{}_{}", uuid::Uuid::nil().simple(), "x".repeat(43));
    for path in paths.iter().filter(|path| !OPEN.contains(path)).chain(&["/", "/v1", "/v1/unknown"]) {
        for method in &METHODS {
            for bearer in [None, Some(""), Some("x"), Some(forged.as_str())] {
                let got = status(&router, method, path, bearer).await;
                assert_eq!(got, StatusCode::UNAUTHORIZED, "{method} {path} with {bearer:?}");
            }
        }
    }
    for path in OPEN {
        assert_eq!(status(&router, &Method::GET, path, None).await, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn an_intake_token_opens_its_own_cluster_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, kept) = token("intake:mine", 1);
    let api = api(folder.path(), &[kept]);
    let (paths, router) = (Routes::of(&api).paths().to_vec(), router(api));
    for path in paths.iter().filter(|path| !OPEN.contains(path)) {
        for method in &METHODS {
            let got =
                status(&router, method, &path.replace("{cluster}", "other"), Some(secret.expose())).await;
            assert_eq!(got, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    let own = status(&router, &Method::POST, "/v1/intake/audit/mine", Some(secret.expose())).await;
    assert_ne!(own, StatusCode::FORBIDDEN);
    assert_ne!(own, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revoked_token_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, mut kept) = token("client", 1);
    kept.revoked_at = Some(kept.created_at);
    let router = router(api(folder.path(), &[kept]));
    assert_eq!(
        status(&router, &Method::GET, "/metrics", Some(secret.expose())).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_token_is_good_while_the_database_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, kept) = token("client", 1);
    let router = router(api(folder.path(), &[kept]));
    assert_eq!(status(&router, &Method::GET, "/metrics", Some(secret.expose())).await, StatusCode::OK);
    let list = status(&router, &Method::GET, "/v1/completeness", Some(secret.expose())).await;
    assert_eq!(list, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn every_route_and_method_has_a_row_that_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, kept) = token("client", 1);
    let api = api(folder.path(), &[kept]);
    let (paths, router) = (Routes::of(&api).paths().to_vec(), router(api));
    let has_row = |path: &str, method: &Method| {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        TABLE.iter().any(|row| row.path == path && row.method == method)
    };
    for path in &paths {
        let asked = path.replace("{cluster}", "mine").replace("{id}", &uuid::Uuid::nil().to_string());
        for method in METHODS.iter().chain(&[Method::PATCH]) {
            let answered = status(&router, method, &asked, Some(secret.expose())).await;
            let is_taken = answered != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_taken, has_row(path, method), "{method} {path} is answered with {answered}");
        }
    }
    for row in &TABLE {
        let is_there = paths.contains(&row.path)
            || ["/v1/keys", "/admission/"].iter().any(|own| row.path.starts_with(own));
        assert!(is_there, "{row:?} is of no route");
    }
}
