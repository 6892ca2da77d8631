//! Where the gateway's audit events go besides the pipeline, by kube-apiserver's names.

use std::path::PathBuf;

use clap::Args;

use super::bytes;

/// Outputs of audit events.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputSettings {
    /// File that the gateway's audit events are written to, one a line; - for standard output
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Megabytes after which --audit-log-path is rotated; 0 for never
    #[arg(long, value_name = "MB", default_value = "100")]
    pub(crate) audit_log_maxsize: u32,
    /// Days that rotated files are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value = "366")]
    pub(crate) audit_log_maxage: u32,
    /// Rotated files that are kept; 0 for all
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) audit_log_maxbackup: u32,
    /// Receiver that the gateway's audit events are posted to, as a kubeconfig names it
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_webhook_config_file: Option<PathBuf>,
    /// Events in one post to --audit-webhook-config-file
    #[arg(long, value_name = "N", default_value = "400", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) audit_webhook_batch_max_size: u32,
    /// Bytes that the journal may hold for an output that does not take its events
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    pub(crate) audit_output_max_bytes: u64,
}

impl OutputSettings {
    /// Whether there is an output.
    pub(crate) const fn are_set(&self) -> bool {
        self.audit_log_path.is_some() || self.audit_webhook_config_file.is_some()
    }
}
