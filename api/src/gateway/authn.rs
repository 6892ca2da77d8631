//! Who a request comes from: what it shows is tried in upstream's order, client certificate first, then bearer token.
//!
//! Nobody is let in without showing something: the anonymous user of Kubernetes does not exist here. A wrong guess
//! costs a hash, or at most one verified signature: nothing is written, and nothing is asked of another machine more
//! often than its bound allows.

use std::{fmt, sync::Arc};

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use axum_server::tls::TlsInfo;
use ingest::time::Clock;
use sha2::{Digest, Sha256};

use super::{
    status::Status,
    user::{MASTERS, UserInfo},
};
use crate::tokens::{Scope, Tokens};

pub mod account;
pub mod certificate;
pub mod followed;
pub mod jwt;
pub mod oidc;
pub mod signing_key;
pub mod token_file;
mod verified;

use self::{certificate::Authorities, followed::Followed, token_file::TokenFile, verified::Verified};

/// The longest bearer token that is looked at. Those of identity providers with many groups have some kilobytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The key of `extra` that names the credential itself.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A user name and a password, which nobody is known by here.
    Basic,
    /// A token in `Authorization`.
    Bearer,
    /// A token in the query, which nobody is known by here.
    AccessToken,
    /// A client certificate.
    X509,
}

impl Scheme {
    /// Its name in audit events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::AccessToken => "access_token",
            Self::X509 => "x509",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Nobody is known by what was shown. Its text is the message of the audit event (kube-apiserver 1.36).
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// What was shown, in upstream's order.
    pub attempted: Vec<Scheme>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempted.is_empty() {
            return f.write_str("Authentication failed, no credentials provided");
        }
        let attempted: Vec<String> = self.attempted.iter().map(Scheme::to_string).collect();
        write!(f, "Authentication failed, attempted: {}", attempted.join(", "))
    }
}

impl From<Failure> for Status {
    fn from(_: Failure) -> Self {
        Self::unauthorized()
    }
}

/// What a request shows.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    bearer: Option<String>,
    tls: Option<Arc<TlsInfo>>,
    attempted: Vec<Scheme>,
}

impl Credentials {
    /// Reads the headers, the query and the connection's certificates.
    pub fn of(request: &Request) -> Self {
        let tls = request.extensions().get::<Arc<TlsInfo>>().cloned();
        Self::read(request.headers(), request.uri().query(), tls)
    }

    /// Reads what of a request may show somebody.
    pub fn read(headers: &HeaderMap, query: Option<&str>, tls: Option<Arc<TlsInfo>>) -> Self {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let (scheme, rest) = authorization.and_then(|value| value.split_once(' ')).unwrap_or_default();
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        let tls = tls.filter(|tls| !tls.peer_certificates.is_empty());
        let attempted = [
            (Scheme::Basic, scheme.eq_ignore_ascii_case("basic")),
            (Scheme::Bearer, is_bearer),
            (
                Scheme::AccessToken,
                super::request::parameter(query, "access_token").is_some_and(|t| !t.is_empty()),
            ),
            (Scheme::X509, tls.is_some()),
        ];
        let attempted = attempted.into_iter().filter_map(|(scheme, is_shown)| is_shown.then_some(scheme));
        let token = rest.trim();
        let is_token = is_bearer && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
        Self { bearer: is_token.then(|| token.to_owned()), tls, attempted: attempted.collect() }
    }
}

/// Says who a bearer token belongs to, where telling needs more than a table in memory.
#[async_trait::async_trait]
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// Who the token belongs to and until when that may be kept, in seconds since 1970; nothing when it is none of
    /// this source's, or not valid.
    async fn holder(&self, token: &str) -> Option<(UserInfo, i64)>;
}

/// Tells who requests come from.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    tokens: Tokens,
    sources: Sources,
    verified: Verified,
}

/// Where identities come from besides Muniment's own tokens.
#[derive(Debug, Default)]
pub struct Sources {
    /// Who may sign client certificates.
    pub certificates: Option<Followed<Authorities>>,
    /// Static tokens.
    pub token_file: Option<Followed<TokenFile>>,
    /// Signed tokens, in the order in which they are asked.
    pub signed: Vec<Arc<dyn TokenSource>>,
}

impl Authenticator {
    /// Knows the holders of Muniment's own tokens and those of the sources.
    pub fn new(tokens: Tokens, sources: Sources, clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, tokens, sources, verified: Verified::default() }))
    }

    /// Who a request comes from.
    ///
    /// # Errors
    /// When nobody is known by what it shows. Tell the caller no more than 401.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<UserInfo, Failure> {
        self.recognise(credentials).await.map(|(user, _)| user)
    }

    /// The same, with what showed it.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`].
    pub async fn recognise(&self, credentials: &Credentials) -> Result<(UserInfo, Scheme), Failure> {
        let by_certificate =
            credentials.tls.as_ref().and_then(|tls| self.by_certificate(&tls.peer_certificates));
        let known = match (by_certificate, &credentials.bearer) {
            (Some(user), _) => Some((user, Scheme::X509)),
            (None, Some(token)) => self.by_token(token).await.map(|user| (user, Scheme::Bearer)),
            (None, None) => None,
        };
        let (user, scheme) = known.ok_or_else(|| Failure { attempted: credentials.attempted.clone() })?;
        Ok((user.authenticated(), scheme))
    }

    fn by_certificate(&self, chain: &[Vec<u8>]) -> Option<UserInfo> {
        let authorities = self.0.sources.certificates.as_ref()?.current();
        let (now, fingerprint) = (self.0.clock.now(), authorities.fingerprint(chain));
        if let Some(user) = self.0.verified.get(&fingerprint, now) {
            return Some(user);
        }
        let (user, until) = authorities.holder(chain, now)?;
        self.0.verified.keep(fingerprint, &user, until, now);
        Some(user)
    }

    /// Who a bearer token belongs to, without the group of everybody who is known.
    pub async fn by_token(&self, token: &str) -> Option<UserInfo> {
        let from_file = self.0.sources.token_file.as_ref().and_then(|file| file.current().holder(token));
        if let Some(user) = from_file.or_else(|| self.own(token)) {
            return Some(user);
        }
        let (now, hash) = (self.0.clock.now(), Sha256::digest(token.as_bytes()).into());
        if let Some(user) = self.0.verified.get(&hash, now) {
            return Some(user);
        }
        for source in &self.0.sources.signed {
            if let Some((user, until)) = source.holder(token).await {
                self.0.verified.keep(hash, &user, until, now);
                return Some(user);
            }
        }
        None
    }

    /// Whoever holds a client token may do everything, as with the rest of this process.
    fn own(&self, token: &str) -> Option<UserInfo> {
        let token = self.0.tokens.check(token).filter(|token| token.scope == Scope::Client)?;
        Some(UserInfo {
            username: format!("muniment:token:{}", token.id),
            groups: vec![MASTERS.to_owned()],
            ..UserInfo::default()
        })
    }
}

#[cfg(test)]
mod tests;
