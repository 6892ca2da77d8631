//! `muniment policy`: checks an audit policy, and says which of its rules a request falls under.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use ingest::{
    from_file::{FromFile, LoadError},
    policy::{Attributes, Loaded, Policy, Target},
};

use crate::flaws;

/// Flags of `muniment policy`.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Say whether a file is a valid policy, and everything that is wrong with it
    Check {
        /// A policy in YAML or JSON
        file: PathBuf,
    },
    /// Say which rule a request falls under, and why it does not fall under the ones before
    Explain(Box<ExplainArgs>),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["resource", "path"])))]
struct ExplainArgs {
    /// A policy in YAML or JSON
    file: PathBuf,
    /// The authenticated user: system:anonymous for nobody; impersonation does not count
    #[arg(long)]
    user: String,
    /// A group of the user, given once for each; none is added, not even system:authenticated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The Kubernetes verb (get, list, create, …); for a path the HTTP method in lower case
    #[arg(long)]
    verb: String,
    /// The resource, in the plural; pods/log names the subresource too
    #[arg(long)]
    resource: Option<String>,
    /// The subresource
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "path")]
    subresource: String,
    /// The API group without its version; none is the core group
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "path")]
    api_group: String,
    /// The namespace
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "path")]
    namespace: String,
    /// The object's name
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "path")]
    name: String,
    /// The path of a request that is for no resource, such as /readyz
    #[arg(long)]
    path: Option<String>,
}

/// Runs the command. A policy that is refused is a failure with a line for each of its flaws.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn run(args: PolicyArgs) -> Result<ExitCode> {
    let file = match &args.action {
        Action::Check { file } => file,
        Action::Explain(args) => &args.file,
    };
    let loaded = match Loaded::from_file(file) {
        Ok(loaded) => loaded,
        Err(LoadError::Refused { source, .. }) => {
            std::io::stderr().write_all(flaws::lines(file, &source).as_bytes())?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let text = match &args.action {
        Action::Check { .. } => valid(file, &loaded),
        Action::Explain(args) => explained(&loaded.policy, &args.attributes()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn valid(file: &Path, loaded: &Loaded) -> String {
    let count = loaded.policy.rules.len();
    let rules = if count == 1 { "rule" } else { "rules" };
    format!("{}: valid, {count} {rules}, sha256 {}\n", file.display(), loaded.hash)
}

impl ExplainArgs {
    fn attributes(&self) -> Attributes<'_> {
        let groups = self.groups.iter().map(String::as_str).collect();
        Attributes { user: &self.user, groups, verb: &self.verb, target: self.target() }
    }

    fn target(&self) -> Target<'_> {
        let Some(resource) = &self.resource else {
            let path = self.path.as_deref().unwrap_or_default();
            return Target::Path(path.split_once('?').map_or(path, |(path, _)| path));
        };
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, &self.subresource));
        // What an API server takes from the URL: a Namespace lies in itself, and a new object has no name yet.
        let name = if self.verb == "create" && subresource.is_empty() { "" } else { &self.name };
        let own = self.namespace.is_empty() && self.api_group.is_empty() && resource == "namespaces";
        let namespace = if own { name } else { &self.namespace };
        Target::Resource { group: &self.api_group, resource, subresource, namespace, name }
    }
}

fn explained(policy: &Policy, request: &Attributes<'_>) -> String {
    let explanation = policy.explain(request);
    let decision = explanation.decision;
    let mut text = match decision.rule {
        Some(rule) => format!("rules[{rule}] decides: level {}\n", decision.level),
        None => format!("no rule matches: level {}, nothing is recorded\n", decision.level),
    };
    let stages: Vec<_> = decision.omit_stages.iter().map(|stage| stage.as_str()).collect();
    if !stages.is_empty() {
        text.push_str(&format!("stages left out: {}\n", stages.join(", ")));
    }
    if decision.omit_managed_fields {
        text.push_str("managed fields are left out of bodies\n");
    }
    for (i, mismatch) in explanation.passed.iter().enumerate() {
        text.push_str(&format!("rules[{i}] does not match: {mismatch}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        policy: PolicyArgs,
    }

    const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: [/readyz*]
- level: Metadata
  userGroups: [ops]
- level: Request
  resources: [{group: '', resources: [pods/log]}]
- level: None
  namespaces: [kube-system]
  resources: [{group: '', resources: [namespaces]}]
";

    fn explain(flags: &str) -> String {
        let words = "policy explain x.yaml".split(' ').chain(flags.split(' '));
        let Action::Explain(args) = Cli::try_parse_from(words).unwrap().policy.action else {
            panic!("explain was asked for")
        };
        explained(&Loaded::from_bytes(POLICY.as_bytes()).unwrap().policy, &args.attributes())
    }

    #[test]
    fn the_deciding_rule_stands_first_and_the_earlier_ones_say_why_not() {
        assert_eq!(
            explain(
                "--user a --group dev --verb get --resource pods --subresource log --namespace x --name web"
            ),
            "rules[2] decides: level Request
stages left out: RequestReceived
managed fields are left out of bodies
rules[0] does not match: the rule is for non-resource URLs, the request is for a resource
rules[1] does not match: the user is in none of the groups \"ops\"
"
        );
        assert_eq!(
            explain("--user a --verb get --resource pods/log"),
            explain("--user a --verb get --resource pods --subresource log")
        );
    }

    #[test]
    fn a_path_is_taken_without_its_query() {
        assert!(
            explain("--user a --verb get --path /readyz/etcd?verbose")
                .starts_with("rules[0] decides: level None\n")
        );
    }

    #[test]
    fn a_namespace_lies_in_itself_and_a_created_object_has_no_name() {
        let flags = "--user a --resource namespaces --name kube-system --verb";
        assert!(explain(&format!("{flags} get")).starts_with("rules[3] decides"));
        let none = explain(&format!("{flags} create"));
        assert!(none.starts_with("no rule matches: level None, nothing is recorded\n"), "{none}");
        assert!(
            none.ends_with("rules[3] does not match: the namespace is not one of \"kube-system\"\n"),
            "{none}"
        );
    }

    #[test]
    fn a_request_is_for_a_resource_or_for_a_path() {
        for flags in [
            "--user a --verb get",
            "--user a --verb get --resource a --path /b",
            "--user a --verb get --path /b --name x",
        ] {
            let words = "policy explain x.yaml".split(' ').chain(flags.split(' '));
            assert!(
                Cli::command().try_get_matches_from(words).and_then(|m| Cli::from_arg_matches(&m)).is_err(),
                "{flags}"
            );
        }
    }

    #[test]
    fn flaws_are_lines_with_the_file_before_them() {
        let flawed =
            |text: &str| flaws::lines(Path::new("x.yaml"), &Loaded::from_bytes(text.as_bytes()).unwrap_err());
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        assert_eq!(
            flawed(&format!("{head}rule: []\n")),
            "x.yaml:3:1: unknown field \"rule\"; did you mean \"rules\"?\n"
        );
        let two = flawed(&format!("{head}omitStages: [x]\nrules: []\n"));
        assert_eq!(two.lines().count(), 2, "{two}");
        assert!(two.lines().all(|line| line.starts_with("x.yaml: ")), "{two}");
        assert_eq!(flawed(""), "x.yaml: the policy is empty\n");
    }

    #[test]
    fn a_valid_file_is_shown_with_its_hash() {
        let loaded = Loaded::from_bytes(POLICY.as_bytes()).unwrap();
        assert_eq!(
            valid(Path::new("x.yaml"), &loaded),
            format!("x.yaml: valid, 4 rules, sha256 {}\n", loaded.hash)
        );
    }
}
