//! Making a service-account token, for the subresource `token`.

use ingest::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Claims, Reference, ServiceAccounts};
use crate::gateway::{
    authn::signing_key::SignError,
    impersonation::account_name,
    status::{Cause, Qualified, Status},
};

/// What a token lasts when nothing is said.
const DEFAULT_SECONDS: i64 = 3_600;

/// The shortest and the longest that may be asked for (upstream's).
const SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// What a token is bound to besides its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A Pod, and the node that it is on.
    Pod(Reference, Option<Reference>),
    /// A Secret.
    Secret(Reference),
    /// A Node.
    Node(Reference),
}

/// What is asked for in a `TokenRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSpec {
    /// For whom it is; for the API where nothing is said.
    pub audiences: Vec<String>,
    /// How long it lasts.
    pub expiration_seconds: Option<i64>,
    /// What it is bound to.
    pub bound: Option<Bound>,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token itself: for its holder alone.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
    /// What audit events name it by, as the annotation `authentication.kubernetes.io/issued-credential-id`.
    pub credential_id: String,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// How long it lasts.
    pub expiration_seconds: i64,
}

#[derive(Serialize)]
struct Signed<'a> {
    aud: &'a [String],
    exp: i64,
    iat: i64,
    iss: &'a str,
    jti: &'a str,
    #[serde(rename = "kubernetes.io")]
    kubernetes: &'a Claims,
    nbf: i64,
    sub: &'a str,
}

impl ServiceAccounts {
    /// Makes a token for an account that exists. The caller has looked up the account and what the token is bound to.
    ///
    /// # Errors
    /// 422 for a time that may not be asked for, 500 when nothing can be signed.
    pub fn issue(&self, namespace: &str, account: Reference, spec: TokenSpec) -> Result<Issued, Status> {
        let expiration_seconds = spec.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        if !SECONDS.contains(&expiration_seconds) {
            return Err(out_of_range(expiration_seconds));
        }
        let audiences = if spec.audiences.is_empty() { self.audiences.clone() } else { spec.audiences };
        let subject = account_name(namespace, &account.name);
        let mut claims = Claims {
            namespace: namespace.to_owned(),
            serviceaccount: account,
            pod: None,
            secret: None,
            node: None,
        };
        match spec.bound {
            Some(Bound::Pod(pod, node)) => (claims.pod, claims.node) = (Some(pod), node),
            Some(Bound::Secret(secret)) => claims.secret = Some(secret),
            Some(Bound::Node(node)) => claims.node = Some(node),
            None => {}
        }
        let (id, now) = (Uuid::new_v4().to_string(), self.clock.now().micros().div_euclid(1_000_000));
        let end = now + expiration_seconds;
        let signed = Signed {
            aud: &audiences,
            exp: end,
            iat: now,
            iss: &self.issuer,
            jti: &id,
            kubernetes: &claims,
            nbf: now,
            sub: &subject,
        };
        let token = self.key.sign(&signed).map_err(|error: SignError| Status::internal(error))?;
        Ok(Issued {
            token,
            expires: Timestamp::from_micros(end * 1_000_000),
            credential_id: format!("JTI={id}"),
            audiences,
            expiration_seconds,
        })
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({}, until {})", self.credential_id, self.expires)
    }
}

fn out_of_range(seconds: i64) -> Status {
    let why = if seconds < *SECONDS.start() {
        "may not specify a duration less than 10 minutes"
    } else {
        "may not specify a duration larger than 2^32 seconds"
    };
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {seconds}: {why}"),
        field: "spec.expirationSeconds".to_owned(),
    };
    Status::invalid(Qualified { group: "authentication.k8s.io", name: "TokenRequest" }, "", vec![cause])
}
