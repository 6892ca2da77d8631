//! How to reach etcd.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use zeroize::Zeroizing;

use crate::gateway::store::StoreError;

/// How long a call may take until etcd counts as away. A call on a working etcd takes a millisecond; a new leader is
/// there within two seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A server that does not take a connection in this time is passed over for another.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a connection is tried, and how long the answer may take. etcd closes connections that try more often than
/// every five seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// Where etcd is and how to be let in.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Addresses of the members of one cluster, `http://host:2379` or `https://…`; calls go to those that answer.
    pub servers: Vec<String>,
    /// What stands before every key, as in kube-apiserver's `--etcd-prefix`.
    pub prefix: String,
    /// The authority, PEM, that signed the servers' certificates. `https` needs it.
    pub ca_file: Option<PathBuf>,
    /// The certificate, PEM, that tells etcd who we are; with [`Self::key_file`].
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub key_file: Option<PathBuf>,
    /// A user of etcd's own authentication. It needs to read and write all keys under the prefix.
    pub user: Option<EtcdUser>,
    /// How long a call may take: then [`StoreError::Unavailable`]. A write whose answer was lost may take twice that.
    pub timeout: Duration,
}

/// A user of etcd's own authentication.
#[derive(Clone)]
pub struct EtcdUser {
    /// Who.
    pub name: String,
    /// Kept out of every text.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            prefix: "/registry".to_owned(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            user: None,
            timeout: TIMEOUT,
        }
    }
}

/// Why there is no connection to etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdOpenError {
    /// No server was named.
    #[error("no etcd server is named")]
    NoServer,
    /// Mixed or incomplete TLS options.
    #[error("{0}")]
    Tls(&'static str),
    /// A file of the options.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// etcd does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EtcdOpenError {
    /// Whether trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable(_)))
    }
}

impl EtcdOptions {
    pub(super) async fn connect(&self) -> Result<ConnectOptions, EtcdOpenError> {
        if self.servers.is_empty() {
            return Err(EtcdOpenError::NoServer);
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_require_leader(true);
        if let Some(user) = &self.user {
            options = options.with_user(&user.name, user.password.as_str()).with_auto_token_refresh(true);
        }
        if let Some(tls) = self.tls().await? {
            options = options.with_tls(tls);
        }
        Ok(options)
    }

    async fn tls(&self) -> Result<Option<TlsOptions>, EtcdOpenError> {
        let secure = self.servers.iter().filter(|server| server.starts_with("https://")).count();
        if secure == 0 && self.ca_file.is_none() && self.cert_file.is_none() && self.key_file.is_none() {
            return Ok(None);
        }
        if secure != self.servers.len() {
            return Err(EtcdOpenError::Tls(
                "every etcd server needs https:// when certificates are given for one",
            ));
        }
        let Some(ca) = &self.ca_file else {
            return Err(EtcdOpenError::Tls(
                "etcd over https needs the authority's certificate (--etcd-cafile)",
            ));
        };
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(pem(ca).await?));
        tls = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => tls.identity(Identity::from_pem(pem(cert).await?, pem(key).await?)),
            (None, None) => tls,
            _ => {
                return Err(EtcdOpenError::Tls(
                    "a client certificate for etcd needs its key (--etcd-certfile and --etcd-keyfile)",
                ));
            }
        };
        Ok(Some(tls))
    }
}

async fn pem(path: &Path) -> Result<Vec<u8>, EtcdOpenError> {
    tokio::fs::read(path).await.map_err(|source| EtcdOpenError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(options: EtcdOptions) -> String {
        options.connect().await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn options_that_would_be_half_secure_are_refused() {
        let http = || vec!["http://a:2379".to_owned()];
        let https = || vec!["https://a:2379".to_owned()];
        let file = || Some(PathBuf::from("/nowhere.pem"));
        let none = EtcdOptions::default;
        assert!(refused(none()).await.contains("no etcd server"));
        assert!(refused(EtcdOptions { servers: https(), ..none() }).await.contains("--etcd-cafile"));
        assert!(
            refused(EtcdOptions { servers: http(), ca_file: file(), ..none() }).await.contains("https://")
        );
        let mixed = [http(), https()].concat();
        assert!(
            refused(EtcdOptions { servers: mixed, ca_file: file(), ..none() }).await.contains("https://")
        );
        let missing = EtcdOptions { servers: https(), ca_file: file(), ..none() };
        assert!(refused(missing).await.contains("/nowhere.pem"));
        assert!(EtcdOptions { servers: http(), ..none() }.connect().await.is_ok());
    }

    #[test]
    fn a_password_is_in_no_text() {
        let user = EtcdUser { name: "root".into(), password: Zeroizing::new("s3cret".into()) };
        let text = format!("{:?}", EtcdOptions { user: Some(user), ..EtcdOptions::default() });
        assert!(text.contains("root") && !text.contains("s3cret"));
    }
}
