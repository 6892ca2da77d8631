//! The file by which clients of Kubernetes on this machine find the gateway.

use std::path::Path;

use anyhow::{Context, Result};
use api::tokens::write_private;

use crate::settings::Settings;

/// Its name in the data folder.
pub(crate) const FILE: &str = "admin.kubeconfig";

/// Writes it anew at each start, since the address may be another one. It names the folder's own token and authority,
/// beside which it lies, and holds neither: a token that is replaced is the new one here too.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(data: &Path, url: &str, settings: &Settings) -> Result<()> {
    let file = data.join(FILE);
    write_private(&file, text(url, settings.tls_cert_file.is_none()).as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// An operator's own certificate is checked with the authorities of the system.
fn text(url: &str, is_self_signed: bool) -> String {
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
    tokenFile: client.token
contexts:
- name: muniment
  context:
    cluster: muniment
    user: admin
current-context: muniment
"
    )
}
