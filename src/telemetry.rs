//! Log lines and metrics of the process.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use api::prometheus::MetricsPage;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Bounds of durations, in seconds: from a fast sync to a request that waits for a broker.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Bounds of calls of admission controllers, in seconds: most of them only compute.
const ADMISSION: [f64; 12] =
    [0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01, 0.1, 1.0, 10.0];

/// Bounds of numbers of records: from one alone to the most that one request brings.
const RECORDS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1_000.0, 10_000.0];

/// Sends log lines to standard error.
///
/// # Errors
/// When the filter does not read.
pub(crate) fn log(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .with_context(|| format!("{:?} is no log filter", settings.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Pretty => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}

/// Collects metrics, and gives the page that shows them.
///
/// # Errors
/// When another recorder is installed.
pub(crate) fn metrics() -> Result<MetricsPage> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), &RECORDS)?
        .set_buckets_for_metric(Matcher::Full("muniment_admission_duration_seconds".to_owned()), &ADMISSION)?
        .install_recorder()?;
    api::metrics::describe();
    ingest::metrics::describe();
    index::metrics::describe();
    Ok(MetricsPage::new(move || {
        handle.run_upkeep();
        handle.render()
    }))
}
