//! Rules for the names of resources.

use std::collections::HashSet;

use super::{Check, Entry};
use crate::resource::GroupResource;

/// What is stored without a REST interface.
const WITHOUT_INTERFACE: [&str; 3] =
    ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

/// Names of one list that mean the same, or of which one includes another.
pub(super) fn overlap(check: &mut Check, path: &str, names: &[String]) {
    let rules: Vec<_> = names.iter().map(|name| GroupResource::from(name.as_str())).collect();
    let unique: HashSet<_> = rules.iter().collect();
    if unique.len() < rules.len() {
        check.violated(path, "a resource is named more than once");
    }
    let everything = GroupResource::everything();
    let whole = |rule: &GroupResource| rule.resource == "*" && *rule != everything;
    // One `*.*` includes whatever differs from it; `*.group` includes the others of its group.
    let all = unique.contains(&everything) && unique.len() > 1;
    let group = unique
        .iter()
        .any(|rule| whole(rule) && unique.iter().any(|other| other.group == rule.group && other != rule));
    // kube-apiserver compares each with each, so that it meets the pair of two equal wildcards a second time.
    let twice = unique
        .iter()
        .any(|rule| rule.resource == "*" && rules.iter().filter(|other| other == rule).count() > 1);
    if all || group || twice {
        check.violated(path, "resources overlap: one rule includes another of the same list");
    }
}

/// What may not be named at all.
pub(super) fn each(check: &mut Check, path: &str, names: &[String]) {
    for (j, name) in names.iter().enumerate() {
        if let Some(message) = refused(name) {
            check.violated(format!("{path}[{j}]"), format!("{name:?}: {message}"));
        }
    }
}

fn refused(name: &str) -> Option<&'static str> {
    if name.to_lowercase() != name {
        return Some("a resource has no capital letters");
    }
    if name == "*" {
        return Some("\"*.\" is every resource of the core group, \"*.*\" is everything");
    }
    if WITHOUT_INTERFACE.contains(&name) {
        return Some("what has no REST interface cannot be encrypted");
    }
    let rule = GroupResource::from(name);
    match (rule.resource.as_str(), rule.group.as_str()) {
        (_, "events.k8s.io") => Some("events are stored in the core group; use \"events\""),
        (_, "extensions") => Some("the group \"extensions\" is gone and stores nothing"),
        ("*", "*") => None,
        (_, "*") => Some("a resource cannot be encrypted across groups"),
        _ => None,
    }
}

/// Rules behind an earlier one that includes them: they would never be looked at.
pub(super) fn masked(check: &mut Check, entries: &[Entry]) {
    let mut earlier = HashSet::new();
    let named = entries
        .iter()
        .enumerate()
        .flat_map(|(i, entry)| entry.resources.iter().enumerate().map(move |(j, rule)| (i, j, rule)));
    for (i, j, rule) in named {
        let wider = [rule.whole_group(), GroupResource::everything()];
        if let Some(wider) = wider.iter().find(|wider| earlier.contains(*wider)) {
            let message = format!("\"{rule}\" is masked by the earlier rule \"{wider}\"");
            check.violated(format!("resources[{i}].resources[{j}]"), message);
        }
        earlier.insert(rule.clone());
    }
}
