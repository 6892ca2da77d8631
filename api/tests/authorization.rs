//! Every route, walked from outside: nothing but health answers without a token, and an intake token opens its own
//! cluster alone.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::{path::Path, sync::Arc};

use api::{
    auth::OPEN,
    events::Search,
    health::Health,
    intake::Intake,
    later::Later,
    prometheus::MetricsPage,
    rebuild::Rebuilder,
    routes::{Api, QueryRole, Routes},
    server::router,
    tail::Followers,
    tokens::{Scope, Secret, Token, Tokens},
};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use index::{Index, IndexOptions};
use ingest::{
    accept::Acceptor,
    identity::DeploymentKey,
    journal::{Journal, JournalOptions},
    redact::{Redactor, RuleSet},
    time::Clock,
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A token and what is kept of it. The database is away in this test: tokens come from the snapshot.
fn token(scope: &str, number: u128) -> (Secret, Token) {
    let id = uuid::Uuid::from_u128(number);
    let private = "s".repeat(43);
    let secret = Secret::parse(&format!("muniment_{}_{private}", id.simple())).unwrap();
    let scope: Scope = scope.parse().unwrap();
    let hash = Sha256::digest(private.as_bytes()).into();
    let created_at = ingest::time::Timestamp::from_micros(0);
    (secret, Token { id, hash, scope, label: "".into(), created_at, revoked_at: None })
}

fn api(folder: &Path, tokens: &[Token]) -> Api {
    let clock = Clock::system();
    let snapshot = folder.join("tokens.json");
    std::fs::write(&snapshot, serde_json::to_vec(tokens).unwrap()).unwrap();
    let key = DeploymentKey::from_bytes([7; 32]);
    let redactor = Arc::new(Redactor::new(&RuleSet::builtin(), &key));
    let acceptor = Acceptor::new(&key, redactor, clock.clone(), None);
    let (journal, _) =
        Journal::open(&folder.join("journal"), JournalOptions::new("test", clock.clone())).unwrap();
    let (index, _) = Index::open(&folder.join("index"), IndexOptions::default()).unwrap();
    let (ledger, stop) = (Later::new(), CancellationToken::new());
    Api {
        tokens: Tokens::open(Later::new(), snapshot, clock.clone()).unwrap(),
        health: Health::new(Vec::new()),
        metrics: MetricsPage::new(String::new),
        intake: Some(Intake::new(acceptor, journal, None, clock.clone())),
        query: Some(QueryRole {
            search: Search { index: index.clone(), ledger: ledger.clone(), clock },
            followers: Followers::new(stop.clone()),
            rebuilder: Rebuilder::new(index, ledger, stop),
        }),
    }
}

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
