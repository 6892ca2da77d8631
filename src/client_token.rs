//! The token in the data folder, with which commands on this machine call the server.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use api::tokens::{Scope, Secret, Tokens, write_private};
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
    let file = data.join("client.token");
    let label = format!("client.token of {instance}");
    let kept = std::fs::read_to_string(&file).ok().and_then(|text| Secret::parse(text.trim()));
    match &kept {
        Some(secret) => tokens.refresh_with(secret, Scope::Client, &label).await?,
        None => tokens.refresh().await?,
    }
    let token = kept.and_then(|secret| tokens.find(secret.id()?));
    if token.is_some_and(|token| token.revoked_at.is_none()) {
        return Ok(false);
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

/// Brings `client.token` into the database, then keeps the tokens of this process up with it until `stop`. A database
/// that goes away between or meanwhile is asked again.
pub(crate) async fn keep_up(tokens: &Tokens, data: &Path, instance: &str, stop: &CancellationToken) {
    let (mut is_there, mut failing) = (false, false);
    while !stop.is_cancelled() {
        let done = match is_there {
            true => tokens.refresh().await.map_err(Into::into),
            false => ensure(tokens, data, instance).await.map(drop),
        };
        match done {
            Ok(()) => (is_there, failing) = (true, false),
            // The last ones that were seen stay valid; said once for each time that the database is away.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(
                    error = format!("{error:#}"),
                    "tokens cannot be read anew; those known stay valid"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use api::{later::Later, tokens::store::Store};
    use ingest::{ledger::SqliteLedger, time::Clock};

    use super::*;

    #[tokio::test]
    async fn a_token_of_a_first_start_is_valid_also_while_it_is_brought_into_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let (data, store) = (folder.path(), Later::new());
        let tokens = Tokens::open(store.clone(), data.join("tokens.json"), Clock::system()).unwrap();
        prepare(&tokens, data, "one").unwrap();
        let token = std::fs::read_to_string(data.join("client.token")).unwrap();
        let is_valid = |tokens: &Tokens| tokens.check(token.trim()).is_some();
        assert!(is_valid(&tokens));

        let ledger = SqliteLedger::open(&data.join("ledger.sqlite")).await.unwrap();
        let fails = "CREATE TRIGGER fails BEFORE INSERT ON tokens BEGIN SELECT RAISE(FAIL, 'away'); END";
        sqlx::raw_sql(fails).execute(ledger.pool()).await.unwrap();
        store.set(Store::Sqlite(ledger.pool().clone()));
        ensure(&tokens, data, "one").await.unwrap_err();
        assert!(is_valid(&tokens), "the database was read, and did not take it");
        let after_a_kill = Tokens::open(Later::new(), data.join("tokens.json"), Clock::system()).unwrap();
        assert!(is_valid(&after_a_kill));

        sqlx::raw_sql("DROP TRIGGER fails").execute(ledger.pool()).await.unwrap();
        assert!(!ensure(&tokens, data, "one").await.unwrap(), "it is the same one");
        tokens.refresh().await.unwrap();
        assert!(is_valid(&tokens));
    }
}
