//! Whom an identity provider's tokens name, and when its keys are asked for.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use axum::{Json, Router, routing::get};
use ingest::time::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    gateway::authn::signing_key::SigningKey,
    server::Listener,
    tls::{Clients, Identity, authority_file},
};

const NOW: i64 = 1_795_000_000;

fn options(issuer: &str) -> OidcOptions {
    OidcOptions {
        issuer: issuer.to_owned(),
        client_id: "muniment".to_owned(),
        username_claim: "sub".to_owned(),
        username_prefix: None,
        groups_claim: Some("groups".to_owned()),
        groups_prefix: "idp:".to_owned(),
        required_claims: BTreeMap::new(),
        algorithms: vec!["ES256".to_owned()],
    }
}

fn claims(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": "muniment", "sub": "alice", "exp": NOW + 60, "iat": NOW,
        "groups": ["dev", "ops"], "email": "alice@example.com", "email_verified": true,
    })
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

/// A reader whose keys are in a file, and the key that signs.
struct Desk {
    folder: tempfile::TempDir,
    key: SigningKey,
}

const ISSUER: &str = "https://idp.example.com";

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::own(&folder.path().join("key")).unwrap();
        Self { folder, key }
    }

    fn reader(&self, options: OidcOptions) -> Oidc {
        let jwks = self.folder.path().join("jwks.json");
        std::fs::write(&jwks, jwk_set(&[&pem(&self.folder, "key")]).to_string()).unwrap();
        let file = Followed::open(&jwks, Keys::from_jwks).unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_micros(NOW * 1_000_000));
        Oidc::new(options, KeySource::File(file), clock).unwrap()
    }

    async fn reads(&self, options: OidcOptions, claims: &Value) -> Option<UserInfo> {
        let token = self.key.sign(claims).unwrap();
        self.reader(options).holder(&token).await.map(|(user, _)| user)
    }
}

fn pem(folder: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

/// The public halves of P-256 keys as a JWK set; the ids are those that the tokens name.
fn jwk_set(pems: &[&str]) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let keys: Vec<Value> = pems
        .iter()
        .map(|pem| {
            let pair = rcgen::KeyPair::from_pem(pem).unwrap();
            let point = pair.public_key_raw().to_vec();
            let id = SigningKey::parse(pem.as_bytes()).unwrap().sign(&json!({})).unwrap();
            let id = jsonwebtoken::decode_header(&id).unwrap().kid;
            let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
                   "x": part(&point[1..33]), "y": part(&point[33..])})
        })
        .collect();
    json!({ "keys": keys })
}

#[tokio::test]
async fn the_claims_are_the_user_and_its_groups() {
    let desk = Desk::new();
    let alice = desk.reads(options(ISSUER), &claims(ISSUER)).await.unwrap();
    assert_eq!(alice.username, "https://idp.example.com#alice");
    assert_eq!(alice.groups, ["idp:dev", "idp:ops"]);
    let one = desk.reads(options(ISSUER), &with(claims(ISSUER), "groups", json!("dev"))).await.unwrap();
    assert_eq!(one.groups, ["idp:dev"]);
    let mail = OidcOptions { username_claim: "email".into(), ..options(ISSUER) };
    assert_eq!(desk.reads(mail, &claims(ISSUER)).await.unwrap().username, "alice@example.com");
    for (prefix, expected) in [("-", "alice"), ("x:", "x:alice")] {
        let options = OidcOptions { username_prefix: Some(prefix.into()), ..options(ISSUER) };
        assert_eq!(desk.reads(options, &claims(ISSUER)).await.unwrap().username, expected);
    }
}

#[tokio::test]
async fn tokens_that_are_not_for_us_are_nobodys() {
    let desk = Desk::new();
    let good = || claims(ISSUER);
    for wrong in [
        with(good(), "aud", json!("other")),
        with(good(), "aud", json!(["a", "b"])),
        with(good(), "iss", json!("https://other")),
        with(good(), "exp", json!(NOW - 61)),
        with(good(), "nbf", json!(NOW + 61)),
        with(good(), "sub", json!("")),
        with(good(), "sub", json!(7)),
        with(good(), "groups", json!({"a": 1})),
        with(good(), "exp", Value::Null),
    ] {
        assert_eq!(desk.reads(options(ISSUER), &wrong).await, None, "{wrong}");
    }
    let mail = OidcOptions { username_claim: "email".into(), ..options(ISSUER) };
    assert_eq!(desk.reads(mail, &with(good(), "email_verified", json!(false))).await, None);
    let required = [("tenant".to_owned(), "acme".to_owned())].into();
    let required = OidcOptions { required_claims: required, ..options(ISSUER) };
    assert_eq!(desk.reads(required.clone(), &good()).await, None);
    assert!(desk.reads(required, &with(good(), "tenant", json!("acme"))).await.is_some());
    let stranger = Desk::new().key.sign(&good()).unwrap();
    assert_eq!(desk.reader(options(ISSUER)).holder(&stranger).await, None);
}

#[tokio::test]
async fn a_token_without_a_signature_or_with_a_shared_secret_is_nobodys() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let desk = Desk::new();
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    for algorithm in ["none", "HS256", "ES256"] {
        let token = format!("{}.{}.", part(json!({"alg": algorithm})), part(claims(ISSUER)));
        assert_eq!(desk.reader(options(ISSUER)).holder(&token).await, None, "{algorithm}");
    }
}

#[test]
fn settings_that_protect_nothing_are_refused() {
    let desk = Desk::new();
    let jwks = desk.folder.path().join("jwks.json");
    std::fs::write(&jwks, jwk_set(&[&pem(&desk.folder, "key")]).to_string()).unwrap();
    for wrong in [
        options("http://idp.example.com"),
        OidcOptions { client_id: String::new(), ..options(ISSUER) },
        OidcOptions { algorithms: vec!["HS256".into()], ..options(ISSUER) },
        OidcOptions { algorithms: vec!["none".into()], ..options(ISSUER) },
    ] {
        let file = Followed::open(&jwks, Keys::from_jwks).unwrap();
        assert!(Oidc::new(wrong, KeySource::File(file), Clock::system()).is_err());
    }
}

/// An issuer on this machine, over TLS.
struct Provider {
    url: String,
    jwks: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn provider() -> Provider {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(folder.path(), vec!["localhost".into()], &Clock::system()).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("https://localhost:{}", listener.address().port());
    let (jwks, asked) = (Arc::new(Mutex::new(json!({"keys": []}))), Arc::new(AtomicUsize::new(0)));
    let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    let (served, count) = (jwks.clone(), asked.clone());
    let keys = move || {
        count.fetch_add(1, Ordering::Relaxed);
        let keys = served.lock().unwrap().clone();
        async move { Json(keys) }
    };
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(move || async move { Json(document) }))
        .route("/keys", get(keys));
    let stop = CancellationToken::new();
    let tls = identity.server_config(Clients::Anonymous).unwrap();
    let serving = listener.serve(router, tls, stop.clone(), std::time::Duration::ZERO);
    tokio::spawn(serving);
    Provider { url, jwks, asked, folder, stop }
}

#[tokio::test]
async fn new_keys_are_fetched_when_one_is_named_and_not_more_often_than_the_bound_allows() {
    let provider = provider();
    let key = SigningKey::own(&provider.folder.path().join("one")).unwrap();
    let next = SigningKey::own(&provider.folder.path().join("two")).unwrap();
    let (one, two) = (pem(&provider.folder, "one"), pem(&provider.folder, "two"));
    *provider.jwks.lock().unwrap() = jwk_set(&[&one]);
    let second = Arc::new(AtomicI64::new(NOW));
    let read = second.clone();
    let clock = Clock::from_fn(move || Timestamp::from_micros(read.load(Ordering::Relaxed) * 1_000_000));
    let authorities = std::fs::read(authority_file(provider.folder.path())).unwrap();
    let discovery = Discovery::new(&provider.url, Some(&authorities), clock.clone()).unwrap();
    let oidc = Oidc::new(options(&provider.url), KeySource::Issuer(discovery), clock).unwrap();
    let asked = || provider.asked.load(Ordering::Relaxed);

    let token = key.sign(&claims(&provider.url)).unwrap();
    assert!(oidc.holder(&token).await.is_some());
    assert!(oidc.holder(&token).await.is_some());
    assert_eq!(asked(), 1);

    *provider.jwks.lock().unwrap() = jwk_set(&[&one, &two]);
    let rotated = next.sign(&claims(&provider.url)).unwrap();
    for _ in 0..20 {
        assert!(oidc.holder(&rotated).await.is_none(), "the pause is not over");
    }
    assert_eq!(asked(), 1);
    second.fetch_add(10, Ordering::Relaxed);
    assert!(oidc.holder(&rotated).await.is_some());
    assert!(oidc.holder(&token).await.is_some());
    assert_eq!(asked(), 2);

    second.fetch_add(10, Ordering::Relaxed);
    let elsewhere = key.sign(&claims("https://other")).unwrap();
    assert!(oidc.holder(&elsewhere).await.is_none());
    assert_eq!(asked(), 2, "a token of another issuer fetches nothing");
}
