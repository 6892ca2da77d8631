//! Loading, validation and matching of audit policies, also against what a real kube-apiserver recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Deserialize;

use super::*;
use crate::{
    event::{Level, Stage},
    from_file::{FromFile, MAX_FILE_BYTES},
    skipped::skipped,
};

fn load(text: &str) -> Result<Policy, PolicyError> {
    Loaded::from_bytes(text.as_bytes()).map(|loaded| loaded.policy)
}

fn policy(rules: &str) -> Policy {
    load(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}")).unwrap()
}

fn refusal(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

#[test]
fn yaml_and_json_give_the_same_policy() {
    let yaml = policy(
        "metadata: {name: x, labels: {a: b}}\nomitStages: [Panic]\nomitManagedFields: true\nrules:\n- level: Metadata\n  users: [a]\n  resources:\n  - group: \"\"\n    resources: [pods/log]\n",
    );
    let json = load(
        "{\n\t\"apiVersion\": \"audit.k8s.io/v1\", \"kind\": \"Policy\", \"omitStages\": [\"Panic\"],\n\t\"omitManagedFields\": true,\n\t\"rules\": [{\"level\": \"Metadata\", \"users\": [\"\\u0061\"], \"resources\": [{\"group\": \"\", \"resources\": [\"pods\\/log\"]}]}]\n}\n",
    );
    assert_eq!(json.unwrap(), yaml);
    assert_eq!(yaml.omit_stages.iter().collect::<Vec<_>>(), [Stage::Panic]);
}

#[test]
fn null_is_the_same_as_absent() {
    let rule =
        &policy("rules:\n- level: None\n  users:\n  resources: null\n  omitManagedFields: null\n").rules[0];
    assert!(rule.users.is_empty() && rule.resources.is_empty() && rule.omit_managed_fields.is_none());
}

#[test]
fn what_is_malformed_is_refused_with_place_and_remedy() {
    let text = |rest: &str| format!("{HEAD}{rest}");
    for (text, expected) in [
        (
            text("rules:\n- level: Metadata\n  verb: [get]\n"),
            "5:3: unknown field \"verb\"; did you mean \"verbs\"?",
        ),
        (
            text("rules:\n- level: Metadata\n  resources:\n  - group: \"\"\n    verbs: [get]\n"),
            "7:5: \"verbs\" does not belong here, it is a field of a rule",
        ),
        (
            text("rules:\n- level: Metadata\nrule: []\n"),
            "5:1: unknown field \"rule\"; did you mean \"rules\"?",
        ),
        (text("rules:\n- level: Metadata\n  level: None\n"), "5:3: \"level\" is given twice"),
        (text("rules: []\nrules: []\n"), "4:1: \"rules\" is given twice"),
        (
            "{\"apiVersion\":\"audit.k8s.io/v1\",\"kind\":\"Policy\",\n \"rules\":[{\"Level\":\"None\"}]}"
                .into(),
            "2:12: unknown field \"Level\"; did you mean \"level\"?",
        ),
        (
            "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]\n".into(),
            "1:13: apiVersion is \"audit.k8s.io/v1beta1\", but only \"audit.k8s.io/v1\" is supported",
        ),
        (
            "apiVersion: audit.k8s.io/v1\nkind: Pod\nspec: {}\n".into(),
            "2:7: kind is \"Pod\", but only \"Policy\" is supported",
        ),
        ("kind: Policy\n".into(), "1:1: apiVersion is missing; it must be \"audit.k8s.io/v1\""),
        ("# nothing\n\n".into(), "the policy is empty"),
        (String::new(), "the policy is empty"),
    ] {
        assert_eq!(refusal(&text), expected, "{text}");
    }
    assert_eq!(
        Loaded::from_bytes(b"kind: \xff").unwrap_err().to_string(),
        "the policy is not UTF-8 from byte 6 on"
    );
    assert_eq!(
        Loaded::from_bytes(&vec![b' '; MAX_FILE_BYTES + 1]).unwrap_err(),
        PolicyError::TooLarge { what: "policy", max: MAX_FILE_BYTES }
    );
}

#[test]
fn wrong_types_and_broken_text_are_refused_with_their_place() {
    for (rest, place) in [
        ("rules: [", "3:"),
        ("rules: {}\n", "3:8: "),
        ("rules: [{level: Metadata, users: alice}]\n", "3:34: "),
        ("rules: [{level: Metadata, users: [1]}]\n", "3:35: "),
        ("omitManagedFields: maybe\nrules: [{level: Metadata}]\n", "3:20: "),
        ("rules: [{level: Metadata}]\n---\nrules: []\n", "5:1: a policy is one document"),
        ("a: &a [x]\nrules: [*a]\n", "3:1: "),
    ] {
        let message = refusal(&format!("{HEAD}{rest}"));
        assert!(message.starts_with(place) && !message.contains(" line "), "{rest}: {message}");
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_must_be_quoted() {
    for name in ["y", "on", "123", "1.5", "true", "null"] {
        refusal(&format!("{HEAD}rules: [{{level: Metadata, users: [{name}]}}]\n"));
        assert_eq!(
            policy(&format!("rules: [{{level: Metadata, users: ['{name}']}}]")).rules[0].users,
            [name]
        );
    }
}

#[test]
fn an_alias_stands_for_its_rule_and_a_merge_key_for_nothing() {
    let rules = policy("rules:\n- &r {level: None, users: [a]}\n- *r\n").rules;
    assert_eq!(rules[0], rules[1]);
    refusal(&format!("{HEAD}rules:\n- &r {{level: None}}\n- <<: *r\n"));
}

/// An alias bomb ends in an error, not in memory.
#[test]
fn aliases_do_not_multiply() {
    let mut text = format!("{HEAD}metadata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let one = format!("*a{}", i - 1);
        text.push_str(&format!("  a{i}: &a{i} [{}]\n", vec![one; 10].join(",")));
    }
    text.push_str("rules: [{level: None}]\n");
    refusal(&text);
}

#[test]
fn every_violation_is_told_at_once_with_its_field() {
    let Err(PolicyError::Invalid(violations)) = load(&format!(
        "{HEAD}omitStages: [RequestReceived, Received]
rules:
- users: [a]
- level: metadata
- level: None
  nonResourceURLs: ['*', '/a*', 'b', '/c*d', '']
- level: None
  resources: [{{group: rbac.authorization.k8s.io/v1}}, {{group: '*'}}, {{group: '', resourceNames: [x]}}]
- level: None
  namespaces: [x]
  nonResourceURLs: ['/x']
- level: Request
  omitStages: [ResponseStarted, Panik]
"
    )) else {
        panic!("is refused by its values")
    };
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    let stages = "only RequestReceived, ResponseStarted, ResponseComplete, Panic; did you mean";
    assert_eq!(
        told,
        [
            format!("omitStages[1]: \"Received\" is not supported, {stages} \"RequestReceived\"?"),
            "rules[0].level: required: one of None, Metadata, Request, RequestResponse".into(),
            "rules[1].level: \"metadata\" is not supported, only None, Metadata, Request, RequestResponse; did you mean \"Metadata\"?".into(),
            "rules[2].nonResourceURLs[2]: \"b\" must begin with \"/\", or be \"*\"".into(),
            "rules[2].nonResourceURLs[3]: \"/c*d\" must have \"*\" only as its last character".into(),
            "rules[2].nonResourceURLs[4]: \"\" must begin with \"/\", or be \"*\"".into(),
            "rules[3].resources.group: \"rbac.authorization.k8s.io/v1\" must be \"\", \"*\" or a DNS-1123 subdomain; the group alone is \"rbac.authorization.k8s.io\"".into(),
            "rules[3].resources.resourceNames: names need at least one entry in resources".into(),
            "rules[4].nonResourceURLs: a rule is for resources and namespaces, or for non-resource URLs, not for both".into(),
            format!("rules[5].omitStages[1]: \"Panik\" is not supported, {stages} \"Panic\"?"),
        ]
    );
    assert_eq!(
        refusal(&format!("{HEAD}rules: []\n")),
        "rules: required: a policy without rules records nothing"
    );
    assert_eq!(refusal(HEAD), "rules: required: a policy without rules records nothing");
}

fn pods<'a>(verb: &'a str, subresource: &'a str, namespace: &'a str, name: &'a str) -> Attributes<'a> {
    let target = Target::Resource { group: "", resource: "pods", subresource, namespace, name };
    Attributes { user: "alice", groups: vec!["dev", "system:authenticated"], verb, target }
}

fn path(path: &str) -> Attributes<'_> {
    Attributes { user: "alice", groups: vec!["dev"], verb: "get", target: Target::Path(path) }
}

/// Whether a single rule with these conditions matches.
fn matches(conditions: &str, request: &Attributes<'_>) -> bool {
    policy(&format!("rules: [{{level: Metadata, {conditions}}}]")).decide(request).rule.is_some()
}

#[test]
fn users_groups_and_verbs_compare_whole_names() {
    let request = pods("get", "", "x", "a");
    for (conditions, yes) in [
        ("users: [alice]", true),
        ("users: [bob, alice]", true),
        ("users: ['*']", false),
        ("users: [Alice]", false),
        ("userGroups: [ops, dev]", true),
        ("userGroups: ['system:*']", false),
        ("verbs: [list, get]", true),
        ("verbs: ['*']", false),
        ("users: [alice], verbs: [list]", false),
        ("users: [], verbs: []", true),
    ] {
        assert_eq!(matches(conditions, &request), yes, "{conditions}");
    }
    let nobody = Attributes { user: "", ..request };
    assert!(!matches("users: ['']", &nobody));
    assert!(matches("verbs: [get]", &nobody));
}

#[test]
fn resource_patterns_mean_what_they_mean_upstream() {
    let (pod, log) = (pods("get", "", "x", "a"), pods("get", "log", "x", "a"));
    for (resources, is_pod, is_log) in [
        ("resources: [pods]", true, false),
        ("resources: [pods/log]", false, true),
        ("resources: [pods/*]", true, true),
        ("resources: ['*']", true, true),
        ("resources: ['*/log']", false, true),
        ("resources: ['*/*']", false, false),
        ("resources: [pods/]", false, false),
        ("resources: [secrets, pods]", true, false),
        ("resources: [po]", false, false),
        ("resources: []", true, true),
        ("group: '*'", true, true),
        ("group: apps", false, false),
        ("group: apps, resources: ['*']", false, false),
        ("resources: ['*'], resourceNames: [a]", true, true),
        ("resources: ['*'], resourceNames: [b]", false, false),
    ] {
        let conditions = format!("resources: [{{{resources}}}]");
        assert_eq!(matches(&conditions, &pod), is_pod, "{conditions} for pods");
        assert_eq!(matches(&conditions, &log), is_log, "{conditions} for pods/log");
    }
    assert!(!matches("resources: [{resources: [pods], resourceNames: [a]}]", &pods("create", "", "x", "")));
}

#[test]
fn namespaces_and_paths_separate_the_kinds_of_requests() {
    let (pod, node) = (pods("get", "", "x", "a"), pods("get", "", "", "a"));
    assert!(matches("namespaces: [x]", &pod) && !matches("namespaces: [z]", &pod));
    assert!(matches("namespaces: ['']", &node) && !matches("namespaces: ['']", &pod));
    assert!(!matches("namespaces: ['']", &path("/readyz")));
    assert!(!matches("resources: [{group: '*'}]", &path("/readyz")));
    for (pattern, yes) in [
        ("/readyz", true),
        ("/ready*", true),
        ("'*'", true),
        ("/*", true),
        ("/readyz/*", false),
        ("/livez", false),
    ] {
        assert_eq!(matches(&format!("nonResourceURLs: [{pattern}]"), &path("/readyz")), yes, "{pattern}");
    }
    assert!(matches("nonResourceURLs: ['/healthz/*']", &path("/healthz/etcd")));
    assert!(!matches("nonResourceURLs: ['*']", &pod));
    assert!(matches("verbs: [get]", &path("/readyz")) && matches("verbs: [get]", &pod));
}

#[test]
fn omitted_stages_add_up_and_managed_fields_are_overridden_either_way() {
    let policy = policy(
        "omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n- {level: Request, users: [a], omitStages: [Panic], omitManagedFields: false}\n- {level: Metadata, users: [b]}\n",
    );
    let decide = |user| policy.decide(&Attributes { user, ..pods("get", "", "x", "a") });
    let (a, b, none) = (decide("a"), decide("b"), decide("c"));
    assert_eq!(a.omit_stages.iter().collect::<Vec<_>>(), [Stage::RequestReceived, Stage::Panic]);
    assert!(!a.omit_managed_fields && b.omit_managed_fields);
    assert_eq!((none.level, none.rule), (Level::None, None));
    assert_eq!(none.omit_stages.iter().collect::<Vec<_>>(), [Stage::RequestReceived]);
    assert!(none.omit_managed_fields);
}

#[test]
fn an_explanation_says_why_each_earlier_rule_did_not_match() {
    let policy = policy(
        "rules:
- {level: None, users: [bob]}
- {level: None, userGroups: [ops]}
- {level: None, verbs: [list]}
- {level: None, nonResourceURLs: [/x]}
- {level: None, namespaces: [z]}
- {level: None, resources: [{group: apps, resources: [deployments, deployments/scale], resourceNames: [web]}, {group: ''  , resources: [secrets]}]}
- {level: Request, verbs: [get]}
- {level: Metadata}
",
    );
    let request = pods("get", "", "x", "a");
    let explanation = policy.explain(&request);
    assert_eq!(explanation.decision, policy.decide(&request));
    assert_eq!((explanation.decision.rule, explanation.decision.level), (Some(6), Level::Request));
    let passed: Vec<_> = explanation.passed.iter().map(ToString::to_string).collect();
    assert_eq!(
        passed,
        [
            "the user is not one of \"bob\"",
            "the user is in none of the groups \"ops\"",
            "the verb is not one of \"list\"",
            "the rule is for non-resource URLs, the request is for a resource",
            "the namespace is not one of \"z\"",
            "the resource is not one of apps:deployments|deployments/scale named \"web\", core:secrets",
        ]
    );
    let passed: Vec<_> = policy.explain(&Attributes { verb: "post", ..path("/y") }).passed;
    assert_eq!(passed[3].to_string(), "the path is not one of \"/x\"");
    assert_eq!(passed[4].to_string(), "the rule is for resources, the request is not");
}

/// What the matcher needs of a recorded event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded<'a> {
    level: &'a str,
    stage: &'a str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: &'a str,
    user: RecordedUser,
    #[serde(default)]
    object_ref: Option<RecordedRef>,
}

#[derive(Deserialize)]
struct RecordedUser {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RecordedRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl Recorded<'_> {
    fn attributes(&self) -> Attributes<'_> {
        let target = match &self.object_ref {
            // The name of an object that is created stands in the body, which the policy does not see; later
            // stages fill it in.
            Some(object) => Target::Resource {
                group: &object.api_group,
                resource: &object.resource,
                subresource: &object.subresource,
                namespace: &object.namespace,
                name: if self.verb == "create" && object.subresource.is_empty() { "" } else { &object.name },
            },
            None => Target::Path(self.uri.split('?').next().unwrap_or_default()),
        };
        let groups = self.user.groups.iter().map(String::as_str).collect();
        Attributes { user: &self.user.username, groups, verb: self.verb, target }
    }
}

/// Reads ../shared, the samples beside the repository.
#[test]
fn a_real_api_server_recorded_what_the_matcher_says() {
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/kube-apiserver-1.36");
    let Ok(events) = std::fs::read_to_string(samples.join("run1.jsonl")) else {
        skipped("../shared is absent");
        return;
    };
    let policy = Loaded::from_file(&samples.join("audit-policy.yaml")).unwrap().policy;
    let mut levels = BTreeMap::<_, usize>::new();
    let mut rules = BTreeSet::new();
    for (i, line) in events.lines().enumerate() {
        let event: Recorded<'_> = serde_json::from_str(line).unwrap();
        let decision = policy.decide(&event.attributes());
        assert_eq!(event.level, decision.level.as_str(), "line {}: {}", i + 1, event.audit_id);
        let omitted = decision.omit_stages.iter().any(|stage| stage.as_str() == event.stage);
        assert!(!omitted, "line {}: stage {} is omitted", i + 1, event.stage);
        *levels.entry(decision.level).or_default() += 1;
        rules.insert(decision.rule);
    }
    // Every rule but the one of level None, which leaves no events, was met by some of them.
    assert_eq!(rules, (1..policy.rules.len()).map(Some).collect());
    assert!(levels.values().all(|count| *count > 100), "{levels:?}");
}
