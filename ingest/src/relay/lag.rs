//! How far the log is behind the journal.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::Delivered;
use crate::{
    journal::Journal,
    lag::{Ends, Lag},
    log::Positions,
    metrics,
};

/// How often it is measured, and so how exact the seconds are. It costs two looks at memory.
const EVERY: Duration = Duration::from_secs(1);

/// Measures for ever, also while the log does not answer.
pub(super) async fn watch(journal: Journal, delivered: watch::Receiver<Delivered>) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Ends::default();
    loop {
        ticks.tick().await;
        metrics::relay_lag(measure(&journal, &delivered, &mut seen));
    }
}

fn measure(journal: &Journal, delivered: &watch::Receiver<Delivered>, seen: &mut Ends) -> Lag {
    let at = |offset| Positions::from([(0, offset)]);
    // Read first: what is delivered in between is no lag.
    let end = journal.bounds().end;
    let next = delivered.borrow().next;
    seen.measure(at(end), &at(next), Instant::now())
}
