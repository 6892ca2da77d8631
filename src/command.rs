//! One file for each subcommand.

pub(crate) mod admission;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod kms_plugin;
pub(crate) mod man;
pub(crate) mod policy;
pub(crate) mod rebuild;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod token;

/// Runs a client command's future on a small runtime.
///
/// # Errors
/// Those of the future, and when the runtime does not start.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// The same with a second thread, so that sending goes on while the next batch is prepared.
///
/// # Errors
/// Those of the future, and when the runtime does not start.
pub(crate) fn block_on_two<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(future)
}
