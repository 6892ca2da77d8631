//! Service-account tokens as kube-apiserver 1.36 makes and checks them: signed, for an audience and a time, and gone
//! with the account or the object that they are bound to.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use ingest::time::{Clock, Timestamp};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::{
    CREDENTIAL_ID, TokenSource,
    followed::Followed,
    jwt::{Audience, Keys, Times, claimed_issuer},
    signing_key::SigningKey,
};
use crate::gateway::{
    impersonation::{account_groups, account_name},
    user::UserInfo,
};

mod issue;
mod stored;

pub use self::issue::{Bound, Issued, TokenSpec};

/// How long a deleted object still counts: what clocks may be apart.
const GRACE_MICROS: i64 = 60_000_000;

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::ES256, Algorithm::ES384];

/// The store is away.
#[derive(Debug, thiserror::Error)]
#[error("the object cannot be looked up: {0}")]
pub struct Unknown(pub String);

/// What there is of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its uid.
    pub uid: String,
    /// Since when it is being deleted.
    pub deleted_at: Option<Timestamp>,
}

/// Looks up what tokens are bound to.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync {
    /// The object of a core resource (`serviceaccounts`, `pods`, `secrets`, `nodes`); `namespace` is empty for nodes.
    ///
    /// # Errors
    /// When the store does not say.
    async fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Existing>, Unknown>;
}

/// An object that a token names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid; a node that does not exist has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

#[derive(Deserialize)]
struct Token {
    iss: String,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    jti: String,
    #[serde(default)]
    aud: Audience,
    #[serde(flatten)]
    times: Times,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Claims,
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Who it belongs to.
    pub user: UserInfo,
    /// The second at which it ends.
    pub end: i64,
    /// For whom it is, of those that were asked for.
    pub audiences: Vec<String>,
}

/// Makes and checks the tokens of one issuer.
#[derive(Debug)]
pub struct ServiceAccounts {
    issuer: String,
    audiences: Vec<String>,
    key: SigningKey,
    public: Keys,
    further: Vec<Followed<Keys>>,
    objects: Arc<dyn Objects>,
    clock: Clock,
}

impl ServiceAccounts {
    /// Tokens that `key` signs. Those of `further` keys, which may be the former ones, are accepted too. The API's
    /// audience is the issuer where `audiences` is empty.
    pub fn new(
        issuer: String,
        audiences: Vec<String>,
        key: SigningKey,
        further: Vec<Followed<Keys>>,
        objects: Arc<dyn Objects>,
        clock: Clock,
    ) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        let public = key.public();
        Self { issuer, audiences, key, public, further, objects, clock }
    }

    /// The audiences of the API.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Who a token belongs to that is for one of `audiences`.
    pub async fn check(&self, token: &str, audiences: &[String]) -> Option<Checked> {
        if claimed_issuer(token)? != self.issuer {
            return None;
        }
        let further = self.further.iter().map(Followed::current);
        let keys = further.fold(self.public.clone(), |keys, more| keys.and(&more));
        let token: Token = keys.verify(token, &ALGORITHMS).ok()?;
        let end = token.times.end(self.clock.now())?;
        let account = &token.kubernetes.serviceaccount;
        let username = account_name(&token.kubernetes.namespace, &account.name);
        if token.iss != self.issuer || token.sub != username || !token.aud.has_any(audiences) {
            return None;
        }
        match self.is_alive(&token.kubernetes).await {
            Ok(true) => {
                let audiences = audiences.iter().filter(|name| token.aud.has(name)).cloned().collect();
                Some(Checked { user: user(username, &token), end, audiences })
            }
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "a service-account token is refused");
                None
            }
        }
    }

    async fn is_alive(&self, claims: &Claims) -> Result<bool, Unknown> {
        let namespace = &claims.namespace;
        let node = claims.node.as_ref().filter(|_| claims.pod.is_none());
        let bound = [
            ("serviceaccounts", namespace.as_str(), Some(&claims.serviceaccount)),
            ("secrets", namespace, claims.secret.as_ref()),
            ("pods", namespace, claims.pod.as_ref()),
            ("nodes", "", node),
        ];
        for (resource, namespace, reference) in bound {
            let Some(reference) = reference else { continue };
            let found = self.objects.find(resource, namespace, &reference.name).await?;
            if !found.is_some_and(|found| self.counts(&found, reference)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn counts(&self, found: &Existing, reference: &Reference) -> bool {
        let since = Timestamp::from_micros(self.clock.now().micros().saturating_sub(GRACE_MICROS));
        found.uid == reference.uid && found.deleted_at.is_none_or(|at| at >= since)
    }
}

#[async_trait]
impl TokenSource for ServiceAccounts {
    async fn holder(&self, token: &str) -> Option<(UserInfo, i64)> {
        self.check(token, &self.audiences).await.map(|checked| (checked.user, checked.end))
    }
}

fn user(username: String, token: &Token) -> UserInfo {
    let claims = &token.kubernetes;
    let mut extra = std::collections::BTreeMap::new();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(key.to_owned(), vec![value.to_owned()]);
        }
    };
    if !token.jti.is_empty() {
        add(CREDENTIAL_ID, &format!("JTI={}", token.jti));
    }
    if let Some(pod) = &claims.pod {
        add("authentication.kubernetes.io/pod-name", &pod.name);
        add("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &claims.node {
        add("authentication.kubernetes.io/node-name", &node.name);
        add("authentication.kubernetes.io/node-uid", &node.uid);
    }
    let groups = account_groups(&claims.namespace);
    UserInfo { username, uid: claims.serviceaccount.uid.clone(), groups, extra }
}

#[cfg(test)]
mod tests;
