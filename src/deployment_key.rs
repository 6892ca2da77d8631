//! The deployment's key: this folder's own where none is given, and the same one as the ledger's, or no start.

use std::path::Path;

use anyhow::{Result, bail};
use ingest::{
    identity::{DeploymentKey, KeyCheck},
    ledger::{Ledger, LedgerError, OpenError},
};

/// The key of this data folder, made before its journal and never again: under another one no event would have its former id.
pub(crate) fn own(data: &Path) -> Result<DeploymentKey> {
    let file = data.join("deployment.key");
    if !file.exists() && data.join("journal").exists() {
        bail!(
            "{} is missing, and this data folder has been used: put the key back from a backup, or name it with \
             --deployment-key-file; under a new key, events that arrive again would be kept twice",
            file.display()
        );
    }
    Ok(DeploymentKey::load_or_create(&file)?)
}

/// Why a ledger is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Whose key it has cannot be read.
    #[error("the deployment key cannot be compared with the ledger's")]
    Unread(#[source] LedgerError),
    /// Its ids were made under another key.
    #[error(
        "the ledger was begun under another deployment key: the same event would be kept twice. Give this instance \
         the key file of the others, which is deployment.key in the data folder of the one that began, with \
         --deployment-key-file, or give it a database of its own"
    )]
    OtherKey,
}

impl Unusable {
    /// Whether trying again later may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Open(error) => error.is_unavailable(),
            Self::Unread(error) => matches!(error, LedgerError::Unavailable(_)),
            Self::OtherKey => false,
        }
    }
}

/// Compares the key of an instance that makes ids with the one that the ledger was begun under. The first one begins it.
///
/// # Errors
/// When it is another one, or cannot be told.
pub(crate) async fn confirm(ledger: &impl Ledger, own: Option<KeyCheck>) -> Result<(), Unusable> {
    let Some(own) = own else { return Ok(()) };
    let kept = ledger.key_check(own).await.map_err(Unusable::Unread)?;
    if kept == own { Ok(()) } else { Err(Unusable::OtherKey) }
}
