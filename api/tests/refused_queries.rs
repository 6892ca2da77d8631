//! A query with a mistake is refused on every route that takes one, with its place and what would be right.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/parts.rs"]
mod parts;

use api::server::router;
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use parts::{api, token};
use serde_json::{Value, json};
use tower::ServiceExt;

/// More than any error has.
const MAX_BODY: usize = 64 * 1024;

#[tokio::test]
async fn a_value_that_a_field_cannot_have_is_a_mistake_with_its_place_and_the_nearest_value() {
    let folder = tempfile::tempdir().unwrap();
    let (client, of_client) = token("client", 1);
    let router = router(api(folder.path(), &[of_client]));
    for route in ["/v1/events", "/v1/histogram", "/v1/tail"] {
        let request = Request::get(format!("{route}?q=verb:get%20stage:ResponseComplet"))
            .header(header::AUTHORIZATION, format!("Bearer {}", client.expose()))
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{route}");
        let body = to_bytes(answer.into_body(), MAX_BODY).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let error = &body["error"];
        assert_eq!(error["code"], "bad_query", "{route}");
        assert_eq!([&error["line"], &error["column"]], [&json!(1), &json!(16)], "{route}");
        assert_eq!(error["suggestion"], "did you mean ResponseComplete?", "{route}");
        assert!(error["message"].as_str().unwrap().starts_with("1:16: \"stage\" is never"), "{error}");
    }
}
