//! `make bench`: each of our figures beside the raw engine's, measured in the same run, printed as one table.
//!
//! The absolute figures are for orientation, since machines differ and one machine differs from hour to hour;
//! the ratio to what stands beside is what counts. Rows are chosen with `make bench ROWS=journal,intake`.

#[path = "../generator.rs"]
mod generator;

mod bare;
mod blank;
mod columns;
mod database;
mod embedded;
mod encryption;
mod figures;
mod freshness;
mod input;
mod intake;
mod journal;
mod load;
mod memory;
mod networked;
mod process;
mod topic;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use figures::Line;

/// Where and how much to measure.
#[derive(Parser, Debug)]
struct Args {
    /// The rows to measure; all of them unless given
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Shorter runs on fewer events: for a look, not for a claim
    #[arg(long)]
    quick: bool,
    /// Events that the end-to-end rows carry
    #[arg(long)]
    events: Option<usize>,
    /// Address of a running Kafka
    #[arg(long, env = "MUNIMENT_TEST_KAFKA")]
    kafka: Option<String>,
    /// Address of a running Postgres
    #[arg(long, env = "MUNIMENT_TEST_POSTGRES")]
    postgres: Option<String>,
    /// Folder for everything that is written; removed afterwards. Its disk is what is measured
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Only listen on this address and answer without work: what intake is compared with
    #[arg(long, hide = true, value_name = "ADDRESS")]
    blank: Option<std::net::SocketAddr>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A group of lines of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Appending to the journal
    Journal,
    /// Taking events in over TLS
    Intake,
    /// From import to search on one machine, and what it takes on disk
    Embedded,
    /// From a full topic to Postgres and the index, what it takes on disk, and queries on it
    Networked,
    /// From sending to finding under a steady load
    Freshness,
    /// Encrypting values, by provider
    Encryption,
    /// Memory under a steady load, on the embedded engines
    Memory,
    /// The same on Kafka and Postgres
    MemoryNetworked,
}

impl Args {
    /// What full and quick runs take.
    fn full_or_quick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Events that the end-to-end rows carry.
    fn events(&self) -> usize {
        self.events.unwrap_or_else(|| self.full_or_quick(1_000_000, 100_000))
    }

    /// Rounds that ours and what stands beside it take in turn: the median of them counts.
    fn rounds(&self) -> usize {
        self.full_or_quick(3, 1)
    }

    /// Says how a round went: a whole run takes many minutes.
    fn tell(&self, round: usize, ours: f64, beside: f64) {
        eprintln!("round {} of {}: ours {ours:.0}/s, beside it {beside:.0}/s", round + 1, self.rounds());
    }

    /// An empty folder for one measurement.
    fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        Ok(tempfile::tempdir_in(&self.dir)?)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(address) = args.blank {
        return blank::serve(address, &args).await;
    }
    let rows = if args.rows.is_empty() { Row::value_variants().to_vec() } else { args.rows.clone() };
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        eprintln!("measuring {row:?} …");
        lines.extend(match row {
            Row::Journal => journal::measure(&args).await,
            Row::Intake => intake::measure(&args).await,
            Row::Embedded => embedded::measure(&args).await,
            Row::Networked => networked::measure(&args).await,
            Row::Freshness => freshness::measure(&args).await,
            Row::Encryption => encryption::measure(&args).await,
            Row::Memory => memory::measure(&args).await,
            Row::MemoryNetworked => memory::networked(&args).await,
        }?);
    }
    println!("\n{}{}\n", machine(), if args.quick { "; quick: shorter runs, for a look only" } else { "" });
    figures::print(&lines);
    Ok(())
}

/// The machine that the figures are of.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "{} × {}, Linux {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("unknown processor", |(_, name)| name.trim()),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
