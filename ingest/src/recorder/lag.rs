//! How far the ledger is behind the log.

use std::time::{Duration, Instant};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::Status;
use crate::{
    lag::Ends,
    log::{Log, Positions},
    metrics,
};

/// How often the lag is measured: a question to the log for each partition, and nobody looks more often.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// Measures for ever.
pub(super) async fn watch(log: &dyn Log, status: &watch::Sender<Status>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Ends::default();
    loop {
        ticks.tick().await;
        // A log that is away keeps the last figure: the state says why.
        if let Ok(bounds) = log.bounds().await {
            status.send_modify(|status| {
                let mine = &status.positions;
                let ends = bounds.into_iter().filter(|(partition, _)| mine.contains_key(partition));
                let ends: Positions = ends.map(|(partition, (_, end))| (partition, end)).collect();
                seen.keep_only(mine);
                status.lag = seen.measure(ends, mine, Instant::now());
                metrics::recorder_lag(status.lag);
            });
        }
    }
}
