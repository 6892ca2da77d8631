//! What a well-formed policy must also keep to, with the field paths that kube-apiserver reports.

use std::fmt;

use manifest::{Violation, is_subdomain, nearest};

use crate::event::{Level, Stage};

use super::{
    Policy, Resources, Rule, Stages,
    load::{PolicyText, ResourcesText, RuleText},
};

/// The policy, or everything that is wrong with it.
pub(super) fn policy(text: PolicyText) -> Result<Policy, Vec<Violation>> {
    let mut check = Check::default();
    let policy = Policy {
        omit_stages: check.stages("omitStages", text.omit_stages),
        omit_managed_fields: text.omit_managed_fields.unwrap_or_default(),
        rules: text.rules.into_iter().flatten().enumerate().map(|(i, rule)| check.rule(i, rule)).collect(),
    };
    if policy.rules.is_empty() {
        check.violated("rules", "required: a policy without rules records nothing");
    }
    if check.violations.is_empty() { Ok(policy) } else { Err(check.violations) }
}

#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn violated(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation { path: path.into(), message: message.into() });
    }

    fn rule(&mut self, i: usize, text: RuleText) -> Rule {
        let path = format!("rules[{i}]");
        let rule = Rule {
            level: self.level(&path, text.level),
            paths: self.paths(&path, text.non_resource_urls),
            resources: text
                .resources
                .into_iter()
                .flatten()
                .map(|resources| self.resources(&format!("{path}.resources"), resources))
                .collect(),
            users: text.users.unwrap_or_default(),
            groups: text.user_groups.unwrap_or_default(),
            verbs: text.verbs.unwrap_or_default(),
            namespaces: text.namespaces.unwrap_or_default(),
            omit_stages: self.stages(&format!("{path}.omitStages"), text.omit_stages),
            omit_managed_fields: text.omit_managed_fields,
        };
        if !rule.paths.is_empty() && rule.is_for_resources() {
            self.violated(
                format!("{path}.nonResourceURLs"),
                "a rule is for resources and namespaces, or for non-resource URLs, not for both",
            );
        }
        rule
    }

    fn level(&mut self, path: &str, name: Option<String>) -> Level {
        let path = format!("{path}.level");
        let name = name.unwrap_or_default();
        if name.is_empty() {
            self.violated(path, format!("required: one of {}", names(&Level::ALL)));
            return Level::None;
        }
        name.parse().unwrap_or_else(|_| {
            self.violated(path, unsupported(&name, &Level::ALL.map(Level::as_str)));
            Level::None
        })
    }

    fn stages(&mut self, path: &str, stages: Option<Vec<String>>) -> Stages {
        let known = |(i, name): (usize, String)| {
            let stage = name.parse().ok();
            if stage.is_none() {
                self.violated(format!("{path}[{i}]"), unsupported(&name, &Stage::ALL.map(Stage::as_str)));
            }
            stage
        };
        stages.into_iter().flatten().enumerate().filter_map(known).collect()
    }

    fn paths(&mut self, rule: &str, urls: Option<Vec<String>>) -> Vec<String> {
        let urls = urls.unwrap_or_default();
        for (i, url) in urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let path = format!("{rule}.nonResourceURLs[{i}]");
            if !url.starts_with('/') {
                self.violated(path.as_str(), format!("{url:?} must begin with \"/\", or be \"*\""));
            }
            if url.find('*').is_some_and(|star| star + 1 < url.len()) {
                self.violated(path, format!("{url:?} must have \"*\" only as its last character"));
            }
        }
        urls
    }

    fn resources(&mut self, path: &str, text: ResourcesText) -> Resources {
        let resources = Resources {
            group: text.group.unwrap_or_default(),
            resources: text.resources.unwrap_or_default(),
            names: text.resource_names.unwrap_or_default(),
        };
        let group = resources.group.as_str();
        if !matches!(group, "" | "*") && !is_subdomain(group) {
            let version = group.split_once('/').map(|(group, _)| format!("; the group alone is {group:?}"));
            self.violated(
                format!("{path}.group"),
                format!(
                    "{group:?} must be \"\", \"*\" or a DNS-1123 subdomain{}",
                    version.unwrap_or_default()
                ),
            );
        }
        if resources.resources.is_empty() && !resources.names.is_empty() {
            self.violated(format!("{path}.resourceNames"), "names need at least one entry in resources");
        }
        resources
    }
}

fn unsupported(name: &str, known: &[&str]) -> String {
    format!(
        "{name:?} is not supported, only {}; did you mean {:?}?",
        names(known),
        nearest(name, known).unwrap_or_default()
    )
}

fn names<T: fmt::Display>(known: &[T]) -> String {
    known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
