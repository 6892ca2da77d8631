//! How far the ledger is behind the log.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::Status;
use crate::{log::Log, metrics, time::Clock};

/// How often the lag is measured: a question to the log for each partition, and nobody looks more often.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// Measures for ever.
pub(super) async fn watch(log: &dyn Log, status: &watch::Sender<Status>, clock: &Clock) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A log that is away keeps the last figure: the state says why.
        if let Ok(bounds) = log.bounds().await {
            status.send_modify(|status| {
                let behind = |(partition, position): (&i32, &crate::log::Offset)| {
                    bounds.get(partition).map_or(0, |(_, end)| end.0.saturating_sub(position.0))
                };
                status.lag = status.positions.iter().map(behind).sum();
                status.behind = if status.lag == 0 { Duration::ZERO } else { age(status, clock) };
                metrics::recorder_lag(status.lag, status.behind);
            });
        }
    }
}

fn age(status: &Status, clock: &Clock) -> Duration {
    let age = status.latest.map_or(0, |latest| clock.now().micros() - latest.micros());
    Duration::from_micros(age.try_into().unwrap_or(0))
}
