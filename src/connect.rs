//! Reaching what may be away at the start: tried again until it is there, and said so.

use std::time::Duration;

use anyhow::Result;
use api::errors::chain;
use ingest::retry::Backoff;
use tokio_util::sync::CancellationToken;

/// The first and the longest wait between two tries: an engine that starts takes seconds.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Tries `connect` until it succeeds; nothing when `stop` comes first.
///
/// # Errors
/// The first failure of which `is_passing` does not say that a later try may mend it.
pub(crate) async fn connect<T, E, F>(
    what: &'static str,
    stop: CancellationToken,
    connect: impl Fn() -> F,
    is_passing: fn(&E) -> bool,
) -> Result<Option<T>>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    loop {
        let Some(tried) = stop.run_until_cancelled(connect()).await else { return Ok(None) };
        match tried {
            Ok(value) => {
                tracing::info!("{what} is connected");
                return Ok(Some(value));
            }
            Err(error) if is_passing(&error) => {
                let wait = backoff.wait();
                tracing::warn!(error = chain(&error), retry_in = ?wait, "{what} cannot be reached; trying again");
                let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
