//! Who is let in, and what is said of those who are not.

use std::fs;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::*;
use crate::{gateway::user::AUTHENTICATED, later::Later, tokens::Token};

const SECRET: &str = "0123456789012345678901234567890123456789abc";

fn clock() -> Clock {
    Clock::from_fn(|| "2026-11-24T05:00:00Z".parse().unwrap())
}

/// Tokens with one of each scope, whose ids are 1 and 2.
fn tokens(folder: &std::path::Path) -> Tokens {
    let token = |id: u128, scope: &str| Token {
        id: Uuid::from_u128(id),
        hash: Sha256::digest(SECRET).into(),
        scope: scope.parse().unwrap(),
        label: "".into(),
        created_at: clock().now(),
        revoked_at: None,
    };
    let snapshot = folder.join("tokens.json");
    let all = [token(1, "client"), token(2, "intake:demo")];
    fs::write(&snapshot, serde_json::to_vec(&all).unwrap()).unwrap();
    Tokens::open(Later::new(), snapshot, clock()).unwrap()
}

fn shows(authorization: &str) -> Credentials {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
    Credentials::read(&headers, None, None)
}

#[derive(Debug)]
struct Signed(std::sync::atomic::AtomicUsize);

#[async_trait::async_trait]
impl TokenSource for Signed {
    async fn holder(&self, token: &str) -> Option<(UserInfo, i64)> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (token == "signed").then(|| (UserInfo { username: "carol".into(), ..UserInfo::default() }, i64::MAX))
    }
}

#[tokio::test]
async fn holders_of_tokens_are_known_and_nobody_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.csv");
    fs::write(&path, "static,alice,1,dev\n").unwrap();
    let signed = Arc::new(Signed(0.into()));
    let sources = Sources {
        token_file: Some(Followed::open(&path, TokenFile::parse).unwrap()),
        signed: vec![signed.clone()],
        ..Sources::default()
    };
    let authenticator = Authenticator::new(tokens(folder.path()), sources, clock());
    let who = async |authorization: &str| {
        authenticator.authenticate(&shows(authorization)).await.map(|user| (user.username, user.groups))
    };
    let alice = who("Bearer static").await.unwrap();
    assert_eq!(alice, ("alice".to_owned(), vec!["dev".to_owned(), AUTHENTICATED.to_owned()]));
    let own = who(&format!("bearer muniment_{}_{SECRET}", Uuid::from_u128(1).simple())).await.unwrap();
    assert_eq!(own.1, [MASTERS, AUTHENTICATED]);
    assert!(own.0.starts_with("muniment:token:"));
    for _ in 0..2 {
        assert_eq!(who("Bearer signed").await.unwrap().0, "carol");
    }
    assert_eq!(signed.0.load(std::sync::atomic::Ordering::Relaxed), 1, "the second time is remembered");
    let intake = format!("Bearer muniment_{}_{SECRET}", Uuid::from_u128(2).simple());
    for wrong in ["Bearer nobody", "Bearer ", "Basic YTpi", "Negotiate x", "static", &intake] {
        assert!(who(wrong).await.is_err(), "{wrong}");
    }
}

#[test]
fn a_failure_names_what_was_shown_as_upstream_does() {
    let said = |credentials: Credentials| Failure { attempted: credentials.attempted }.to_string();
    assert_eq!(said(Credentials::default()), "Authentication failed, no credentials provided");
    assert_eq!(said(shows("Bearer x")), "Authentication failed, attempted: bearer");
    assert_eq!(said(shows("Basic x")), "Authentication failed, attempted: basic");
    let mut tls = TlsInfo::default();
    tls.peer_certificates = vec![vec![1]];
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer x".parse().unwrap());
    let all = Credentials::read(&headers, Some("access_token=t"), Some(Arc::new(tls)));
    assert_eq!(said(all), "Authentication failed, attempted: bearer, access_token, x509");
}

#[test]
fn a_token_that_is_too_long_is_not_looked_at() {
    let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
    let credentials = shows(&long);
    assert_eq!((credentials.bearer, credentials.attempted), (None, vec![Scheme::Bearer]));
}
