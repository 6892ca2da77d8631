//! An issuer's keys, found through its discovery document and fetched anew when a token names an unknown one.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ingest::time::{Clock, Timestamp};
use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;

use super::{super::jwt::Keys, OidcError};

/// The largest document that is read from an issuer.
const MAX_BYTES: usize = 1024 * 1024;

/// How long an issuer may take for one answer: a client waits behind it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long after one fetch the next may begin, whatever tokens are shown: strangers can name keys at will.
const PAUSE_MICROS: i64 = 10_000_000;

/// Keys, and which fetch they are of.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) keys: Keys,
    number: u64,
}

/// Fetches keys.
#[derive(Debug)]
pub struct Discovery {
    issuer: String,
    http: Client,
    clock: Clock,
    known: RwLock<Arc<Fetched>>,
    /// When the last fetch began; held while one goes on.
    last: tokio::sync::Mutex<Option<Timestamp>>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer does not answer")]
    Http(#[from] reqwest::Error),
    #[error("the issuer's answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Bad(String),
}

impl Discovery {
    /// Asks the issuer, whose certificate one of these authorities (PEM) has signed, or one of the public ones.
    ///
    /// # Errors
    /// When the authorities cannot be used.
    pub fn new(issuer: &str, authorities: Option<&[u8]>, clock: Clock) -> Result<Self, OidcError> {
        let wrong = |error: reqwest::Error| OidcError::Tls(error.to_string());
        let mut builder = Client::builder()
            .https_only(true)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::limited(3))
            .user_agent("muniment");
        if let Some(pem) = authorities {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(wrong)?);
        }
        Ok(Self {
            issuer: issuer.to_owned(),
            http: builder.build().map_err(wrong)?,
            clock,
            known: RwLock::default(),
            last: tokio::sync::Mutex::default(),
        })
    }

    /// The keys of the last fetch; none before the first.
    pub(super) fn known(&self) -> Arc<Fetched> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keys of a later fetch than `old`, which is made now where none was made a moment ago. One is made at a time.
    pub(super) async fn newer_than(&self, old: &Fetched) -> Option<Arc<Fetched>> {
        let mut last = self.last.lock().await;
        let known = self.known();
        if known.number > old.number {
            return Some(known);
        }
        let now = self.clock.now();
        if last.is_some_and(|last| (0..PAUSE_MICROS).contains(&(now.micros() - last.micros()))) {
            return None;
        }
        *last = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                let fresh = Arc::new(Fetched { keys, number: known.number + 1 });
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
                Some(fresh)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    issuer = self.issuer,
                    error,
                    "the keys of the identity provider are not known"
                );
                None
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, FetchError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document = self.get(&url).await?;
        let document: Document = serde_json::from_slice(&document)
            .map_err(|e| FetchError::Bad(format!("no discovery document: {e}")))?;
        if document.issuer != self.issuer {
            return Err(FetchError::Bad(format!("the document is of another issuer, {:?}", document.issuer)));
        }
        Keys::from_jwks(&self.get(&document.jwks_uri).await?).map_err(FetchError::Bad)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let mut response = self.http.get(url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
