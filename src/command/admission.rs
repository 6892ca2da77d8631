//! `muniment admission`: what the admission chain says about manifests, without a cluster.

use std::{io::Write, path::PathBuf, process::ExitCode};

use admission::pod_security::LevelVersion;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::{
    client::{Client, ClientArgs},
    command::block_on,
    exit,
    settings::PodSecurityArgs,
};

mod check;
mod impact;
mod manifest;

use check::{Check, Report};
use impact::Impact;

/// Flags of `muniment admission`.
#[derive(Args, Debug)]
pub(crate) struct AdmissionArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say which Pods of some manifests the Pod Security Standards refuse, in kube-apiserver's words
    Check(CheckArgs),
    /// Say which of the workloads that a cluster has would be refused, if all of it were held to a level
    Impact(ImpactArgs),
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// Manifests in YAML or JSON, one document or several; - is standard input; given once for each file
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Labels of the namespaces, such as enforce=restricted,enforce-version=v1.30; pod-security.kubernetes.io/ is
    /// put before names without a prefix; they go before the labels of Namespaces among the manifests
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    namespace_labels: Vec<(String, String)>,
    /// The namespace of objects that name none
    #[arg(short = 'n', long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    pod_security: PodSecurityArgs,
}

#[derive(Args, Debug)]
struct ImpactArgs {
    /// The level that everything is held to, perhaps of a version: restricted, or restricted:v1.30
    #[arg(long, value_name = "LEVEL[:VERSION]")]
    level: LevelVersion,
    /// Only this namespace
    #[arg(short = 'n', long)]
    namespace: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

fn label(text: &str) -> Result<(String, String)> {
    let Some((name, value)) = text.split_once('=') else { bail!("a label is written as KEY=VALUE") };
    let prefix = if name.contains('/') { "" } else { admission::pod_security::LABEL_PREFIX };
    Ok((format!("{prefix}{name}"), value.to_owned()))
}

/// Runs the command. Exit code 1 says that something is refused.
///
/// # Errors
/// When a file cannot be read, or the labels cannot be followed.
pub(crate) fn run(args: AdmissionArgs) -> Result<ExitCode> {
    let args = match args.action {
        Action::Check(args) => args,
        Action::Impact(args) => return impact(&args),
    };
    let pod_security = exit::usage(args.pod_security.read())?;
    let check = exit::usage(Check::new(args.namespace_labels, args.namespace, pod_security))?;
    let objects = manifest::read(&args.files)?;
    let report = block_on(async { Ok(check.all(&objects).await) })?;
    print(&report)
}

fn impact(args: &ImpactArgs) -> Result<ExitCode> {
    let client = Client::find(&args.client)?;
    let impact = block_on(Impact::ask(&client, args.level, args.namespace.as_deref()))?;
    let text = if args.json { serde_json::to_string(&impact)? + "\n" } else { impact.table() };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if impact.is_any() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &Report) -> Result<ExitCode> {
    std::io::stderr().write_all(report.warnings.as_bytes())?;
    std::io::stdout().write_all(report.passed.as_bytes())?;
    std::io::stderr().write_all(report.refused.as_bytes())?;
    Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
