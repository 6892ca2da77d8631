//! Client certificates: the listener asks for one and takes any whose key its holder has; every request then asks
//! whether an authority of ours signed it.
//!
//! So a certificate of a stranger is answered and recorded as 401 like any other wrong credential and not a broken
//! connection, and both expiry and a changed file of authorities reach connections that are open already.

use std::{sync::Arc, time::Duration};

use ingest::time::Timestamp;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CREDENTIAL_ID;
use crate::gateway::user::UserInfo;

/// The attribute of a subject that carries the user's uid (Kubernetes' own).
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// The authorities that may sign client certificates.
#[derive(Debug)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Tells one reading of the file from the next.
    generation: [u8; 32],
}

impl Authorities {
    /// Reads one or more certificates in PEM.
    ///
    /// # Errors
    /// When there is none, or one of them is no authority's.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| format!("no PEM certificate: {e}"))?;
            roots.add(certificate).map_err(|e| format!("a certificate that cannot be used: {e}"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| "it holds no PEM certificate".to_owned())?;
        Ok(Self { verifier, generation: Sha256::digest(pem).into() })
    }

    /// What a chain is remembered by: another reading of the file remembers nothing of the former.
    pub fn fingerprint(&self, chain: &[Vec<u8>]) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.generation);
        for certificate in chain {
            hash.update((certificate.len() as u64).to_le_bytes());
            hash.update(certificate);
        }
        hash.finalize().into()
    }

    /// Whom the first certificate of a chain names and the second at which it ends, where one of the authorities
    /// signed it, perhaps by way of the others, and it is valid now.
    pub fn holder(&self, chain: &[Vec<u8>], now: Timestamp) -> Option<(UserInfo, i64)> {
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| der.as_slice().into()).collect();
        let (leaf, rest) = chain.split_first()?;
        let seconds = u64::try_from(now.micros() / 1_000_000).ok()?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.verifier.verify_client_cert(leaf, rest, now).ok()?;
        named(leaf)
    }
}

/// Whom a certificate names (`CN` the user, `O` the groups), and the second at which it ends.
fn named(der: &CertificateDer<'_>) -> Option<(UserInfo, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let username = subject.iter_common_name().last()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups: Result<Vec<_>, _> =
        subject.iter_organization().map(|o| o.as_str().map(str::to_owned)).collect();
    let credential = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
    let user = UserInfo {
        username: username.to_owned(),
        uid: uid(&certificate)?,
        groups: groups.ok()?,
        extra: [(CREDENTIAL_ID.to_owned(), vec![credential])].into(),
    };
    Some((user, certificate.validity().not_after.timestamp()))
}

/// The uid of the subject: empty where it has none, nothing where it has several or an unreadable one.
fn uid(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut uids = certificate
        .subject()
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == UID_ATTRIBUTE)
        .map(|attribute| attribute.as_str().ok().filter(|uid| !uid.is_empty()));
    match (uids.next(), uids.next()) {
        (None, _) => Some(String::new()),
        (Some(uid), None) => uid.map(str::to_owned),
        _ => None,
    }
}

/// What the listener asks clients with: a certificate may be shown, and its key must be its holder's. Whether it is
/// known to anybody is asked of [`Authorities`] with each request.
#[derive(Debug)]
pub struct AskForCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AskForCertificate {
    /// With the algorithms of a provider.
    pub fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { algorithms: provider.signature_verification_algorithms })
    }
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn client(authority: &Authority, usage: ExtendedKeyUsagePurpose, subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().to_vec()
    }

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    const ALICE: [(DnType, &str); 2] = [(DnType::CommonName, "alice"), (DnType::OrganizationName, "dev")];

    #[test]
    fn the_subject_is_the_user_and_its_groups() {
        let authority = authority();
        let known = Authorities::parse(authority.pem().as_bytes()).unwrap();
        let chain = [client(&authority, ExtendedKeyUsagePurpose::ClientAuth, &ALICE)];
        let (alice, end) = known.holder(&chain, now()).unwrap();
        assert_eq!((alice.username.as_str(), alice.groups.as_slice()), ("alice", &["dev".to_owned()][..]));
        assert!(alice.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(Timestamp::from_micros(end * 1_000_000), "2027-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn strangers_servers_and_the_expired_are_nobody() {
        let (ours, theirs) = (authority(), authority());
        let known = Authorities::parse(ours.pem().as_bytes()).unwrap();
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        assert_eq!(known.holder(&[client(&theirs, usage.clone(), &ALICE)], now()), None);
        assert_eq!(known.holder(&[client(&ours, ExtendedKeyUsagePurpose::ServerAuth, &ALICE)], now()), None);
        let chain = [client(&ours, usage.clone(), &ALICE)];
        for at in ["2025-12-31T00:00:00Z", "2027-01-02T00:00:00Z"] {
            assert_eq!(known.holder(&chain, at.parse().unwrap()), None, "{at}");
        }
        let nameless = [client(&ours, usage, &[(DnType::OrganizationName, "dev")])];
        assert_eq!(known.holder(&nameless, now()), None);
        assert_eq!(known.holder(&[b"no certificate".to_vec()], now()), None);
        assert_eq!(known.holder(&[], now()), None);
    }

    #[test]
    fn a_uid_in_the_subject_is_the_users() {
        let authority = authority();
        let known = Authorities::parse(authority.pem().as_bytes()).unwrap();
        let uid = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let subject = [(DnType::CommonName, "alice"), (uid, "u-1")];
        let (alice, _) = known.holder(&[client(&authority, usage, &subject)], now()).unwrap();
        assert_eq!(alice.uid, "u-1");
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        assert!(Authorities::parse(b"nothing").is_err());
    }
}
