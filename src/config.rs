//! The effective configuration: defaults, then the file, then `MUNIMENT_*` variables, then flags.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::settings::Settings;

/// What every variable of ours begins with.
const PREFIX: &str = "MUNIMENT_";

/// Variables that are not settings of `serve`: those of client commands, and the file's own.
const OTHER_VARIABLES: [&str; 4] = ["SERVER", "TOKEN", "CA", "CONFIG"];

/// What the variables of our tests begin with, which say where their engines are.
const TESTS: &str = "TEST_";

/// Flags of `muniment serve`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    /// Configuration file in YAML; its keys are the names of the flags
    #[arg(long, value_name = "FILE", env = "MUNIMENT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Everything that can be set
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File,
    /// A variable.
    Variable,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Variable => "variable",
            Self::Flag => "flag",
        })
    }
}

/// Settings, and where each came from.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The settings.
    pub(crate) settings: Settings,
    values: BTreeMap<String, (Vec<String>, Origin)>,
}

impl Config {
    /// Puts flags (as parsed by clap), variables and file together.
    ///
    /// # Errors
    /// When a source holds an unknown name or a value that does not read: the message says where and what is near.
    pub(crate) fn load(
        flags: &ArgMatches,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let mut layers = Vec::new();
        if let Some(path) = flags.get_one::<PathBuf>("config") {
            layers.push((Origin::File, parse(&file_args(path)?, &format!("{}", path.display()))?));
        }
        layers.push((Origin::Variable, parse(&variable_args(variables)?, "the environment")?));
        layers.push((Origin::Flag, flags.clone()));
        Self::merge(layers)
    }

    fn merge(layers: Vec<(Origin, ArgMatches)>) -> Result<Self> {
        let mut args = Vec::new();
        let mut values = BTreeMap::new();
        for key in keys() {
            let id = key.replace('-', "_");
            let given =
                layers.iter().rev().find(|(_, m)| m.value_source(&id) == Some(ValueSource::CommandLine));
            let Some((origin, matches)) = given else { continue };
            let raw = matches.get_raw(&id).into_iter().flatten().map(|v| v.to_string_lossy().into_owned());
            let raw: Vec<String> = raw.collect();
            args.extend(raw.iter().map(|value| format!("--{key}={value}")));
            values.insert(key, (raw, origin.clone()));
        }
        let matches = parse(&args, "the configuration")?;
        for key in keys() {
            let raw = matches.get_raw(&key.replace('-', "_")).into_iter().flatten();
            let raw: Vec<String> = raw.map(|v| v.to_string_lossy().into_owned()).collect();
            values.entry(key).or_insert((raw, Origin::Default));
        }
        Ok(Self { settings: Settings::from_arg_matches(&matches)?, values })
    }

    /// The effective configuration as a file that `--config` would take, each line with its origin, secrets hidden.
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        for (key, (values, origin)) in &self.values {
            let shown: Vec<String> = values.iter().map(|value| yaml(&hide_secret(key, value))).collect();
            let line = match shown.as_slice() {
                [] => format!("# {key}: (not set)"),
                [one] if !is_list(key) => format!("{key}: {one}  # {origin}"),
                many => format!("{key}: [{}]  # {origin}", many.join(", ")),
            };
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

fn command() -> Command {
    Settings::augment_args(Command::new("muniment").no_binary_name(true).disable_help_flag(true))
}

fn keys() -> Vec<String> {
    command().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

fn is_list(key: &str) -> bool {
    command()
        .get_arguments()
        .any(|arg| arg.get_long() == Some(key) && matches!(arg.get_action(), clap::ArgAction::Append))
}

fn parse(args: &[String], what: &str) -> Result<ArgMatches> {
    command().try_get_matches_from(args).map_err(|e| {
        let text = e.to_string();
        let first = text.trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned();
        anyhow!("{what}: {first}")
    })
}

/// The variables of ours as arguments.
fn variable_args(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<String>> {
    let mut args = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else { continue };
        if OTHER_VARIABLES.contains(&name) || name.starts_with(TESTS) {
            continue;
        }
        let key = name.to_ascii_lowercase().replace('_', "-");
        if !keys().contains(&key) {
            let near =
                nearest(name, keys().iter().map(|k| variable(k)).chain(OTHER_VARIABLES.map(String::from)));
            bail!("unknown variable {PREFIX}{name}; did you mean {PREFIX}{near}?");
        }
        let value = value.into_string().map_err(|_| anyhow!("{PREFIX}{name} is not UTF-8"))?;
        if is_list(&key) && key != "roles" && key != "tls-san" {
            args.extend(value.split(';').map(|v| format!("--{key}={}", v.trim())));
        } else {
            args.push(format!("--{key}={value}"));
        }
    }
    Ok(args)
}

/// Complains about unknown `MUNIMENT_*` variables, for commands that read only a few of them.
///
/// # Errors
/// Names the first unknown one and the nearest known one.
pub(crate) fn check_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<()> {
    variable_args(variables).map(drop)
}

fn variable(key: &str) -> String {
    key.to_ascii_uppercase().replace('-', "_")
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    known
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
        .unwrap_or_default()
}

/// The file's keys in order, each with its place.
struct Entries(Vec<(Spanned<String>, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }
        }
        d.deserialize_map(Map)
    }
}

fn file_args(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    text_args(&text, &path.display().to_string())
}

fn text_args(text: &str, name: &str) -> Result<Vec<String>> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let Entries(entries) = serde_saphyr::from_str(text).map_err(|e| anyhow!("{name}: {e}"))?;
    let mut args = Vec::new();
    for (key, value) in entries {
        let (line, key) = (key.referenced.line(), key.value);
        if !keys().contains(&key) {
            bail!(
                "{name}:{line}: unknown key {key:?}; did you mean {:?}?",
                nearest(&key, keys().into_iter())
            );
        }
        let own =
            flags_of(&key, &value).ok_or_else(|| anyhow!("{name}:{line}: {key} cannot hold {value}"))?;
        parse(&own, &format!("{name}:{line}")).map(drop).or_else(ignore_missing_partner)?;
        args.extend(own);
    }
    Ok(args)
}

/// A key that needs another one is checked once all of them are together.
fn ignore_missing_partner(error: anyhow::Error) -> Result<()> {
    if error.to_string().contains("required arguments were not provided") { Ok(()) } else { Err(error) }
}

fn flags_of(key: &str, value: &Value) -> Option<Vec<String>> {
    let flag = |text: String| format!("--{key}={text}");
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => items.iter().map(|item| scalar(item).map(flag)).collect(),
        Value::Object(members) => {
            members.iter().map(|(k, v)| scalar(v).map(|v| flag(format!("{k}={v}")))).collect()
        }
        one => scalar(one).map(|text| vec![flag(text)]),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// A value with what must not be shown replaced: passwords in URLs, and secret settings of the Kafka client.
pub(crate) fn hide_secret(key: &str, value: &str) -> String {
    const HIDDEN: &str = "[hidden]";
    if key == "kafka-config"
        && let Some((name, _)) = value.split_once('=')
        && ["password", "secret", "key.pem", "token", "jaas"].iter().any(|word| name.contains(word))
    {
        return format!("{name}={HIDDEN}");
    }
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let shown = match authority.rsplit_once('@').map(|(login, host)| (login.split_once(':'), host)) {
        Some((Some((user, _)), host)) => rest.replacen(authority, &format!("{user}:{HIDDEN}@{host}"), 1),
        _ => rest.to_owned(),
    };
    let (path, query) = shown.split_once('?').unwrap_or((&shown, ""));
    let query = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    });
    let query = query.collect::<Vec<_>>().join("&");
    format!("{scheme}://{path}{}{query}", if query.is_empty() { "" } else { "?" })
}

fn yaml(value: &str) -> String {
    let plain = !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(&b))
        && !value.starts_with('-');
    if plain { value.to_owned() } else { serde_json::to_string(value).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> ArgMatches {
        ConfigArgs::augment_args(Command::new("serve").no_binary_name(true))
            .try_get_matches_from(args)
            .unwrap()
    }

    fn load(args: &[&str], variables: &[(&str, &str)]) -> Result<Config> {
        Config::load(&flags(args), variables.iter().map(|(k, v)| (k.into(), v.into())))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let file = file("topic: from-file\npartitions: 9\nreplication: 2\n");
        let path = file.path().to_str().unwrap();
        let variables = [("MUNIMENT_PARTITIONS", "8"), ("MUNIMENT_TOPIC", "from-variable"), ("PATH", "x")];
        let config = load(&["--config", path, "--topic", "from-flag"], &variables).unwrap();
        assert_eq!(config.settings.topic, "from-flag");
        assert_eq!(config.settings.partitions, 8);
        assert_eq!(config.settings.replication, 2);
        assert_eq!(config.settings.retention_days, 400);
        let printed = config.print();
        assert!(printed.contains("partitions: 8  # variable"), "{printed}");
        assert!(printed.contains("replication: 2  # file"), "{printed}");
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        let file = file("# comment\ntopic: a\nbind-adress: 127.0.0.1:1\n");
        let error = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.ends_with(r#":3: unknown key "bind-adress"; did you mean "bind-address"?"#), "{error}");
    }

    #[test]
    fn a_value_that_does_not_read_names_its_line() {
        let file = file("topic: a\ngrace-period: soon\n");
        let error = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(
            error.contains(":2: ") && error.contains("soon") && error.contains("grace-period"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_variable_is_an_error_that_names_the_nearest() {
        let error = load(&[], &[("MUNIMENT_DATADIR", "x")]).unwrap_err().to_string();
        assert_eq!(error, "unknown variable MUNIMENT_DATADIR; did you mean MUNIMENT_DATA_DIR?");
    }

    #[test]
    fn a_map_in_the_file_becomes_pairs_and_its_secrets_are_hidden() {
        let text = "kafka-config:\n  security.protocol: SASL_SSL\n  sasl.password: hunter2\n\
                    postgres: postgres://me:hunter2@db/muniment?sslpassword=hunter2\naccept-gap: true\n\
                    roles: [intake, recorder]\n";
        let file = file(text);
        let config = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap();
        assert_eq!(config.settings.kafka_config.len(), 2);
        assert_eq!(config.settings.roles.len(), 2);
        assert!(config.settings.accept_gap);
        let printed = config.print();
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("me:[hidden]@db/muniment"), "{printed}");
    }

    #[test]
    fn what_is_printed_reads_back_as_a_file() {
        let printed = load(&["--tls-san", "a,b", "--journal-max-bytes", "1MiB"], &[]).unwrap().print();
        let file = file(&printed);
        let again = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap();
        assert_eq!(again.settings.tls_san, ["a", "b"]);
        assert_eq!(again.settings.journal_max_bytes, 1 << 20);
    }
}
