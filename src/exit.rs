//! Exit codes that scripts can go by, and the one place where an error is printed.

use std::process::ExitCode;

use anyhow::Result;

/// The end of every command's help.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong flags, configuration or query
  3  done in part: `import` met items that were rejected, or `search` found
     events that are not in the ledger yet";

/// Done in part.
pub(crate) const INCOMPLETE: u8 = 3;

/// A mistake in how the program was called.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Usage(#[from] anyhow::Error);

/// Marks an error as a mistake in how the program was called.
///
/// # Errors
/// The same one.
pub(crate) fn usage<T>(result: Result<T>) -> Result<T> {
    result.map_err(|e| Usage(e).into())
}

/// Prints an error with its causes, and chooses the exit code.
pub(crate) fn report(outcome: Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
}

/// `muniment search … | head` ends the reader first: that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
