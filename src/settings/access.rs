//! Who the gateway knows, and how much they may ask for: kube-apiserver's names where it has the same.

use std::path::PathBuf;

use clap::Args;

use super::{PodSecurityArgs, key_value};

/// How clients of the gateway show who they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct AccessSettings {
    /// Authorities of client certificates in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Static tokens for the gateway, as CSV: token,user,uid,"group,group"; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Issuer of service-account tokens
    #[arg(long, value_name = "URL", default_value = "https://kubernetes.default.svc.cluster.local")]
    pub(crate) service_account_issuer: String,
    /// Private key, in PEM, that service-account tokens are signed with; made at the first start by default
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// Further public keys, in PEM, of service-account tokens; read again when they change
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_key_file: Vec<PathBuf>,
    /// Audiences of the API, one of which a service-account token must be for; the issuer by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) api_audiences: Vec<String>,
    /// Issuer of ID tokens (OpenID Connect)
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// Audience that ID tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub(crate) oidc_client_id: Option<String>,
    /// Authority, in PEM, of the issuer's own certificate; the public ones by default
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// Keys of ID tokens (JWK set), where the issuer shall not be asked; read again when they change
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub(crate) oidc_jwks_file: Option<PathBuf>,
    /// Claim that is the user name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub(crate) oidc_username_claim: String,
    /// What stands before user names; - for nothing. By default the issuer and #, but nothing before email
    #[arg(long, value_name = "PREFIX")]
    pub(crate) oidc_username_prefix: Option<String>,
    /// Claim that is the groups
    #[arg(long, value_name = "CLAIM")]
    pub(crate) oidc_groups_claim: Option<String>,
    /// What stands before groups
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(crate) oidc_groups_prefix: String,
    /// Claim that ID tokens must have, as CLAIM=VALUE
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = key_value)]
    pub(crate) oidc_required_claim: Vec<(String, String)>,
    /// Signatures of ID tokens that count
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "RS256")]
    pub(crate) oidc_signing_algs: Vec<String>,
    /// Admission controllers to turn on beside those that are on by default
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Admission controllers to turn off
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// What Pod Security holds namespaces to
    #[command(flatten)]
    pub(crate) pod_security: PodSecurityArgs,
    /// Reads that run at one time
    #[arg(long, value_name = "N", default_value = "400", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_requests_inflight: u32,
    /// Writes that run at one time
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_mutating_requests_inflight: u32,
    /// Watches that are open at one time
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_watches: u32,
    /// Requests per second of one address, twice as many at once; 0 for no bound
    #[arg(long, value_name = "N", default_value = "20000")]
    pub(crate) max_address_rate: u32,
    /// Requests per second of one user, twice as many at once; 0 for no bound
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) max_user_rate: u32,
}
