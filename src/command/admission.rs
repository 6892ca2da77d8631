//! `muniment admission`: what the admission chain says about manifests, without a cluster.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::{command::block_on, exit, settings::PodSecurityArgs};

mod check;
mod manifest;

use check::{Check, Report};

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
    let Action::Check(args) = args.action;
    let pod_security = exit::usage(args.pod_security.read())?;
    let check = exit::usage(Check::new(args.namespace_labels, args.namespace, pod_security))?;
    let objects = manifest::read(&args.files)?;
    let report = block_on(async { Ok(check.all(&objects).await) })?;
    print(&report)
}

fn print(report: &Report) -> Result<ExitCode> {
    std::io::stderr().write_all(report.warnings.as_bytes())?;
    std::io::stdout().write_all(report.passed.as_bytes())?;
    std::io::stderr().write_all(report.refused.as_bytes())?;
    Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
