//! The `muniment` binary: one command line for the server and for the tools around it.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod allocator;
mod assemble;
mod bodies;
mod checks;
mod chronicle;
mod client;
mod client_token;
mod cluster;
mod command;
mod config;
mod connect;
mod data_folder;
mod deployment_key;
mod encryption;
mod engines;
mod exit;
mod flaws;
mod grace;
mod identities;
mod inputs;
mod key_wear;
mod kubeconfig;
mod lag;
mod listener;
mod mender;
mod outputs;
mod retention;
mod settings;
mod supervise;
mod table;
mod telemetry;

/// Event-sourced audit and compliance pipeline for Kubernetes-style APIs
#[derive(Parser, Debug)]
#[command(name = "muniment", version, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run; without flags: embedded, ./muniment-data, TLS with a certificate of its own
    Serve(config::ConfigArgs),
    /// Print the effective configuration, secrets hidden
    Config(config::ConfigArgs),
    /// Send audit log files into the pipeline
    Import(command::import::ImportArgs),
    /// Find events
    Search(command::search::SearchArgs),
    /// Make, list and revoke tokens
    Token(command::token::TokenArgs),
    /// Check an audit policy, and explain which rule a request falls under
    Policy(command::policy::PolicyArgs),
    /// Say what admission decides about manifests, without a cluster
    Admission(command::admission::AdmissionArgs),
    /// Check and make keys for encryption at rest
    Keys(command::keys::KeysArgs),
    /// Serve a key file to API servers as a KMS v2 plugin
    KmsPlugin(command::kms_plugin::KmsPluginArgs),
    /// Make the search index anew from the ledger while queries go on
    Rebuild(command::rebuild::RebuildArgs),
    /// Print a completion script for a shell
    Completions(command::completions::CompletionsArgs),
    /// Write man pages into a folder
    Man(command::man::ManArgs),
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    let flags = matches.subcommand().map(|(_, flags)| flags.clone()).unwrap_or_default();
    exit::report(run(cli, &flags))
}

fn run(cli: Cli, flags: &clap::ArgMatches) -> anyhow::Result<ExitCode> {
    let variables = std::env::vars_os();
    match cli.command {
        Command::Serve(_) => command::serve::run(exit::usage(config::Config::load(flags, variables))?),
        Command::Config(_) => command::config::run(&exit::usage(config::Config::load(flags, variables))?),
        other => {
            exit::usage(config::check_variables(variables))?;
            run_tool(other)
        }
    }
}

fn run_tool(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Import(args) => command::import::run(args),
        Command::Search(args) => command::search::run(args),
        Command::Token(args) => command::token::run(args),
        Command::Policy(args) => command::policy::run(args),
        Command::Admission(args) => command::admission::run(args),
        Command::Keys(args) => command::keys::run(args),
        Command::KmsPlugin(args) => command::kms_plugin::run(&args),
        Command::Rebuild(args) => command::rebuild::run(args),
        Command::Completions(args) => command::completions::run(args, &mut Cli::command()),
        Command::Man(args) => command::man::run(&args, Cli::command()),
        Command::Serve(_) | Command::Config(_) => Ok(ExitCode::SUCCESS),
    }
}
