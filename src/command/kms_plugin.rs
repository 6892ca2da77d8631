//! `muniment kms-plugin`: a key file, served to API servers by version 2 of the KMS protocol.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use clap::Args;
use crypto::{KeyFile, Kms, Readers, serve};

use crate::{command::block_on, supervise};

/// Flags of `muniment kms-plugin`.
#[derive(Args, Debug)]
pub(crate) struct KmsPluginArgs {
    /// The unix socket to serve on; only its owner can connect
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// A key file, as `muniment keys generate --provider key-file` makes it
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Take a key file that others than its owner can open
    #[arg(long)]
    allow_exposed_keys: bool,
}

/// Serves until the process is asked to end.
///
/// # Errors
/// When the keys cannot be read or the socket cannot be served on.
pub(crate) fn run(args: &KmsPluginArgs) -> Result<ExitCode> {
    let readers = if args.allow_exposed_keys { Readers::Anybody } else { Readers::Owner };
    let kms = Arc::new(KeyFile::from_file(&args.key_file, readers)?);
    block_on(async {
        let socket = args.socket.display();
        eprintln!("unix://{socket}: serving under key {}", kms.status().await?.key_id);
        serve(kms, &args.socket, async { _ = supervise::signals().await })
            .await
            .with_context(|| format!("{socket} cannot be served on"))
    })?;
    Ok(ExitCode::SUCCESS)
}
