//! Whether rules allow all that others allow, so that nobody gives away what they do not have.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Rule;

/// How many single permissions are compared. More in one role is a mistake, or meant to keep the gateway busy.
const MAX_SINGLE: usize = 20_000;

/// One verb on one resource, perhaps of one name, or on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Single<'r> {
    Resource { group: &'r str, resource: &'r str, verb: &'r str, name: Option<&'r str> },
    Path { path: &'r str, verb: &'r str },
}

/// There are more than can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_SINGLE} permissions in one role cannot be compared with those of its giver")]
pub struct TooMany;

/// What `wanted` allows and `held` does not, as upstream writes it: one line each, sorted.
///
/// # Errors
/// When there is too much to compare.
pub fn missing(held: &[&Rule], wanted: &[Rule]) -> Result<Vec<String>, TooMany> {
    let singles: usize = wanted.iter().map(count).fold(0, usize::saturating_add);
    if singles > MAX_SINGLE {
        return Err(TooMany);
    }
    let uncovered =
        wanted.iter().flat_map(single).filter(|single| !held.iter().any(|rule| covers(rule, single)));
    Ok(describe(uncovered))
}

fn count(rule: &Rule) -> usize {
    let places = rule.api_groups.len().saturating_mul(rule.resources.len());
    let places = places.saturating_mul(rule.resource_names.len().max(1));
    places.saturating_add(rule.non_resource_urls.len()).saturating_mul(rule.verbs.len())
}

fn single(rule: &Rule) -> Vec<Single<'_>> {
    let names: Vec<Option<&str>> = match rule.resource_names.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let mut all = Vec::with_capacity(count(rule));
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                all.extend(names.iter().map(|&name| Single::Resource { group, resource, verb, name }));
            }
        }
        all.extend(rule.non_resource_urls.iter().map(|path| Single::Path { path, verb }));
    }
    all
}

fn covers(rule: &Rule, single: &Single<'_>) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
    match *single {
        Single::Resource { group, resource, verb, name } => {
            has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && (has(&rule.resources, resource) || covers_subresource(&rule.resources, resource))
                && (rule.resource_names.is_empty()
                    || name.is_some_and(|name| rule.resource_names.iter().any(|held| held == name)))
        }
        Single::Path { path, verb } => {
            has(&rule.verbs, verb)
                && rule.non_resource_urls.iter().any(|held| {
                    held == path || held.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
                })
        }
    }
}

/// `*/scale` is that subresource of every resource.
fn covers_subresource(held: &[String], wanted: &str) -> bool {
    let Some((_, subresource)) = wanted.split_once('/') else { return false };
    held.iter().any(|held| held.strip_prefix("*/") == Some(subresource))
}

/// Permissions on one thing share a line.
fn describe<'r>(uncovered: impl Iterator<Item = Single<'r>>) -> Vec<String> {
    let mut verbs: BTreeMap<(&str, &str, Option<&str>), Vec<&str>> = BTreeMap::new();
    let mut lines = Vec::new();
    for single in uncovered {
        match single {
            Single::Resource { group, resource, verb, name } => {
                let verbs = verbs.entry((group, resource, name)).or_default();
                if !verbs.contains(&verb) {
                    verbs.push(verb);
                }
            }
            Single::Path { path, verb } => {
                lines.push(format!("{{NonResourceURLs:[{path:?}], Verbs:[{verb:?}]}}"));
            }
        }
    }
    for ((group, resource, name), verbs) in verbs {
        let mut line = format!("{{APIGroups:[{group:?}], Resources:[{resource:?}]");
        if let Some(name) = name {
            let _ = write!(line, ", ResourceNames:[{name:?}]");
        }
        let _ = write!(line, ", Verbs:{}}}", quoted(&verbs));
        lines.push(line);
    }
    lines.sort();
    lines.dedup();
    lines
}

/// A list as Go prints it quoted.
pub fn quoted(words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{:?}", word.as_ref())).collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> Rule {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    fn lacks(held: &[Rule], wanted: Rule) -> Vec<String> {
        missing(&held.iter().collect::<Vec<_>>(), &[wanted]).unwrap()
    }

    #[test]
    fn what_is_not_held_is_named_and_what_is_held_is_not() {
        let held = [
            rule(&[""], &["pods", "*/scale"], &["get", "list"], &[]),
            rule(&[""], &["secrets"], &["get"], &["a"]),
        ];
        assert!(lacks(&held, rule(&[""], &["pods"], &["get"], &[])).is_empty());
        assert!(lacks(&held, rule(&[""], &["pods"], &["get"], &["p"])).is_empty());
        assert!(lacks(&held, rule(&[""], &["deployments/scale"], &["get"], &[])).is_empty());
        assert!(lacks(&held, rule(&[""], &["secrets"], &["get"], &["a"])).is_empty());
        assert_eq!(
            lacks(&held, rule(&["", "apps"], &["pods"], &["get", "watch", "delete"], &[])),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#,
                r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "watch" "delete"]}"#,
            ]
        );
        for wanted in [
            rule(&[""], &["secrets"], &["get"], &[]),
            rule(&[""], &["secrets"], &["get"], &["b"]),
            rule(&[""], &["*"], &["get"], &[]),
            rule(&[""], &["pods"], &["*"], &[]),
            rule(&["*"], &["pods"], &["get"], &[]),
            rule(&[""], &["pods/log"], &["get"], &[]),
        ] {
            assert_eq!(lacks(&held, wanted.clone()).len(), 1, "{wanted:?}");
        }
    }

    #[test]
    fn paths_are_covered_by_prefixes() {
        let paths = |paths: &[&str]| Rule {
            verbs: vec!["get".into()],
            non_resource_urls: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Rule::default()
        };
        assert!(lacks(&[paths(&["/api*"])], paths(&["/api", "/api/*", "/apis"])).is_empty());
        assert_eq!(
            lacks(&[paths(&["/api/"])], paths(&["/api/*"])),
            [r#"{NonResourceURLs:["/api/*"], Verbs:["get"]}"#]
        );
    }

    #[test]
    fn a_role_that_would_take_long_to_compare_is_refused() {
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let wanted =
            Rule { verbs: many.clone(), api_groups: many.clone(), resources: many, ..Rule::default() };
        assert_eq!(missing(&[], &[wanted]), Err(TooMany));
    }
}
