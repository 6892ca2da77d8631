//! The listener's certificate: an own authority made at the first start, or files that an operator gives.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ingest::time::{Clock, Day};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

use crate::gateway::authn::certificate::AskForCertificate;

/// How long the authority is valid: clients pin its file, so it outlives every certificate that it signs.
const AUTHORITY_DAYS: i32 = 3_650;

/// How long one start's certificate is valid. Some clients refuse more than 825 days.
const CERTIFICATE_DAYS: i32 = 820;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no PEM {what}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// What the reader says.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not go together, or are of a kind that is not served.
    #[error("the certificate and its key cannot be served")]
    Refused(#[from] rustls::Error),
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They are not.
    Anonymous,
    /// They are, and need not have one. Who has signed it is asked later, see [`AskForCertificate`].
    MayShowCertificate,
}

/// A certificate chain and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads an operator's certificate chain and private key.
    ///
    /// # Errors
    /// When a file does not read or does not hold PEM of its kind.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |path: &Path, what, source| TlsError::Pem { path: path.to_owned(), what, source };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| {
                if chain.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(chain) }
            })
            .map_err(|e| pem(certificate, "certificate", e))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| pem(key, "private key", e))?;
        Ok(Self { chain, key })
    }

    /// Signs a certificate for `names` (DNS names and addresses) with the data folder's own authority.
    ///
    /// The authority (`ca.pem`, and `tls/ca.key` with mode 0600) is made when it is missing; the certificate
    /// is made anew at every start and never stored.
    ///
    /// # Errors
    /// When the files cannot be read or written, or a name is no name.
    pub fn self_signed(data: &Path, names: Vec<String>, clock: &Clock) -> Result<Self, TlsError> {
        let today = clock.now().day();
        let authority = Issuer::new(authority(today), authority_key(data, today)?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("muniment");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity(&mut params, today, CERTIFICATE_DAYS);
        let certificate = params.signed_by(&key, &authority)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(Self { chain: vec![certificate.der().clone()], key })
    }

    /// What the listener serves with: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When certificate and key do not go together.
    pub fn server_config(self, clients: Clients) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::MayShowCertificate => {
                builder.with_client_cert_verifier(AskForCertificate::new(&provider))
            }
        };
        let mut config = builder.with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Where the authority's certificate is, for clients.
pub fn authority_file(data: &Path) -> PathBuf {
    data.join("ca.pem")
}

fn authority(today: Day) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("muniment local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, today, AUTHORITY_DAYS);
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From yesterday, so that a client whose clock is behind takes it.
fn validity(params: &mut CertificateParams, today: Day, days: i32) {
    let midnight = |day: Day| {
        let since_epoch = Duration::from_secs(u64::from(day.number().unsigned_abs()) * 86_400);
        rcgen::date_time_ymd(1970, 1, 1) + since_epoch
    };
    params.not_before = midnight(today.plus(-1));
    params.not_after = midnight(today.plus(days));
}

/// Reads the authority's key, or makes authority and key. Both files are replaced together.
fn authority_key(data: &Path, today: Day) -> Result<KeyPair, TlsError> {
    let (certificate, key) = (authority_file(data), data.join("tls/ca.key"));
    if certificate.exists() && key.exists() {
        let pem = read(&key)?;
        return Ok(KeyPair::from_pem(&String::from_utf8_lossy(&pem))?);
    }
    let pair = KeyPair::generate()?;
    let folder = data.join("tls");
    fs::create_dir_all(&folder).map_err(|source| TlsError::File { path: folder, source })?;
    write(&key, 0o600, &pair.serialize_pem())?;
    write(&certificate, 0o644, &authority(today).self_signed(&pair)?.pem())?;
    Ok(pair)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), TlsError> {
    let written = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })();
    written.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn clock() -> Clock {
        Clock::from_fn(|| "2026-11-24T05:00:00Z".parse().unwrap())
    }

    fn names() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let data = tempfile::tempdir().unwrap();
        Identity::self_signed(data.path(), names(), &clock())
            .unwrap()
            .server_config(Clients::Anonymous)
            .unwrap();
        let first = fs::read(authority_file(data.path())).unwrap();
        Identity::self_signed(data.path(), names(), &clock())
            .unwrap()
            .server_config(Clients::Anonymous)
            .unwrap();
        assert_eq!(fs::read(authority_file(data.path())).unwrap(), first);
        let mode = fs::metadata(data.path().join("tls/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("server.pem");
        fs::write(&path, "nothing").unwrap();
        let Err(error) = Identity::from_files(&path, &path) else { panic!("no certificate was accepted") };
        assert!(error.to_string().contains("server.pem holds no PEM certificate"), "{error}");
    }
}
