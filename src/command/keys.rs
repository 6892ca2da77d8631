//! `muniment keys`: checks configurations of encryption at rest, makes fresh keys, and shows and rotates those in use.

mod advice;
mod days;
mod generate;
mod status;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Subcommand};
use crypto::{EncryptionConfig, EncryptionTransformer, LoadError, Readers, config::ProviderConfig};

use crate::flaws;

/// Flags of `muniment keys`.
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say whether a file is a valid encryption configuration, and everything that is wrong with it
    Check(CheckArgs),
    /// Write a new file with a fresh key; one that is there is never touched
    Generate(generate::GenerateArgs),
    /// Show how many stored values lie under which key
    Status(status::StatusArgs),
    /// Write everything anew that lies under an old key, and prove that nothing is left
    Rotate(status::RotateArgs),
    /// Show the keys that seal the bodies of events, day by day
    Days(days::DaysArgs),
    /// Drop the key of a day: its request and response bodies are gone for good
    Shred(days::ShredArgs),
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// An EncryptionConfiguration in YAML or JSON
    file: PathBuf,
    /// Take a file that others than its owner can open
    #[arg(long)]
    allow_exposed_keys: bool,
    /// Check what must hold where the file is read again while it is in force
    #[arg(long)]
    reload: bool,
}

/// Runs the command. A configuration that is refused is a failure with a line for each of its flaws.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run(args: KeysArgs) -> Result<ExitCode> {
    match args.action {
        Action::Check(args) => check(&args),
        Action::Generate(args) => generate::run(&args),
        Action::Status(args) => status::run(&args),
        Action::Rotate(args) => status::rotate(&args),
        Action::Days(args) => days::run(&args),
        Action::Shred(args) => days::shred(&args),
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let readers = if args.allow_exposed_keys { Readers::Anybody } else { Readers::Owner };
    let flaws = match EncryptionConfig::from_file(&args.file, readers, args.reload) {
        Ok(config) => {
            let shown = valid(&args.file, &config);
            match EncryptionTransformer::from_config(config) {
                Ok(_) => {
                    std::io::stdout().write_all(shown.as_bytes())?;
                    return Ok(ExitCode::SUCCESS);
                }
                Err(error) => format!("{}: {error}\n", args.file.display()),
            }
        }
        Err(LoadError::Refused { source, .. }) => flaws::lines(&args.file, &source),
        Err(error @ LoadError::Exposed { .. }) => format!("{error} (or give --allow-exposed-keys)\n"),
        Err(error) => return Err(error.into()),
    };
    std::io::stderr().write_all(flaws.as_bytes())?;
    Ok(ExitCode::FAILURE)
}

/// What writes which resources; never a key.
fn valid(file: &Path, config: &EncryptionConfig) -> String {
    let mut text = format!("{}: valid, sha256 {}\n", file.display(), config.hash);
    for entry in &config.entries {
        let resources: Vec<_> = entry.resources.iter().map(ToString::to_string).collect();
        let readers: Vec<_> = entry.providers.iter().map(provider).collect();
        let (writer, others) =
            readers.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        text.push_str(&format!("{}: written by {writer}", resources.join(", ")));
        if !others.is_empty() {
            text.push_str(&format!("; read by {} too", others.join(", ")));
        }
        text.push('\n');
    }
    text
}

fn provider(provider: &ProviderConfig) -> String {
    let keys = |label: &str, keys: &[crypto::config::Key]| {
        let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        format!("{label} ({})", names.join(", "))
    };
    match provider {
        ProviderConfig::Identity => "identity (in the clear)".to_owned(),
        ProviderConfig::AesGcm(list) => keys("aesgcm", list),
        ProviderConfig::AesCbc(list) => keys("aescbc", list),
        ProviderConfig::Secretbox(list) => keys("secretbox", list),
        ProviderConfig::Kms(plugin) => format!("kms ({})", plugin.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_file_says_what_writes_and_what_reads() {
        let text = "{apiVersion: v1, kind: EncryptionConfig, resources: [
          {resources: [secrets, '*.apps'], providers: [
            {aesgcm: {keys: [{name: new, secret: c2VjcmV0IGlzIHNlY3VyZQ==}, {name: old, secret: dGhpcyBpcyBwYXNzd29yZA==}]}},
            {kms: {apiVersion: v2, name: vault, endpoint: 'unix:///v'}}, {identity: {}}]},
          {resources: ['*.'], providers: [{identity: {}}]}]}";
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        assert_eq!(
            valid(Path::new("enc.yaml"), &config),
            format!(
                "enc.yaml: valid, sha256 {}
secrets, *.apps: written by aesgcm (new, old); read by kms (vault), identity (in the clear) too
*.: written by identity (in the clear)
",
                config.hash
            )
        );
    }
}
