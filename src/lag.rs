//! How far the index is behind the log, in records and in seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use index::Index;
use ingest::{
    lag::{Ends, Lag},
    log::{Log, Positions},
};
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is measured, and so how exact the seconds are.
const EVERY: Duration = Duration::from_secs(2);

/// Measures until `stop`, and publishes the latest.
pub(crate) async fn watch(log: Arc<dyn Log>, index: Index, lag: watch::Sender<Lag>, stop: CancellationToken) {
    metrics::describe_gauge!("muniment_index_lag_records", "Entries of the log that are not in the index");
    metrics::describe_gauge!("muniment_index_lag_seconds", "How long the oldest of them has been there");
    let mut seen = Ends::default();
    while !stop.is_cancelled() {
        if let Some(now) = measure(&*log, &index, &mut seen).await {
            gauge!("muniment_index_lag_records").set(now.records as f64);
            gauge!("muniment_index_lag_seconds").set(now.behind.as_secs_f64());
            lag.send_replace(now);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Nothing while the log cannot be reached: that is told by its own check.
async fn measure(log: &dyn Log, index: &Index, seen: &mut Ends) -> Option<Lag> {
    let ends: Positions = log.bounds().await.ok()?.into_iter().map(|(p, (_, end))| (p, end)).collect();
    Some(seen.measure(ends, &index.standing().positions, Instant::now()))
}
