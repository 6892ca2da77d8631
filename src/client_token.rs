//! The token in the data folder, with which commands on this machine call the server.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use api::{
    errors::chain,
    tokens::{Scope, Secret, Tokens, write_private},
};
use tokio_util::sync::CancellationToken;

/// How often tokens that other instances made or revoked are looked for: a revoked token lives this long there.
const REFRESH: Duration = Duration::from_secs(5);

/// Makes sure that `client.token` holds a token that is valid. True when it was made anew.
///
/// A token that the database does not know (a new database under an old folder) is kept; a revoked one is replaced.
///
/// # Errors
/// When the database or the file cannot be used.
pub(crate) async fn ensure(tokens: &Tokens, data: &Path, instance: &str) -> Result<bool> {
    tokens.refresh().await?;
    let file = data.join("client.token");
    let label = format!("client.token of {instance}");
    let kept = std::fs::read_to_string(&file).ok().and_then(|text| Secret::parse(text.trim()));
    if let Some((secret, id)) = kept.and_then(|secret| secret.id().map(|id| (secret, id))) {
        match tokens.find(id) {
            Some(token) if token.revoked_at.is_none() => return Ok(false),
            Some(_) => {}
            None => {
                tokens.adopt(&secret, Scope::Client, &label).await?;
                return Ok(false);
            }
        }
    }
    let (secret, _) = tokens.create(Scope::Client, &label).await?;
    write_private(&file, format!("{}\n", secret.expose()).as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

/// Makes `client.token` where there is none while the database is away: valid in this process from now on, and
/// everywhere once [`ensure`] has brought it into the database.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn prepare(tokens: &Tokens, data: &Path, instance: &str) -> Result<()> {
    let file = data.join("client.token");
    if file.exists() {
        return Ok(());
    }
    let secret = tokens.create_here(Scope::Client, &format!("client.token of {instance}"))?;
    write_private(&file, format!("{}\n", secret.expose()).as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Keeps the tokens of this process up with the database until `stop`.
pub(crate) async fn keep_up(tokens: &Tokens, stop: &CancellationToken) {
    let mut failing = false;
    while !stop.is_cancelled() {
        match tokens.refresh().await {
            Ok(()) => failing = false,
            // The last ones that were seen stay valid; said once for each time that the database is away.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = chain(&error), "tokens cannot be read anew; those known stay valid");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = stop.cancelled() => {}
        }
    }
}
