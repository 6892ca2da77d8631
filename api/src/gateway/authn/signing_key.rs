//! The key that service-account tokens are signed with: an operator's, or one of the data folder.

use std::{fmt, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    followed::FileError,
    jwt::{Key, Keys},
};
use crate::tokens::write_private;

/// A private key, RSA (RS256) or of the curve P-256 (ES256).
pub struct SigningKey {
    pair: Pair,
    id: String,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// The system gives no signature.
#[derive(Debug, thiserror::Error)]
#[error("a token cannot be signed")]
pub struct SignError;

impl SigningKey {
    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// When there is none, or one of a kind that is not used.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| format!("no private key in PEM: {e}"))?;
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Pair::Rsa),
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()).ok().map(Pair::Ec)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(Pair::Rsa);
                EcdsaKeyPair::from_pkcs8(curve, der).ok().map(Pair::Ec).or_else(rsa)
            }
            _ => None,
        };
        let pair = pair.ok_or("expected an RSA key of at least 2048 bits, or one of the curve P-256")?;
        let public: Result<PublicKeyX509Der<'_>, _> = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
        };
        let public = public.map_err(|_| "its public key cannot be told")?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public.as_ref()));
        Ok(Self { pair, id })
    }

    /// Reads the key in `path`; makes one for the curve P-256, for its owner alone, where there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, written or used.
    pub fn own(path: &Path) -> Result<Self, FileError> {
        let wrong = |source| FileError::Read { path: path.to_owned(), source };
        let bad = |why| FileError::Bad { path: path.to_owned(), why };
        if !path.try_exists().map_err(wrong)? {
            let made = rcgen::KeyPair::generate().map_err(|e| bad(e.to_string()))?;
            write_private(path, made.serialize_pem().as_bytes()).map_err(wrong)?;
        }
        Self::parse(&std::fs::read(path).map_err(wrong)?).map_err(bad)
    }

    /// A token that claims this.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let header = json!({"alg": self.algorithm(), "kid": self.id});
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|json| URL_SAFE_NO_PAD.encode(json)).ok();
        let header = part(serde_json::to_vec(&header)).ok_or(SignError)?;
        let claims = part(serde_json::to_vec(claims)).ok_or(SignError)?;
        let message = format!("{header}.{claims}");
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => {
                pair.sign(&random, message.as_bytes()).map_err(|_| SignError)?.as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
                    .map_err(|_| SignError)?;
                signature
            }
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::RS256,
            Pair::Ec(_) => Algorithm::ES256,
        }
    }

    /// What its tokens are verified with.
    pub fn public(&self) -> Keys {
        let key = match &self.pair {
            Pair::Rsa(pair) => DecodingKey::from_rsa_der(pair.public_key().as_ref()),
            Pair::Ec(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
        };
        Keys::new(vec![Key::new(Some(self.id.clone()), &[self.algorithm()], key)])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_its_tokens_verify() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = SigningKey::own(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::own(&path).unwrap().id, key.id);
        let token = key.sign(&json!({"sub": "x"})).unwrap();
        let claims: Value = key.public().verify(&token, &[Algorithm::ES256]).unwrap();
        assert_eq!(claims["sub"], "x");
        let other = SigningKey::own(&folder.path().join("other")).unwrap();
        assert!(other.public().verify::<Value>(&token, &[Algorithm::ES256]).is_err());
        assert!(key.public().verify::<Value>(&token, &[Algorithm::RS256]).is_err());
        let (message, signature) = token.rsplit_once('.').unwrap();
        for forged in [
            format!("{message}."),
            format!("{message}.{}", &signature[..80]),
            token.replacen("ey", "ez", 1),
            String::new(),
        ] {
            assert!(key.public().verify::<Value>(&forged, &[Algorithm::ES256]).is_err(), "{forged}");
        }
    }

    #[test]
    fn an_rsa_key_signs_as_well() {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = SigningKey::parse(pem.as_bytes()).unwrap();
        let token = key.sign(&json!({"sub": "x"})).unwrap();
        assert!(key.public().verify::<Value>(&token, &[Algorithm::RS256]).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(SigningKey::parse(b"nothing").is_err());
    }
}
