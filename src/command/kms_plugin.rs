//! `muniment kms-plugin`: a key file or a key of AWS KMS, served to API servers by version 2 of the KMS protocol.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, ensure};
use clap::Args;
use crypto::{AwsKms, AwsOptions, KeyFile, Kms, Readers, serve};

use crate::{command::block_on, supervise};

/// Flags of `muniment kms-plugin`.
#[derive(Args, Debug)]
pub(crate) struct KmsPluginArgs {
    /// The unix socket to serve on; only its owner can connect
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    backend: Backend,
    /// Take a key file that others than its owner can open
    #[arg(long, requires = "key_file")]
    allow_exposed_keys: bool,
    /// The region of the key; by default that of its ARN, or the one that AWS's tools are configured for
    #[arg(long, value_name = "REGION", requires = "aws_kms_key")]
    aws_region: Option<String>,
    /// Another address of AWS KMS, such as https://vpce-….kms.eu-west-1.vpce.amazonaws.com
    #[arg(long, value_name = "URL", requires = "aws_kms_key")]
    aws_endpoint: Option<String>,
}

/// What wraps the keys.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Backend {
    /// A key file, as `muniment keys generate --provider key-file` makes it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A symmetric key of AWS KMS: its ARN, its id, or alias/NAME
    #[arg(long, value_name = "KEY")]
    aws_kms_key: Option<String>,
}

/// Serves until the process is asked to end.
///
/// # Errors
/// When the keys cannot be read or used, or the socket cannot be served on.
pub(crate) fn run(args: &KmsPluginArgs) -> Result<ExitCode> {
    block_on(async {
        let kms = args.kms().await?;
        let socket = args.socket.display();
        let status = kms.status().await?;
        ensure!(status.healthz == "ok", "{}: {}", status.key_id, status.healthz);
        eprintln!("unix://{socket}: serving under key {}", status.key_id);
        serve(kms, &args.socket, async { _ = supervise::signals().await })
            .await
            .with_context(|| format!("{socket} cannot be served on"))
    })?;
    Ok(ExitCode::SUCCESS)
}

impl KmsPluginArgs {
    async fn kms(&self) -> Result<Arc<dyn Kms>> {
        if let Some(key) = &self.backend.aws_kms_key {
            let (key, region, endpoint) = (key.clone(), self.aws_region.clone(), self.aws_endpoint.clone());
            return Ok(Arc::new(AwsKms::new(AwsOptions { key, region, endpoint }).await?));
        }
        let file = self.backend.key_file.as_deref().context("no key file and no key of AWS KMS")?;
        let readers = if self.allow_exposed_keys { Readers::Anybody } else { Readers::Owner };
        Ok(Arc::new(KeyFile::from_file(file, readers)?))
    }
}
