//! One rule of a role, and whether a request falls under it.

use serde::{Deserialize, Deserializer, Serialize};

/// What a role allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `*` is every verb.
    #[serde(deserialize_with = "listed")]
    pub verbs: Vec<String>,
    /// `*` is every group.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "listed")]
    pub api_groups: Vec<String>,
    /// `*` is every resource with its subresources, `*/scale` is that subresource of every resource.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "listed")]
    pub resources: Vec<String>,
    /// Empty is every name.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "listed")]
    pub resource_names: Vec<String>,
    /// Paths; a star at the end stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "listed")]
    pub non_resource_urls: Vec<String>,
}

/// A list, which objects may also write as null.
pub fn listed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What is asked of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRequest<'a> {
    /// Something about a resource.
    Resource {
        /// Kubernetes' verb.
        verb: &'a str,
        /// Its group.
        group: &'a str,
        /// Its plural.
        resource: &'a str,
        /// Empty for the resource itself.
        subresource: &'a str,
        /// Empty where the request names none.
        name: &'a str,
    },
    /// Something else.
    Path {
        /// The method in lower case.
        verb: &'a str,
        /// Without the query.
        path: &'a str,
    },
}

impl Rule {
    /// Whether the rule allows it.
    pub fn allows(&self, request: &RuleRequest<'_>) -> bool {
        match *request {
            RuleRequest::Resource { verb, group, resource, subresource, name } => {
                has(&self.verbs, verb)
                    && has(&self.api_groups, group)
                    && self.resources.iter().any(|r| covers(r, resource, subresource))
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
            RuleRequest::Path { verb, path } => {
                has(&self.verbs, verb) && self.non_resource_urls.iter().any(|u| covers_path(u, path))
            }
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn covers(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((r, s)) => !subresource.is_empty() && s == subresource && (r == "*" || r == resource),
    }
}

fn covers_path(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| {
            text.split_whitespace().map(|w| if w == "core" { "" } else { w }.to_owned()).collect()
        };
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    #[test]
    fn rules_cover_what_their_words_say() {
        let ask = |verb, group, resource, subresource, name| RuleRequest::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
        };
        let cases = [
            (rule("get", "core", "pods", ""), ask("get", "", "pods", "", "a"), true),
            (rule("get", "core", "pods", ""), ask("get", "", "pods", "log", "a"), false),
            (rule("get", "core", "pods/log", ""), ask("get", "", "pods", "log", "a"), true),
            (rule("get", "core", "*/log", ""), ask("get", "", "pods", "log", "a"), true),
            (rule("get", "core", "*/log", ""), ask("get", "", "pods", "", "a"), false),
            (rule("*", "*", "*", ""), ask("watch", "apps", "deployments", "scale", ""), true),
            (rule("get", "apps", "pods", ""), ask("get", "", "pods", "", ""), false),
            (rule("get", "core", "pods", "b"), ask("get", "", "pods", "", "a"), false),
            (rule("create", "core", "pods", "b"), ask("create", "", "pods", "", ""), false),
            (rule("", "core", "pods", ""), ask("get", "", "pods", "", ""), false),
        ];
        for (rule, request, expected) in cases {
            assert_eq!(rule.allows(&request), expected, "{rule:?} {request:?}");
        }
    }

    #[test]
    fn a_list_may_be_null() {
        let rule: Rule =
            serde_json::from_str(r#"{"verbs":["get"],"apiGroups":null,"resources":["*"]}"#).unwrap();
        assert_eq!((rule.verbs.len(), rule.api_groups.len(), rule.resources.len()), (1, 0, 1));
    }

    #[test]
    fn paths_are_covered_by_themselves_and_by_stars() {
        let rule = Rule {
            verbs: vec!["get".into()],
            non_resource_urls: vec!["/healthz".into(), "/api/*".into()],
            ..Rule::default()
        };
        let ask = |path| rule.allows(&RuleRequest::Path { verb: "get", path });
        assert!(ask("/healthz") && ask("/api/v1"));
        assert!(!ask("/healthz/x") && !ask("/api") && !ask("/version"));
    }
}
