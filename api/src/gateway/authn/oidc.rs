//! ID tokens of an identity provider (OpenID Connect), by kube-apiserver's `--oidc-*` settings.
//!
//! Distributed claims are not followed: a group that the token does not carry is not known.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ingest::time::Clock;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    TokenSource,
    followed::Followed,
    jwt::{Audience, Keys, Times, Unverified, claimed_issuer},
};
use crate::gateway::user::UserInfo;

mod discovery;

pub use self::discovery::Discovery;

/// How an issuer's tokens are read.
#[derive(Clone, Debug)]
pub struct OidcOptions {
    /// The issuer, exactly as tokens name it. Begins with `https://`.
    pub issuer: String,
    /// The audience that a token must have.
    pub client_id: String,
    /// The claim that is the user name.
    pub username_claim: String,
    /// What stands before user names; `-` for nothing. By default the issuer and `#`, but nothing before an address
    /// of mail.
    pub username_prefix: Option<String>,
    /// The claim that is the groups, one or a list.
    pub groups_claim: Option<String>,
    /// What stands before groups.
    pub groups_prefix: String,
    /// Claims that a token must have, with these values.
    pub required_claims: BTreeMap<String, String>,
    /// The signatures that count, such as `RS256`.
    pub algorithms: Vec<String>,
}

/// Settings that go together with nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// Whoever stands between could sign for everybody.
    #[error("the issuer {0:?} does not begin with https://")]
    NotHttps(String),
    /// No algorithm, or one of a shared secret.
    #[error(
        "{0:?} is no algorithm for signatures: expected RS256, RS384, RS512, ES256, ES384, PS256, PS384 or PS512"
    )]
    Algorithm(String),
    /// Tokens of other applications would count.
    #[error("the client id is missing")]
    NoClient,
    /// The authorities cannot be used, or TLS not set up.
    #[error("the issuer cannot be asked: {0}")]
    Tls(String),
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// A file.
    File(Followed<Keys>),
    /// The issuer itself.
    Issuer(Discovery),
}

/// Knows the holders of one issuer's ID tokens.
#[derive(Debug)]
pub struct Oidc {
    options: OidcOptions,
    algorithms: Vec<Algorithm>,
    prefix: String,
    keys: KeySource,
    clock: Clock,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    aud: Audience,
    #[serde(flatten)]
    times: Times,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Oidc {
    /// Reads the tokens of an issuer.
    ///
    /// # Errors
    /// When the options do not go together.
    pub fn new(options: OidcOptions, keys: KeySource, clock: Clock) -> Result<Self, OidcError> {
        if !options.issuer.starts_with("https://") {
            return Err(OidcError::NotHttps(options.issuer));
        }
        if options.client_id.is_empty() {
            return Err(OidcError::NoClient);
        }
        let algorithms: Result<Vec<_>, _> = options.algorithms.iter().map(|name| algorithm(name)).collect();
        let prefix = match options.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) if !prefix.is_empty() => prefix.to_owned(),
            _ if options.username_claim == "email" => String::new(),
            _ => format!("{}#", options.issuer),
        };
        Ok(Self { algorithms: algorithms?, prefix, options, keys, clock })
    }

    async fn verify(&self, token: &str) -> Option<Claims> {
        let discovery = match &self.keys {
            KeySource::File(file) => return file.current().verify(token, &self.algorithms).ok(),
            KeySource::Issuer(discovery) => discovery,
        };
        let known = discovery.known();
        match known.keys.verify(token, &self.algorithms) {
            Ok(claims) => Some(claims),
            Err(Unverified::Bad) => None,
            Err(Unverified::UnknownKey) => {
                let newer = discovery.newer_than(&known).await?;
                newer.keys.verify(token, &self.algorithms).ok()
            }
        }
    }

    fn user(&self, claims: &Map<String, Value>) -> Option<UserInfo> {
        let username = claims.get(&self.options.username_claim)?.as_str().filter(|name| !name.is_empty())?;
        if self.options.username_claim == "email"
            && claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true))
        {
            return None;
        }
        let has =
            |(claim, value): (&String, &String)| claims.get(claim).and_then(Value::as_str) == Some(value);
        if !self.options.required_claims.iter().all(has) {
            return None;
        }
        let groups = self.options.groups_claim.as_ref().and_then(|claim| claims.get(claim));
        let groups = names(groups)?.into_iter().map(|group| format!("{}{group}", self.options.groups_prefix));
        let mut extra = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Value::as_str) {
            extra.insert(super::CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        let username = format!("{}{username}", self.prefix);
        Some(UserInfo { username, groups: groups.collect(), extra, ..UserInfo::default() })
    }
}

#[async_trait]
impl TokenSource for Oidc {
    async fn holder(&self, token: &str) -> Option<(UserInfo, i64)> {
        // Only for tokens that claim to be this issuer's are keys fetched.
        if claimed_issuer(token)? != self.options.issuer {
            return None;
        }
        let claims = self.verify(token).await?;
        let end = claims.times.end(self.clock.now())?;
        let is_ours = claims.iss == self.options.issuer
            && claims.aud.has_any(std::slice::from_ref(&self.options.client_id));
        let user = self.user(&claims.rest).filter(|_| is_ours)?;
        Some((user, end))
    }
}

fn algorithm(name: &str) -> Result<Algorithm, OidcError> {
    let parsed = name.parse().ok().filter(|algorithm| {
        !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 | Algorithm::EdDSA)
    });
    parsed.ok_or_else(|| OidcError::Algorithm(name.to_owned()))
}

/// One name or a list of them; nothing where it is anything else, as upstream refuses such a token.
fn names(claim: Option<&Value>) -> Option<Vec<&str>> {
    match claim {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one]),
        Some(Value::Array(many)) => many.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
