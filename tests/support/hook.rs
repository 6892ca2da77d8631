//! A webhook that servers ask: real, over TLS, with an authority of its own.

#![allow(dead_code, reason = "each test binary uses a part of this file")]

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

/// A webhook with what it was sent.
pub(crate) struct Hook {
    pub(crate) at: SocketAddr,
    /// What it is known by.
    pub(crate) authority: String,
    pub(crate) seen: Arc<Mutex<Vec<(String, Value)>>>,
}

/// What it answers to a path and a request.
pub(crate) type Answer = fn(&str, &Value) -> Value;

#[derive(Clone)]
struct Behaviour {
    seen: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Answer,
    wait: Duration,
}

/// In the place of an answer: the webhook has failed by itself.
pub(crate) fn broken() -> Value {
    Value::Null
}

async fn review(State(behaviour): State<Behaviour>, uri: Uri, Json(review): Json<Value>) -> Response {
    tokio::time::sleep(behaviour.wait).await;
    behaviour.seen.lock().unwrap().push((uri.path_and_query().unwrap().to_string(), review.clone()));
    match (behaviour.answer)(uri.path(), &review["request"]) {
        Value::Null => (StatusCode::INTERNAL_SERVER_ERROR, "the webhook is broken").into_response(),
        answer => Json(answer).into_response(),
    }
}

/// What a webhook says, in its envelope.
pub(crate) fn said(request: &Value, response: Value) -> Value {
    let mut response = response;
    response["uid"] = request["uid"].clone();
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response })
}

/// That the object is to be changed.
pub(crate) fn patched(request: &Value, patch: Value) -> Value {
    let patch = STANDARD.encode(patch.to_string());
    said(request, json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch }))
}

impl Hook {
    /// Serves on a free port under this name.
    pub(crate) async fn start(name: &str, wait: Duration, answer: Answer) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        // Another test of this process may have been faster.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let tls = axum_server::tls_rustls::RustlsConfig::from_pem(
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let behaviour = Behaviour { seen: seen.clone(), answer, wait };
        let router = Router::new().fallback(post(review)).with_state(behaviour);
        let server = axum_server::from_tcp_rustls(listener, tls.await.unwrap()).unwrap();
        tokio::spawn(server.serve(router.into_make_service()));
        Self { at, authority: authority.pem(), seen }
    }

    /// A `clientConfig` that leads here.
    pub(crate) fn url(&self, path: &str) -> Value {
        json!({ "url": format!("https://127.0.0.1:{}{path}", self.at.port()), "caBundle": STANDARD.encode(&self.authority) })
    }
}
