//! Signed tokens (JWS in its compact form): keys, signatures and the claims that every issuer has.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ingest::time::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// How far the clocks of two machines may be apart (upstream's value for service accounts).
const SKEW_SECONDS: i64 = 60;

/// How many keys of one issuer are looked at: each may cost a verification of a bad token.
const MAX_KEYS: usize = 64;

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const EC: [Algorithm; 2] = [Algorithm::ES256, Algorithm::ES384];

/// A key that signatures are checked with. Never a shared secret.
#[derive(Clone, Debug)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// A key for these algorithms.
    pub(super) fn new(id: Option<String>, algorithms: &[Algorithm], key: DecodingKey) -> Self {
        Self { id, algorithms: algorithms.to_vec(), key }
    }

    /// A key of a set; nothing where it is of a kind that is not used here, or not for signatures.
    fn from_jwk(value: Value) -> Option<Self> {
        if value.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let named = value.get("alg").and_then(Value::as_str).map(str::parse::<Algorithm>);
        let family: &[Algorithm] = match value.get("kty")?.as_str()? {
            "RSA" => &RSA,
            "EC" => &EC,
            _ => return None,
        };
        let algorithms = match named {
            Some(Ok(algorithm)) if family.contains(&algorithm) => vec![algorithm],
            Some(_) => return None,
            None => family.to_vec(),
        };
        let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        Some(Self { id, algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
    }

    fn from_pem(pem: &str) -> Option<Self> {
        let rsa = DecodingKey::from_rsa_pem(pem.as_bytes()).map(|key| Self::new(None, &RSA, key));
        rsa.or_else(|_| DecodingKey::from_ec_pem(pem.as_bytes()).map(|key| Self::new(None, &EC, key))).ok()
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// These keys.
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Reads a JWK set (RFC 7517). Keys of other kinds are passed over.
    ///
    /// # Errors
    /// When it is none, or has no key that can be used.
    pub fn from_jwks(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|e| format!("no JWK set: {e}"))?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::from_jwk).take(MAX_KEYS).collect();
        if keys.is_empty() { Err("the JWK set has no key for signatures".to_owned()) } else { Ok(Self(keys)) }
    }

    /// Reads one or more public keys in PEM.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN ";
        let text = std::str::from_utf8(pem).map_err(|_| "no PEM".to_owned())?;
        let blocks = text.split(BEGIN).skip(1).take(MAX_KEYS).map(|block| format!("{BEGIN}{block}"));
        let keys: Option<Vec<Key>> = blocks.map(|block| Key::from_pem(&block)).collect();
        keys.filter(|keys| !keys.is_empty())
            .map(Self)
            .ok_or_else(|| "expected public keys in PEM, RSA or of the curves P-256 and P-384".to_owned())
    }

    /// All of these and those.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.iter().cloned());
        self
    }

    /// What a token claims, where one of the keys signed it with one of the algorithms. Times are not looked at.
    pub fn verify<T: DeserializeOwned>(&self, token: &str, allowed: &[Algorithm]) -> Result<T, Unverified> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Unverified::Bad)?;
        if !allowed.contains(&header.alg) {
            return Err(Unverified::Bad);
        }
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let mut outcome = Unverified::UnknownKey;
        for key in self.0.iter().filter(|key| key.algorithms.contains(&header.alg)) {
            match (&key.id, &header.kid) {
                (Some(ours), Some(theirs)) if ours != theirs => continue,
                (Some(_), Some(_)) => outcome = Unverified::Bad,
                _ => {}
            }
            if let Ok(verified) = jsonwebtoken::decode(token, &key.key, &validation) {
                return Ok(verified.claims);
            }
        }
        Err(outcome)
    }
}

/// Why a token was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverified {
    /// It is malformed, or its signature is wrong.
    Bad,
    /// Its key is none of these: the issuer may have a newer one.
    UnknownKey,
}

/// The issuer that a token names, which nothing has verified yet.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Issuer>(&payload).ok().map(|claims| claims.iss)
}

/// For whom a token is: one name or several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// For nobody in particular.
    #[default]
    Nobody,
    /// For one.
    One(String),
    /// For several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether one of `names` is meant.
    pub fn has_any(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// Whether somebody is meant.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// From when until when a token is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Times {
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

impl Times {
    /// The second at which a token ends that is valid now, give or take what clocks are apart. One that never ends is
    /// not valid.
    pub fn end(&self, now: Timestamp) -> Option<i64> {
        let now = now.micros().div_euclid(1_000_000);
        let is_past = |second: Option<f64>| second.is_none_or(|second| second as i64 <= now + SKEW_SECONDS);
        let end = (self.exp? as i64).saturating_add(SKEW_SECONDS);
        (now < end && is_past(self.nbf) && is_past(self.iat)).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(json: &str) -> Times {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_token_is_valid_between_its_times_give_or_take_a_minute() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        assert_eq!(times(r#"{"exp":100}"#).end(at(159)), Some(160));
        assert_eq!(times(r#"{"exp":100}"#).end(at(160)), None);
        assert_eq!(times(r#"{"exp":1000.5,"nbf":200}"#).end(at(139)), None);
        assert_eq!(times(r#"{"exp":1000.5,"nbf":200,"iat":200}"#).end(at(140)), Some(1060));
        assert_eq!(times(r#"{"exp":1000,"iat":200}"#).end(at(100)), None);
        assert_eq!(times("{}").end(at(0)), None, "a token without an end");
    }

    #[test]
    fn shared_secrets_and_keys_for_encryption_are_passed_over() {
        let keys = |text: &str| Keys::from_jwks(text.as_bytes()).map(|keys| keys.0.len());
        assert!(keys(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}"#).is_err());
        assert!(keys(r#"{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}"#).is_err());
        assert!(keys(r#"{"keys":[{"kty":"RSA","alg":"HS256","n":"AQAB","e":"AQAB"}]}"#).is_err());
        assert!(keys("[]").is_err() && Keys::from_pem(b"nothing").is_err());
    }

    #[test]
    fn an_audience_is_one_or_many() {
        let of = |json: &str| serde_json::from_str::<Audience>(json).unwrap();
        let ours = ["a".to_owned()];
        assert!(of(r#""a""#).has_any(&ours) && of(r#"["b","a"]"#).has_any(&ours));
        assert!(!of(r#""b""#).has_any(&ours) && !of("[]").has_any(&ours) && !of("null").has_any(&ours));
    }
}
