use std::sync::Arc;

use serde_json::{Value, json};

use crate::{AdmissionChain, AdmissionRequest, Configured, GroupVersionResource, MemoryCluster, Outcome};

fn policy(spec: Value) -> Value {
    let mut spec = spec;
    let constraints = json!({ "resourceRules": [
        { "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"] }] });
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = constraints;
    }
    json!({ "metadata": { "name": "p" }, "spec": spec })
}

fn binding(actions: &[&str]) -> Value {
    json!({ "metadata": { "name": "b" }, "spec": { "policyName": "p", "validationActions": actions } })
}

fn request() -> AdmissionRequest {
    AdmissionRequest::create(
        GroupVersionResource::new("", "v1", "configmaps"),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "c", "namespace": "default", "labels": { "app": "web" } },
            "data": { "k": "v" },
        }),
    )
}

async fn ask(cluster: MemoryCluster, policy: &Value, binding: &Value, request: &AdmissionRequest) -> Outcome {
    cluster.configure([(Configured::ValidatingPolicy, policy), (Configured::ValidatingBinding, binding)]);
    let chain = AdmissionChain::before(Arc::new(cluster));
    let only = ["ValidatingAdmissionPolicy"];
    let others: Vec<String> =
        crate::BUILT_IN.iter().filter(|name| !only.contains(name)).map(|name| (*name).to_owned()).collect();
    chain.with_plugins(&[], &others).unwrap().admit(request).await
}

async fn outcome(spec: Value, actions: &[&str]) -> Outcome {
    ask(MemoryCluster::new(), &policy(spec), &binding(actions), &request()).await
}

#[tokio::test]
async fn a_denial_has_upstreams_words_code_and_causes() {
    let spec = json!({ "validations": [
        { "expression": "object.data.k == 'v'" }, { "expression": "object.data.k == 'w'" }] });
    let denial = outcome(spec, &["Deny"]).await.denial.unwrap();
    let said = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.data.k == 'w'";
    assert_eq!(denial.message, format!("configmaps \"c\" is forbidden: {said}"));
    assert_eq!((denial.code, denial.reason.as_str()), (422, "Invalid"));
    assert_eq!(denial.causes[0].message, said);
    for (reason, code) in
        [("Unauthorized", 401), ("Forbidden", 403), ("RequestEntityTooLarge", 413), ("Invalid", 422)]
    {
        let spec = json!({ "validations": [{ "expression": "false", "message": " no ", "reason": reason }] });
        let denial = outcome(spec, &["Deny"]).await.denial.unwrap();
        assert_eq!((denial.code, denial.reason.as_str()), (code, reason));
        assert!(denial.message.ends_with("denied request: no"), "{}", denial.message);
    }
}

#[tokio::test]
async fn messages_are_made_or_taken() {
    for (made, message, said) in [
        ("'k is ' + object.data.k", "plain", "k is v"),
        ("'  '", "plain", "plain"),
        ("object.no", "plain", "plain"),
        ("'a\\nb'", "", "failed expression: variables.no"),
    ] {
        let spec = json!({
            "variables": [{ "name": "no", "expression": "false" }],
            "validations": [{ "expression": "variables.no", "message": message, "messageExpression": made }],
        });
        let denial = outcome(spec, &["Deny"]).await.denial.unwrap();
        assert!(denial.message.ends_with(&format!("denied request: {said}")), "{}", denial.message);
    }
}

#[tokio::test]
async fn warnings_and_audit_let_the_request_pass() {
    let spec = json!({
        "validations": [{ "expression": "false", "message": "no" }],
        "auditAnnotations": [
            { "key": "seen", "valueExpression": "'k=' + object.data.k" },
            { "key": "left", "valueExpression": "null" }],
    });
    let outcome = outcome(spec, &["Warn", "Audit"]).await;
    assert!(outcome.is_allowed());
    assert_eq!(
        outcome.warnings,
        ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no"]
    );
    let failure = &outcome.annotations["validation.policy.admission.k8s.io/validation_failure"];
    let expected = json!([{ "message": "no", "policy": "p", "binding": "b", "expressionIndex": 0,
        "validationActions": ["Warn", "Audit"] }]);
    assert_eq!(serde_json::from_str::<Value>(failure).unwrap(), expected);
    assert_eq!(outcome.annotations["p/seen"], "k=v");
    assert!(!outcome.annotations.contains_key("p/left"));
}

#[tokio::test]
async fn errors_go_by_the_failure_policy() {
    for (policy, is_allowed) in [("Fail", false), ("Ignore", true)] {
        for expression in ["object.none", "authorizer.none"] {
            let spec = json!({ "failurePolicy": policy, "validations": [{ "expression": expression }] });
            assert_eq!(outcome(spec, &["Deny"]).await.is_allowed(), is_allowed, "{policy} {expression}");
        }
    }
    let spec = json!({ "validations": [{ "expression": "object.none == 1" }] });
    let denial = outcome(spec, &["Deny"]).await.denial.unwrap();
    let said = "denied request: expression 'object.none == 1' resulted in error: no such key: none";
    assert!(denial.message.ends_with(said), "{}", denial.message);
}

#[tokio::test]
async fn conditions_and_selectors_say_what_a_policy_is_for() {
    let never = json!([{ "expression": "false" }]);
    for (spec, is_allowed) in [
        (json!({ "matchConditions": [{ "name": "a", "expression": "object.data.k == 'x'" }] }), true),
        (json!({ "matchConditions": [{ "name": "a", "expression": "object.data.k == 'v'" }] }), false),
        // One that says no decides, whatever fails beside it.
        (
            json!({ "matchConditions": [{ "name": "a", "expression": "object.no" }, { "name": "b", "expression": "false" }] }),
            true,
        ),
        (json!({ "matchConditions": [{ "name": "a", "expression": "object.no" }] }), false),
        (json!({ "matchConstraints": { "objectSelector": { "matchLabels": { "app": "db" } } } }), true),
        (json!({ "matchConstraints": { "objectSelector": { "matchLabels": { "app": "web" } } } }), false),
        (json!({ "matchConstraints": { "namespaceSelector": { "matchLabels": { "env": "test" } } } }), true),
        (
            json!({ "matchConstraints": { "resourceRules": [
            { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"] }] } }),
            true,
        ),
        (
            json!({ "matchConstraints": { "resourceRules": [
            { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["*/*"], "scope": "Namespaced" }] } }),
            false,
        ),
        (
            json!({ "matchConstraints": { "excludeResourceRules": [
            { "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["configmaps"], "resourceNames": ["c"] }] } }),
            true,
        ),
    ] {
        let mut whole = spec.clone();
        whole["validations"] = never.clone();
        assert_eq!(outcome(whole, &["Deny"]).await.is_allowed(), is_allowed, "{spec}");
    }
}

#[tokio::test]
async fn parameters_come_from_where_the_binding_says() {
    let limits = |name: &str, max: u32| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "default", "labels": { "limits": "yes" } }, "data": { "max": max },
        })
    };
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "validations": [{ "expression": "params != null && params.data.max > 5", "messageExpression": "'max ' + string(params.data.max)" }],
    });
    let denies = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    for (reference, said) in [
        (json!({ "name": "low", "parameterNotFoundAction": "Deny" }), Some("max 1")),
        (json!({ "name": "high", "parameterNotFoundAction": "Deny" }), None),
        (
            json!({ "selector": { "matchLabels": { "limits": "yes" } }, "parameterNotFoundAction": "Deny" }),
            Some("max 1"),
        ),
        (json!({ "name": "none", "parameterNotFoundAction": "Allow" }), None),
        (
            json!({ "name": "none", "parameterNotFoundAction": "Deny" }),
            Some(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            ),
        ),
    ] {
        let cluster = MemoryCluster::new();
        cluster.put_other(limits("low", 1));
        cluster.put_other(limits("high", 9));
        let mut binding = binding(&["Deny"]);
        binding["spec"]["paramRef"] = reference.clone();
        let outcome = ask(cluster, &policy(spec.clone()), &binding, &request()).await;
        let expected = said.map(|said| format!("configmaps \"c\" is forbidden: {denies}{said}"));
        assert_eq!(outcome.deny_reason().map(str::to_owned), expected, "{reference}");
    }
    let unknown = json!({ "paramKind": { "apiVersion": "x.io/v1", "kind": "X" }, "validations": [{ "expression": "true" }] });
    let mut binding = binding(&["Audit"]);
    binding["spec"]["paramRef"] = json!({ "name": "x", "parameterNotFoundAction": "Allow" });
    let outcome = ask(MemoryCluster::new(), &policy(unknown), &binding, &request()).await;
    let said = "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource \
                referenced by paramKind: 'x.io/v1, Kind=X'";
    assert!(outcome.deny_reason().unwrap().ends_with(said));
}

#[tokio::test]
async fn what_configures_admission_is_exempt() {
    let spec = json!({ "validations": [{ "expression": "false" }] });
    let object = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "q" } });
    let resource =
        GroupVersionResource::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
    let request = AdmissionRequest::create(resource, object);
    assert!(ask(MemoryCluster::new(), &policy(spec), &binding(&["Deny"]), &request).await.is_allowed());
}

#[tokio::test]
async fn an_expression_that_costs_too_much_is_a_failed_one() {
    let list = format!("[{}]", (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    let expression =
        format!("{list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d >= 0))))");
    let spec = json!({ "validations": [{ "expression": expression }] });
    let denial = outcome(spec, &["Deny"]).await.denial.unwrap();
    assert!(denial.message.contains("operation cancelled"), "{}", denial.message);
}

#[test]
fn what_was_compiled_is_kept_until_the_specification_changes() {
    let one = policy(json!({ "validations": [{ "expression": "true" }] }));
    let other = policy(json!({ "validations": [{ "expression": "false" }] }));
    let first =
        crate::Configuration::read([(Configured::ValidatingPolicy, &one)], &crate::Configuration::default());
    let same = crate::Configuration::read([(Configured::ValidatingPolicy, &one)], &first);
    let changed = crate::Configuration::read([(Configured::ValidatingPolicy, &other)], &same);
    assert!(Arc::ptr_eq(&first.validating[0].rules, &same.validating[0].rules));
    assert!(!Arc::ptr_eq(&same.validating[0].rules, &changed.validating[0].rules));
}

/// What becomes of the ConfigMap of [`request`] by these mutations.
async fn changed(spec: Value) -> Outcome {
    let mut spec = spec;
    if spec["reinvocationPolicy"].is_null() {
        spec["reinvocationPolicy"] = "Never".into();
    }
    let cluster = MemoryCluster::new();
    let binding = binding(&[]);
    cluster.configure([(Configured::MutatingPolicy, &policy(spec)), (Configured::MutatingBinding, &binding)]);
    let others: Vec<String> = crate::BUILT_IN
        .iter()
        .filter(|name| **name != "MutatingAdmissionPolicy")
        .map(|name| (*name).to_owned())
        .collect();
    let chain = AdmissionChain::before(Arc::new(cluster)).with_plugins(&[], &others).unwrap();
    chain.admit(&request()).await
}

fn mutations(expressions: &[&str]) -> Value {
    let each =
        expressions.iter().map(|e| json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": e } }));
    each.collect()
}

#[tokio::test]
async fn mutations_change_the_object_one_after_the_other() {
    for (expressions, data) in [
        (
            &[
                "[JSONPatch{op: 'add', path: '/data/n', value: '1'}]",
                "[JSONPatch{op: 'add', path: '/data/n', value: object.data.n + '2'}]",
            ][..],
            json!({ "k": "v", "n": "12" }),
        ),
        (
            &["[JSONPatch{op: 'test', path: '/data/k', value: 'w'}, JSONPatch{op: 'remove', path: '/data'}]"],
            json!({ "k": "v" }),
        ),
        (
            &["[JSONPatch{op: 'add', path: '/data', value: Object.data{a: object.metadata.labels.app}}]"],
            json!({ "a": "web" }),
        ),
        (
            &["[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]"],
            json!({ "k": "v", "a/b~c": "x" }),
        ),
        (&["[JSONPatch{op: 'move', from: '/data/k', path: '/data/l'}]"], json!({ "l": "v" })),
    ] {
        let outcome = changed(json!({ "mutations": mutations(expressions) })).await;
        assert_eq!(outcome.deny_reason(), None, "{expressions:?}");
        assert_eq!(outcome.object.unwrap()["data"], data, "{expressions:?}");
    }
}

#[tokio::test]
async fn a_mutation_that_fails_refuses_or_is_passed_by() {
    for (mutations, why) in [
        (mutations(&["[JSONPatch{op: 'frob', path: '/a'}]"]), "JSON Patch: Unexpected kind: frob"),
        (mutations(&["[JSONPatch{op: 'remove', path: '/none/x'}]"]), "JSON Patch: "),
        (
            mutations(&["[JSONPatch{op: 'add', path: '/a', value: object.none}]"]),
            "resulted in error: no such key: none",
        ),
        (
            json!([{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": "Object{}" } }]),
            "are not evaluated by this server",
        ),
    ] {
        let denial = changed(json!({ "mutations": mutations })).await.denial.unwrap();
        assert_eq!((denial.code, denial.reason.as_str()), (403, "Invalid"));
        assert!(
            denial.message.starts_with("policy 'p' with binding 'b' denied request: "),
            "{}",
            denial.message
        );
        assert!(denial.message.contains(why), "{}", denial.message);
        let outcome = changed(json!({ "failurePolicy": "Ignore", "mutations": mutations })).await;
        assert_eq!(outcome.object.unwrap()["data"], json!({ "k": "v" }));
    }
}
