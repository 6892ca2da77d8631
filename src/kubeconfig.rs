//! The file by which clients of Kubernetes on this machine find the gateway.

use std::path::Path;

use anyhow::{Context, Result};
use api::tokens::write_private;

use crate::settings::Settings;

/// Its name in the data folder.
pub(crate) const FILE: &str = "admin.kubeconfig";

/// Writes it anew at each start, since address and token may be others. It holds the folder's token: were the token's
/// file named instead, clients would prefer that to the `--token` that somebody gives them, and act as an administrator.
///
/// # Errors
/// When the token's file cannot be read, or this one written.
pub(crate) fn write(data: &Path, url: &str, settings: &Settings) -> Result<()> {
    let file = data.join(FILE);
    let token = data.join("client.token");
    let token =
        std::fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;
    write_private(&file, text(url, token.trim(), settings.tls_cert_file.is_none()).as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// An operator's own certificate is checked with the authorities of the system.
fn text(url: &str, token: &str, is_self_signed: bool) -> String {
    let authority = if is_self_signed { "\n    certificate-authority: ca.pem" } else { "" };
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: muniment
  cluster:
    server: {url}{authority}
users:
- name: admin
  user:
    token: {token}
contexts:
- name: muniment
  context:
    cluster: muniment
    user: admin
current-context: muniment
"
    )
}
