//! How far the index is behind the log, in records and in seconds.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use index::Index;
use ingest::log::{Log, Positions};
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is measured, and so how exact the seconds are.
const EVERY: Duration = Duration::from_secs(2);

/// Ends of the log that are remembered: beyond an hour behind, the hour is what is said.
const MAX_SAMPLES: usize = 1_800;

/// How far behind the index is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Entries of the log that are not in the index.
    pub(crate) records: u64,
    /// For how long the oldest of them has been there.
    pub(crate) behind: Duration,
}

/// Where the log ended, and when.
struct Sample {
    at: Instant,
    ends: Positions,
}

/// Measures until `stop`, and publishes the latest.
pub(crate) async fn watch(log: Arc<dyn Log>, index: Index, lag: watch::Sender<Lag>, stop: CancellationToken) {
    metrics::describe_gauge!("muniment_index_lag_records", "Entries of the log that are not in the index");
    metrics::describe_gauge!("muniment_index_lag_seconds", "How long the oldest of them has been there");
    let mut samples = VecDeque::new();
    while !stop.is_cancelled() {
        if let Some(now) = measure(&*log, &index, &mut samples).await {
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
async fn measure(log: &dyn Log, index: &Index, samples: &mut VecDeque<Sample>) -> Option<Lag> {
    let ends: Positions = log.bounds().await.ok()?.into_iter().map(|(p, (_, end))| (p, end)).collect();
    let standing = index.standing();
    let records = missing(&ends, &standing.positions);
    samples.push_back(Sample { at: Instant::now(), ends });
    while samples.len() > MAX_SAMPLES {
        samples.pop_front();
    }
    Some(Lag { records, behind: behind(samples, &standing.positions) })
}

fn missing(ends: &Positions, reached: &Positions) -> u64 {
    ends.iter().map(|(p, end)| end.0.saturating_sub(reached.get(p).map_or(0, |at| at.0))).sum()
}

/// The age of the oldest end that is not reached; ends that are reached are forgotten.
fn behind(samples: &mut VecDeque<Sample>, reached: &Positions) -> Duration {
    while samples.front().is_some_and(|sample| missing(&sample.ends, reached) == 0) {
        samples.pop_front();
    }
    samples.front().map_or(Duration::ZERO, |sample| sample.at.elapsed())
}

#[cfg(test)]
mod tests {
    use ingest::log::Offset;

    use super::*;

    #[test]
    fn the_oldest_end_that_is_not_reached_tells_the_seconds() {
        let at = |offset| Positions::from([(0, Offset(offset))]);
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let mut samples: VecDeque<Sample> =
            [(30, 10), (20, 20), (10, 30)].map(|(s, end)| Sample { at: ago(s), ends: at(end) }).into();
        assert_eq!(behind(&mut samples, &at(5)).as_secs(), 30);
        assert_eq!(behind(&mut samples, &at(15)).as_secs(), 20);
        assert_eq!(behind(&mut samples, &at(30)), Duration::ZERO);
        assert_eq!(missing(&at(30), &at(12)), 18);
    }
}
