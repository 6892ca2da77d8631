//! Where a webhook is and how to come in, as a kubeconfig says: strictly read, for one endpoint.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use manifest::{Form, Refused, Violation};
use reqwest::{Certificate, Client, Identity, RequestBuilder, Url, redirect};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

/// The largest file. It holds a few certificates at most.
const MAX_BYTES: usize = 1024 * 1024;

const FORM: Form = Form {
    what: "kubeconfig",
    kinds: &[("v1", "Config")],
    max_bytes: MAX_BYTES,
    places: &[],
    confidential: true,
};

/// Why a kubeconfig gives no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The kubeconfig, or a file that it names.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kubeconfig says something that cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Refused {
        /// The kubeconfig.
        path: PathBuf,
        /// Each field that is wrong.
        #[source]
        source: Refused,
    },
}

/// Somebody who is called over HTTP. `Debug` shows no credentials.
pub struct Endpoint {
    url: Url,
    http: Client,
    login: Login,
}

/// How to come in, besides by a client certificate.
enum Login {
    Nobody,
    Token(Zeroizing<String>),
    /// Read at each call: tokens in files are replaced while somebody uses them.
    TokenFile(PathBuf),
    Password(String, Zeroizing<String>),
}

impl Endpoint {
    /// Reads the cluster and the user of the current context. Files that they name are sought from the kubeconfig's
    /// folder on. One call may take `timeout`.
    ///
    /// # Errors
    /// With the file, or with every field that cannot be used.
    pub fn load(path: &Path, timeout: Duration) -> Result<Self, KubeconfigError> {
        let refused = |source| KubeconfigError::Refused { path: path.to_owned(), source };
        let bytes = Zeroizing::new(read(path)?);
        let text: ConfigText = manifest::read(&FORM, &bytes).map_err(refused)?;
        let mut check = Check { folder: path.parent().unwrap_or(Path::new(".")), violations: Vec::new() };
        let endpoint = check.endpoint(&text, timeout)?;
        endpoint.ok_or_else(|| refused(Refused::Invalid(check.violations)))
    }

    /// A POST to it, with its credentials.
    ///
    /// # Errors
    /// When the file of its token cannot be read.
    pub(crate) fn post(&self) -> io::Result<RequestBuilder> {
        let request = self.http.post(self.url.clone());
        Ok(match &self.login {
            Login::Nobody => request,
            Login::Token(token) => request.bearer_auth(&**token),
            Login::TokenFile(file) => request.bearer_auth(Zeroizing::new(fs::read_to_string(file)?).trim()),
            Login::Password(user, password) => request.basic_auth(user, Some(&**password)),
        })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    fs::read(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })
}

/// A kubeconfig as it is written. What it may say besides is not supported, and told by name.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ConfigText {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "preferences")]
    _preferences: Option<IgnoredAny>,
    #[serde(rename = "extensions")]
    _extensions: Option<IgnoredAny>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCluster {
    name: String,
    cluster: ClusterText,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ClusterText {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<IgnoredAny>,
    proxy_url: Option<IgnoredAny>,
    #[serde(rename = "disable-compression")]
    _disable_compression: Option<IgnoredAny>,
    #[serde(rename = "extensions")]
    _extensions: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedUser {
    name: String,
    user: Option<UserText>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct UserText {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    act_as: Option<IgnoredAny>,
    as_uid: Option<IgnoredAny>,
    as_groups: Option<IgnoredAny>,
    as_user_extra: Option<IgnoredAny>,
    #[serde(rename = "extensions")]
    _extensions: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedContext {
    name: String,
    context: ContextText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextText {
    cluster: String,
    user: Option<String>,
    #[serde(rename = "namespace")]
    _namespace: Option<IgnoredAny>,
    #[serde(rename = "extensions")]
    _extensions: Option<IgnoredAny>,
}

/// Collects what is wrong.
struct Check<'p> {
    folder: &'p Path,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn violated(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation { path: path.into(), message: message.into() });
    }

    /// The endpoint; nothing where something is wrong.
    fn endpoint(
        &mut self,
        text: &ConfigText,
        timeout: Duration,
    ) -> Result<Option<Endpoint>, KubeconfigError> {
        let Some((cluster, user)) = self.current(text) else { return Ok(None) };
        let url = self.url(&cluster);
        let mut builder = Client::builder()
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent("muniment");
        builder = self.authority(&cluster, builder)?;
        let login = match user {
            Some((path, user)) => {
                if let Some(identity) = self.identity(&path, user)? {
                    builder = builder.identity(identity);
                }
                self.login(&path, user)?
            }
            None => Login::Nobody,
        };
        let http = match builder.build() {
            Ok(http) => http,
            Err(error) => {
                self.violated(&*cluster.path, format!("TLS cannot be set up: {}", error.without_url()));
                return Ok(None);
            }
        };
        Ok(url.filter(|_| self.violations.is_empty()).map(|url| Endpoint { url, http, login }))
    }

    /// What the current context names.
    fn current<'t>(&mut self, text: &'t ConfigText) -> Option<(Cluster<'t>, Option<(String, &'t UserText)>)> {
        let Some(current) = text.current_context.as_deref().filter(|name| !name.is_empty()) else {
            self.violated("current-context", "required: the name of a context");
            return None;
        };
        let mut contexts = text.contexts.iter().flatten().enumerate();
        let Some((n, named)) = contexts.find(|(_, named)| named.name == current) else {
            self.violated("current-context", format!("there is no context {current:?}"));
            return None;
        };
        let context = &named.context;
        let path = format!("contexts[{n}].context");
        let mut clusters = text.clusters.iter().flatten().enumerate();
        let Some((n, named)) = clusters.find(|(_, named)| named.name == context.cluster) else {
            self.violated(format!("{path}.cluster"), format!("there is no cluster {:?}", context.cluster));
            return None;
        };
        let cluster = Cluster { path: format!("clusters[{n}].cluster"), text: &named.cluster };
        let Some(name) = context.user.as_deref().filter(|name| !name.is_empty()) else {
            return Some((cluster, None));
        };
        let mut users = text.users.iter().flatten().enumerate();
        let Some((n, named)) = users.find(|(_, named)| named.name == name) else {
            self.violated(format!("{path}.user"), format!("there is no user {name:?}"));
            return None;
        };
        Some((cluster, named.user.as_ref().map(|user| (format!("users[{n}].user"), user))))
    }

    fn url(&mut self, cluster: &Cluster<'_>) -> Option<Url> {
        let path = format!("{}.server", cluster.path);
        let Some(server) = cluster.text.server.as_deref().filter(|server| !server.is_empty()) else {
            self.violated(path, "required: the URL to post to");
            return None;
        };
        match server.parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
            _ => {
                self.violated(path, "not a URL that begins with https:// or http://");
                None
            }
        }
    }

    fn authority(
        &mut self,
        Cluster { path, text }: &Cluster<'_>,
        builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, KubeconfigError> {
        self.unsupported(path, &[("tls-server-name", &text.tls_server_name), ("proxy-url", &text.proxy_url)]);
        let (file, data) = (&text.certificate_authority, &text.certificate_authority_data);
        let pem = self.pem(path, "certificate-authority", file.as_deref(), data.as_deref())?;
        let is_unchecked = text.insecure_skip_tls_verify == Some(true);
        let Some((field, pem)) = pem else {
            return Ok(builder.tls_danger_accept_invalid_certs(is_unchecked));
        };
        if is_unchecked {
            let message = "not both: with a certificate authority, certificates are checked";
            self.violated(format!("{path}.insecure-skip-tls-verify"), message);
        }
        match Certificate::from_pem_bundle(&pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(builder.tls_certs_only(certificates)),
            _ => {
                self.violated(field, "no certificates in PEM");
                Ok(builder)
            }
        }
    }

    fn identity(&mut self, path: &str, text: &UserText) -> Result<Option<Identity>, KubeconfigError> {
        let (file, data) = (&text.client_certificate, &text.client_certificate_data);
        let certificate = self.pem(path, "client-certificate", file.as_deref(), data.as_deref())?;
        let (file, data) = (&text.client_key, &text.client_key_data);
        let key = self.pem(path, "client-key", file.as_deref(), data.as_deref())?;
        let ((field, certificate), key) = match (certificate, key) {
            (Some(certificate), Some((_, key))) => (certificate, key),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                self.violated(format!("{path}.client-key"), "required beside a client certificate");
                return Ok(None);
            }
            (None, Some(_)) => {
                self.violated(format!("{path}.client-certificate"), "required beside a client key");
                return Ok(None);
            }
        };
        let both = Zeroizing::new([&**certificate, b"\n", &**key].concat());
        match Identity::from_pem(&both) {
            Ok(identity) => Ok(Some(identity)),
            Err(_) => {
                self.violated(field, "no certificate and key in PEM");
                Ok(None)
            }
        }
    }

    fn login(&mut self, path: &str, text: &UserText) -> Result<Login, KubeconfigError> {
        self.unsupported(
            path,
            &[
                ("exec", &text.exec),
                ("auth-provider", &text.auth_provider),
                ("as", &text.act_as),
                ("as-uid", &text.as_uid),
                ("as-groups", &text.as_groups),
                ("as-user-extra", &text.as_user_extra),
            ],
        );
        let said = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        // Of both, clients of Kubernetes take the file.
        if let Some(file) = said(&text.token_file) {
            let file = self.folder.join(file);
            Zeroizing::new(read(&file)?);
            return Ok(Login::TokenFile(file));
        }
        match (said(&text.token), said(&text.username), said(&text.password)) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                self.violated(format!("{path}.token"), "not both: a token, and a name with a password");
                Ok(Login::Nobody)
            }
            (Some(token), None, None) => Ok(Login::Token(token.into())),
            (None, Some(user), password) => Ok(Login::Password(user, password.unwrap_or_default().into())),
            (None, None, Some(_)) => {
                self.violated(format!("{path}.username"), "required beside a password");
                Ok(Login::Nobody)
            }
            (None, None, None) => Ok(Login::Nobody),
        }
    }

    fn unsupported(&mut self, path: &str, fields: &[(&str, &Option<IgnoredAny>)]) {
        for (name, _) in fields.iter().filter(|(_, given)| given.is_some()) {
            self.violated(format!("{path}.{name}"), "not supported");
        }
    }

    /// PEM of a field or of the file that its neighbour names, and which of the two it was; the data count, as for
    /// every client of Kubernetes.
    fn pem(
        &mut self,
        path: &str,
        name: &str,
        file: Option<&str>,
        data: Option<&str>,
    ) -> Result<Option<Pem>, KubeconfigError> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let field = format!("{path}.{name}-data");
            return Ok(match STANDARD.decode(data) {
                Ok(pem) => Some((field, pem.into())),
                Err(_) => {
                    self.violated(field, "not standard base64 (value REDACTED)");
                    None
                }
            });
        }
        let Some(file) = file.filter(|file| !file.is_empty()) else { return Ok(None) };
        Ok(Some((format!("{path}.{name}"), read(&self.folder.join(file))?.into())))
    }
}

/// PEM, behind the field that it is of.
type Pem = (String, Zeroizing<Vec<u8>>);

/// A cluster's entry, and where it stands.
struct Cluster<'t> {
    path: String,
    text: &'t ClusterText,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn config(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n\
             contexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n"
        )
    }

    fn load(text: &str) -> Result<Endpoint, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "from-file\n").unwrap();
        let path = dir.path().join("webhook.yaml");
        fs::write(&path, text).unwrap();
        Endpoint::load(&path, TIMEOUT).map_err(|e| crate::errors::chain(&e))
    }

    /// What is said of each flaw.
    fn flaws(text: &str) -> String {
        let error = load(text).map(|_| ()).unwrap_err();
        error.split_once("webhook.yaml: ").unwrap_or_else(|| panic!("{error}")).1.to_owned()
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        let server = "server: 'https://audit.example'";
        for (cluster, user, expected) in [
            ("", "", "clusters[0].cluster.server: required: the URL to post to"),
            (
                "server: audit.example",
                "",
                "clusters[0].cluster.server: not a URL that begins with https:// or http://",
            ),
            (
                "server: 'https://a', certificate-authority-data: '!!!'",
                "",
                "clusters[0].cluster.certificate-authority-data: not standard base64 (value REDACTED)",
            ),
            (
                "server: 'https://a', certificate-authority-data: aGVsbG8=",
                "",
                "clusters[0].cluster.certificate-authority-data: no certificates in PEM",
            ),
            (
                "server: 'https://a', proxy-url: 'http://p', tls-server-name: b",
                "",
                "clusters[0].cluster.tls-server-name: not supported; clusters[0].cluster.proxy-url: not supported",
            ),
            (server, "exec: {command: x}", "users[0].user.exec: not supported"),
            (server, "password: x", "users[0].user.username: required beside a password"),
            (
                server,
                "token: x, username: anna",
                "users[0].user.token: not both: a token, and a name with a password",
            ),
            (
                server,
                "client-key-data: aGVsbG8=",
                "users[0].user.client-certificate: required beside a client key",
            ),
            (
                server,
                "client-key-data: aGVsbG8=, client-certificate-data: aGVsbG8=",
                "users[0].user.client-certificate-data: no certificate and key in PEM",
            ),
        ] {
            assert_eq!(flaws(&config(cluster, user)), expected);
        }
        assert_eq!(
            flaws(&config(server, "").replace("current-context: x", "")),
            "current-context: required: the name of a context"
        );
        assert_eq!(
            flaws(&config(server, "").replace("cluster: c", "cluster: d")),
            "contexts[0].context.cluster: there is no cluster \"d\""
        );
        assert_eq!(
            flaws(&config("sever: 'https://a'", "")),
            "5:13: unknown field \"sever\"; did you mean \"server\"?"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load(&config("server: 'https://a', certificate-authority: gone.pem", "")).unwrap_err();
        assert!(error.contains("gone.pem") && error.contains("No such file"), "{error}");
        let error = load(&config("server: 'https://a'", "tokenFile: gone")).unwrap_err();
        assert!(error.contains("gone"), "{error}");
    }

    #[test]
    fn credentials_are_taken_and_not_shown() {
        let endpoint = load(&config("server: 'http://127.0.0.1:9/x'", "token: s3cret")).unwrap();
        let request = endpoint.post().unwrap().build().unwrap();
        assert_eq!(
            (request.url().as_str(), &request.headers()["authorization"]),
            ("http://127.0.0.1:9/x", &"Bearer s3cret".parse().unwrap())
        );
        assert!(!format!("{endpoint:?}").contains("s3cret"));
        let endpoint = load(&config("server: 'http://127.0.0.1:9/x'", "username: a, password: b")).unwrap();
        let request = endpoint.post().unwrap().build().unwrap();
        assert_eq!(request.headers()["authorization"], "Basic YTpi");
    }

    #[test]
    fn the_file_of_a_token_is_read_at_each_call() {
        let dir = tempfile::tempdir().unwrap();
        let (path, token) = (dir.path().join("webhook.yaml"), dir.path().join("token"));
        fs::write(&path, config("server: 'http://127.0.0.1:9/x'", "tokenFile: token")).unwrap();
        fs::write(&token, "one\n").unwrap();
        let endpoint = Endpoint::load(&path, TIMEOUT).unwrap();
        for expected in ["one", "two"] {
            fs::write(&token, format!("{expected}\n")).unwrap();
            let request = endpoint.post().unwrap().build().unwrap();
            assert_eq!(request.headers()["authorization"], format!("Bearer {expected}"));
        }
    }
}
