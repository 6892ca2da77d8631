//! `muniment import`: sends audit log files to the running server, and tells what became of them.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    client::{Client, ClientArgs},
    command::block_on_two,
    exit,
};

mod batch;
mod resume;
mod sender;
mod source;
mod summary;

use batch::Batches;
use resume::Bookmark;
use sender::{Patience, Sender};
use source::Source;
use summary::Summary;

/// Flags of `muniment import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The cluster that the events speak of
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// JSON lines, EventList or concatenated events, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Begin at the start even where an earlier import of the same file was interrupted
    #[arg(long)]
    restart: bool,
    /// Do not wait until the ledger has counted the duplicates
    #[arg(long)]
    no_wait: bool,
    /// How long a batch that the server cannot take is tried again before the import is given up
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = crate::settings::duration)]
    give_up_after: Duration,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Imports the files. The exit code tells whether an item was rejected.
///
/// # Errors
/// When a file cannot be read, or the server cannot be reached or refuses.
pub(crate) fn run(args: ImportArgs) -> Result<ExitCode> {
    let cluster: api::cluster::ClusterName = exit::usage(args.cluster.parse().map_err(anyhow::Error::from))?;
    let client = Client::find(&args.client)?;
    let summary = block_on_two(import(&client, &cluster.to_string(), &args))?;
    writeln!(std::io::stdout(), "{}", if args.json { summary.json() } else { summary.text() })?;
    Ok(if summary.rejected > 0 { ExitCode::from(exit::INCOMPLETE) } else { ExitCode::SUCCESS })
}

async fn import(client: &Client, cluster: &str, args: &ImportArgs) -> Result<Summary> {
    let mut summary = Summary::begin(client).await?;
    for file in &args.files {
        one_file(client, cluster, args, file, &mut summary).await?;
    }
    if !args.no_wait {
        summary.count_duplicates(client).await?;
    }
    summary.end();
    Ok(summary)
}

async fn one_file(
    client: &Client,
    cluster: &str,
    args: &ImportArgs,
    file: &std::path::Path,
    summary: &mut Summary,
) -> Result<()> {
    let mut source = Source::open(file)?;
    let mut bookmark = Bookmark::of(client, cluster, &source);
    let done = if args.restart { 0 } else { bookmark.items() };
    if done > 0 {
        eprintln!("{}: going on after item {done}, where an earlier import was interrupted", file.display());
        summary.skipped += done;
    }
    let bar = summary::progress(&source);
    let name = file.display().to_string();
    let mut sender = Sender::new(client, cluster, &name, Patience::new(args.give_up_after, bar.clone()));
    let mut batches = Batches::new(done);
    while let Some(batch) = batches.next(&mut source)? {
        bar.set_position(source.position());
        if let Some(end) = sender.send(batch, summary).await? {
            bookmark.save(end);
        }
    }
    while let Some(end) = sender.settle(summary).await? {
        bookmark.save(end);
    }
    bar.finish_and_clear();
    bookmark.remove();
    Ok(())
}
