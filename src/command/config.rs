//! `muniment config`: what `muniment serve` with the same flags would run with.

use std::{io::Write, process::ExitCode};

use crate::config::Config;

/// Prints the effective configuration.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(config.print().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
