//! `muniment man`: a man page for every command.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

/// Flags of `muniment man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Folder to write the pages into
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn run(args: &ManArgs, command: clap::Command) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write man pages into {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
