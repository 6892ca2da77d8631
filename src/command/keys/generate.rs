//! `muniment keys generate`: a file with a fresh key, for its owner only.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use crypto::{EncryptionConfig, KeyBytes, KeyFile};
use manifest::Refused;
use zeroize::Zeroizing;

use crate::{exit, flaws};

/// The length of a key; every provider takes it.
const KEY: usize = 32;

#[derive(Args, Debug)]
pub(super) struct GenerateArgs {
    /// The file to write; it must not be there
    file: PathBuf,
    /// What the key is for
    #[arg(long, value_enum, default_value_t = Provider::Aesgcm)]
    provider: Provider,
    /// A resource to encrypt, given once for each: secrets, deployments.apps, *.apps
    #[arg(long = "resource", value_name = "RESOURCE", default_value = "secrets")]
    resources: Vec<String>,
    /// The key's name, which is stored with each value; no two keys may ever share one
    #[arg(long, default_value = "key1")]
    name: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Provider {
    /// AES-GCM: authenticated, and bound to the place of the value
    Aesgcm,
    /// AES-CBC: not authenticated; for API servers that have nothing else
    Aescbc,
    /// XSalsa20 with Poly1305: authenticated
    Secretbox,
    /// No configuration but a key file, for `muniment kms-plugin`
    KeyFile,
}

/// Writes the file.
///
/// # Errors
/// When it is there already or cannot be written.
pub(super) fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let text = args.text(&KeyBytes::random(KEY)?);
    // What was made is read as a server will read it, so that a name that cannot be used is found here.
    if let Err(error) = args.check(&text) {
        let flaws = flaws::lines(&args.file, &error);
        return exit::usage(Err(anyhow::anyhow!("no file was written: {}", flaws.trim_end())));
    }
    write(&args.file, &text).with_context(|| format!("{} cannot be made", args.file.display()))?;
    writeln!(io::stdout(), "{}: written, mode 0600", args.file.display())?;
    Ok(ExitCode::SUCCESS)
}

impl GenerateArgs {
    fn text(&self, key: &KeyBytes) -> Zeroizing<String> {
        let secret = key.to_base64();
        let name = quoted(&self.name);
        let key = |indent: &str| {
            Zeroizing::new(format!("{indent}- name: {name}\n{indent}  secret: \"{}\"\n", *secret))
        };
        let provider = match self.provider {
            Provider::Aesgcm => "aesgcm",
            Provider::Aescbc => "aescbc",
            Provider::Secretbox => "secretbox",
            Provider::KeyFile => {
                return Zeroizing::new(format!(
                    "apiVersion: muniment.io/v1\nkind: KeyFile\nkeys:\n{}",
                    *key("")
                ));
            }
        };
        let resources: String = self.resources.iter().map(|name| format!("  - {}\n", quoted(name))).collect();
        Zeroizing::new(format!(
            "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
{resources}  providers:
  - {provider}:
      keys:
{}  # Reads what was stored before there was a key. Take it out when everything has been written anew.
  - identity: {{}}
",
            *key("      ")
        ))
    }

    fn check(&self, text: &str) -> Result<(), Refused> {
        match self.provider {
            Provider::KeyFile => KeyFile::from_bytes(text.as_bytes()).map(|_| ()),
            _ => EncryptionConfig::from_bytes(text.as_bytes(), true).map(|_| ()),
        }
    }
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Durable when it returns. A file that could not be written whole is taken away.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    if written.is_err() {
        std::fs::remove_file(path)?;
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;
    use crypto::{EncryptionTransformer, Readers};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        generate: GenerateArgs,
    }

    fn args(path: &Path, flags: &[&str]) -> GenerateArgs {
        Cli::parse_from([&["generate", path.to_str().unwrap()], flags].concat()).generate
    }

    #[test]
    fn a_generated_configuration_encrypts_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        for provider in ["aesgcm", "aescbc", "secretbox"] {
            let path = dir.path().join(provider);
            run(&args(&path, &["--provider", provider, "--resource", "configmaps", "--name", "a"])).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let config = EncryptionConfig::from_file(&path, Readers::Owner, false).unwrap();
            let transformer = EncryptionTransformer::from_config(config).unwrap();
            let stored = transformer.encrypt_for_resource("configmaps", b"v").unwrap();
            assert!(stored.starts_with(format!("k8s:enc:{provider}:v1:a:").as_bytes()));
        }
    }

    #[test]
    fn each_key_is_fresh_and_a_file_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        for path in &paths {
            run(&args(path, &["--provider", "key-file"])).unwrap();
            KeyFile::from_file(path, Readers::Owner).unwrap();
        }
        let texts = paths.each_ref().map(|path| std::fs::read_to_string(path).unwrap());
        assert_ne!(texts[0], texts[1]);
        assert!(run(&args(&paths[0], &[])).is_err());
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), texts[0]);
    }

    #[test]
    fn names_that_cannot_be_used_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("enc.yaml");
        for flags in [["--resource", "Secrets"], ["--resource", "*"], ["--name", ""]] {
            let error = run(&args(&path, &flags)).unwrap_err();
            assert!(error.to_string().contains("resources[0]."), "{error}");
            assert!(!path.exists());
        }
    }
}
