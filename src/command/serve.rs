//! `muniment serve`: runs until it is told to stop.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use ingest::time::Clock;

use crate::{
    assemble::{self, Running},
    chronicle,
    config::Config,
    grace::Grace,
    kubeconfig, supervise, telemetry,
};

/// Runs the server.
///
/// # Errors
/// When it cannot start, or a role of it fails.
pub(crate) fn run(config: Config) -> Result<ExitCode> {
    telemetry::log(&config.settings)?;
    let metrics = telemetry::metrics()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let grace = Grace::of(config.settings.grace_period);
    let outcome = runtime.block_on(async {
        let running = assemble::assemble(config.settings, metrics, Clock::system()).await?;
        announce(&running)?;
        serve(running, grace).await
    });
    // Blocking work that is still under way must not hold the process.
    runtime.shutdown_timeout(grace.close);
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(running: Running, grace: Grace) -> Result<()> {
    let Running { supervisor, data, journal, .. } = running;
    let clock = Clock::system();
    let outcome = supervisor.run(supervise::signals(), chronicle::stop(&journal, &clock), grace.tasks).await;
    data.unpublish();
    if tokio::time::timeout(grace.close, journal.close()).await.is_err() {
        tracing::warn!("the journal was not closed in time; the next start cuts what was not acknowledged");
    }
    outcome
}

/// Tells where it runs and what to try next. A token is shown on a terminal and once; logs never hold one.
fn announce(running: &Running) -> Result<()> {
    let data = running.data.path();
    let token_file = data.join("client.token");
    // What stands on standard output beside audit events would break whoever reads them.
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let is_terminal = !running.is_stdout_taken && stdout.is_terminal();
    let out: &mut dyn Write = if running.is_stdout_taken { &mut stderr } else { &mut stdout };
    writeln!(out, "muniment is running\n")?;
    writeln!(out, "  URL          {}", running.url)?;
    writeln!(out, "  data folder  {}", data.display())?;
    writeln!(out, "  token        {}", token_file.display())?;
    if running.data.is_fresh() && is_terminal {
        let token = std::fs::read_to_string(&token_file).unwrap_or_default();
        writeln!(out, "               {} (shown this once)", token.trim())?;
    }
    writeln!(out, "  authority    {}", api::tls::authority_file(data).display())?;
    let folder = match data.file_name() {
        Some(name) if name == "muniment-data" => String::new(),
        _ => format!(" --data-dir {}", data.display()),
    };
    let program = program();
    writeln!(out, "\nTry next:\n")?;
    if running.serves_cluster {
        writeln!(out, "  export KUBECONFIG={}", shown(&data.join(kubeconfig::FILE)))?;
        writeln!(out, "  kubectl get namespaces")?;
    }
    writeln!(out, "  {program} search{folder} kind:pipeline")?;
    writeln!(out, "  {program} search{folder} --follow")?;
    writeln!(out, "  {program} token create{folder} --intake demo --kubeconfig\n")?;
    writeln!(out, "Logs that a kube-apiserver wrote are taken in by:\n")?;
    writeln!(out, "  {program} import{folder} --cluster demo FILE…\n")?;
    out.flush()?;
    Ok(())
}

/// A path as it is typed from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    relative.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// The program as it was called, so that what is printed can be pasted although it may not be on the search path.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "muniment".to_owned(), |name| name.display().to_string())
}
