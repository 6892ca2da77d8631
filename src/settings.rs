//! What `muniment serve` can be told, by flag, `MUNIMENT_*` variable or configuration file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use api::cluster::ClusterName;
use clap::{Args, ValueEnum};
use ingest::log::kafka::KafkaOptions;

mod access;
mod controllers;
mod outputs;
mod pod_security;

pub(crate) use self::{
    access::AccessSettings, controllers::enabled, outputs::OutputSettings, pod_security::PodSecurityArgs,
};

/// A part of the pipeline that a process can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Serves a Kubernetes API.
    Gateway,
    /// Takes events in and journals them.
    Intake,
    /// Moves events from the log to the ledger.
    Recorder,
    /// Keeps a search index.
    Indexer,
    /// Answers queries from that index.
    Query,
}

/// When intake answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// After the journal has the events on disk.
    Journal,
    /// After the log has them on all in-sync replicas, for machines whose disk may vanish.
    Log,
}

/// What requests of the gateway wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditMode {
    /// Changes wait for the opening record on the disk, answers for the closing one.
    Strict,
    /// Nothing waits: a crash loses the records that were not on the disk yet.
    Batch,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Every setting, complete: defaults are filled in.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Folder of everything that is kept: journal, embedded ledger, index, keys, tokens
    #[arg(long, value_name = "DIR", default_value = "muniment-data")]
    pub(crate) data_dir: PathBuf,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(crate) bind_address: SocketAddr,
    /// Roles that this process runs
    #[arg(
        long,
        value_name = "ROLE",
        value_enum,
        value_delimiter = ',',
        default_value = "gateway,intake,recorder,indexer,query"
    )]
    pub(crate) roles: Vec<Role>,
    /// Name of this instance: the source of its records. Made at the first start and kept
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Name of the gateway's own cluster in records
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) cluster_name: ClusterName,
    /// Servers of the etcd that keeps the cluster's objects; without it a SQLite file in the data folder does
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    pub(crate) etcd_servers: Vec<String>,
    /// What stands before every key in etcd
    #[arg(long, value_name = "PREFIX", default_value = "/registry")]
    pub(crate) etcd_prefix: String,
    /// Authority, in PEM, of the certificates of etcd's servers
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// Certificate, in PEM, that tells etcd who this is
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Private key of --etcd-certfile in PEM
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// How long the history of the cluster's objects is kept, in etcd or in SQLite; 0s for ever
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) etcd_compaction_interval: Duration,
    /// Which of the cluster's objects are encrypted at rest, and under which keys (EncryptionConfiguration)
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Read --encryption-provider-config again when it changes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub(crate) encryption_provider_config_automatic_reload: bool,
    /// Take an --encryption-provider-config that others than its owner can open
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub(crate) encryption_provider_config_exposed: bool,
    /// Open sealed bodies of events for the search index, so that they can be found
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub(crate) index_bodies: bool,
    /// What happens in the cluster by itself here: * for all, names, names behind a - for all but these
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub(crate) controllers: Vec<controllers::Choice>,
    /// Kafka bootstrap servers; without it the journal is the log
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) kafka: Option<String>,
    /// Setting of the Kafka client (TLS, SASL, …) as KEY=VALUE, passed through
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) kafka_config: Vec<(String, String)>,
    /// Kafka topic of the records; made when it is missing
    #[arg(long, value_name = "NAME", default_value = KafkaOptions::TOPIC)]
    pub(crate) topic: String,
    /// Partitions of a topic that is made; an existing one with fewer is an error
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,
    /// Replicas of a topic that is made
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) replication: i32,
    /// URL of the Postgres ledger; without it the ledger is a SQLite file in the data folder
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// Days that records are kept
    #[arg(long, value_name = "DAYS", default_value = "400", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) retention_days: u32,
    /// Bytes that the journal may take on disk; when it is full, intake answers 429
    #[arg(long, value_name = "BYTES", default_value = "8GiB", value_parser = bytes)]
    pub(crate) journal_max_bytes: u64,
    /// When intake answers
    #[arg(long, value_name = "WHEN", value_enum, default_value = "journal")]
    pub(crate) ack: Ack,
    /// Go on after a damaged journal, and record the gap
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub(crate) accept_gap: bool,
    /// Key of record identities and redaction, shared by several instances; made at the first start by default
    #[arg(long, value_name = "FILE")]
    pub(crate) deployment_key_file: Option<PathBuf>,
    /// Redaction rules in YAML, in addition to the built-in ones; read again when they change
    #[arg(long, value_name = "FILE")]
    pub(crate) redaction_rules: Option<PathBuf>,
    /// Audit policy (audit.k8s.io/v1 Policy); read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// What requests of the gateway wait for
    #[arg(long, value_name = "MODE", value_enum, default_value = "strict")]
    pub(crate) audit_mode: AuditMode,
    /// Where audit events go besides the pipeline
    #[command(flatten)]
    pub(crate) outputs: OutputSettings,
    /// Certificate chain in PEM; by default a self-signed one is made
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Private key of --tls-cert-file in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Further name or address that the self-signed certificate is for
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tls_san: Vec<String>,
    /// Who the gateway knows
    #[command(flatten)]
    pub(crate) access: AccessSettings,
    /// Time that a shutdown may take in all
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub(crate) grace_period: Duration,
    /// How far recorder and indexer may be behind before /readyz says so
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) max_lag: Duration,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "pretty")]
    pub(crate) log_format: LogFormat,
    /// What is logged, as `info` or `info,ingest=debug`
    #[arg(long, value_name = "FILTER", default_value = "info,sqlx=warn,tantivy=warn")]
    pub(crate) log_level: String,
}

impl Settings {
    /// Whether this process runs `role`.
    pub(crate) fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// Reads `250ms`, `25s`, `2m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|d| Duration::try_from(d).ok())
        .ok_or_else(|| format!("{text:?} is no duration: write it like 25s, 500ms or 2m"))
}

/// Reads `1048576`, `512MiB`, `8GiB`, `10GB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => 0,
    };
    let value = number.parse::<u64>().ok().filter(|_| factor > 0).and_then(|n| n.checked_mul(factor));
    value.ok_or_else(|| format!("{text:?} is no size: write it like 1048576, 512MiB or 8GiB"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes("10 MB"), Ok(10_000_000));
        assert!(bytes("8 elephants").is_err() && bytes("").is_err() && bytes("99999999TiB").is_err());
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").is_err() && duration("soon").is_err());
    }
}
