//! Admission policies before the built binary's store, as kubectl would set them up and run into them.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use server::{Caller, Server, eventually};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn send(caller: &Caller, method: Method, path: &str, body: &Value) -> Response {
    let request = caller.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap()
}

async fn answer(caller: &Caller, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(caller, method, path, body).await;
    (response.status(), response.json().await.unwrap())
}

fn policy(name: &str, spec: Value) -> Value {
    json!({
        "kind": "ValidatingAdmissionPolicy", "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": { "name": name }, "spec": spec,
    })
}

fn binding(name: &str, policy: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["policyName"] = policy.into();
    json!({
        "kind": "ValidatingAdmissionPolicyBinding", "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": { "name": name }, "spec": spec,
    })
}

fn on_maps(operations: &[&str]) -> Value {
    json!({ "resourceRules": [
        { "apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": ["configmaps"] }] })
}

fn map(name: &str, data: Value) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": data })
}

async fn make(caller: &Caller, path: &str, object: &Value) {
    let (status, made) = answer(caller, Method::POST, path, object).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
}

/// A dry run, again and again until it is refused: a policy is in force a moment after it was made.
async fn refused(caller: &Caller, object: &Value) -> (StatusCode, Value) {
    eventually("the policy is in force", async || {
        let (status, answer) = answer(caller, Method::POST, &format!("{MAPS}?dryRun=All"), object).await;
        (status != StatusCode::CREATED).then_some((status, answer))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_policy_refuses_in_kube_apiservers_words() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let spec = json!({
        "matchConstraints": on_maps(&["CREATE", "UPDATE", "DELETE"]),
        "matchConditions": [{ "name": "not-ours", "expression": "!request.name.startsWith('free-')" }],
        "variables": [{ "name": "data", "expression": "object.?data.orValue({})" }],
        "validations": [
            { "expression": "request.operation != 'DELETE' || request.name != 'kept'", "message": "it is kept", "reason": "Forbidden" },
            { "expression": "request.operation == 'DELETE' || 'owner' in variables.data",
              "messageExpression": "'owner is missing in ' + object.metadata.name" }],
    });
    make(&caller, POLICIES, &policy("owned", spec)).await;
    make(&caller, BINDINGS, &binding("everywhere", "owned", json!({ "validationActions": ["Deny"] }))).await;

    let (status, denied) = refused(&caller, &map("a", json!({}))).await;
    let said =
        "ValidatingAdmissionPolicy 'owned' with binding 'everywhere' denied request: owner is missing in a";
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(denied["message"], format!("configmaps \"a\" is forbidden: {said}"));
    assert_eq!(denied["reason"], "Invalid");
    assert_eq!(
        denied["details"],
        json!({ "name": "a", "kind": "configmaps", "causes": [{ "message": said }] })
    );

    // Fields are looked at before policies are.
    let (status, invalid) = answer(&caller, Method::POST, MAPS, &map("b", json!({ "no key": "" }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        invalid["message"].as_str().unwrap().starts_with("ConfigMap \"b\" is invalid: data[no key]: "),
        "{invalid}"
    );

    make(&caller, MAPS, &map("kept", json!({ "owner": "anna" }))).await;
    make(&caller, MAPS, &map("free-1", json!({}))).await;
    let path = format!("{MAPS}/kept");
    let patch = caller.request(Method::PATCH, &path).header("content-type", "application/merge-patch+json");
    let patched = patch.body(r#"{"data":{"owner":null}}"#).send().await.unwrap();
    assert_eq!(patched.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let (status, denied) = answer(&caller, Method::DELETE, &path, &Value::Null).await;
    assert_eq!((status, &denied["reason"]), (StatusCode::FORBIDDEN, &json!("Forbidden")), "{denied}");

    let (status, _) = answer(&caller, Method::DELETE, &format!("{BINDINGS}/everywhere"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    eventually("the policy binds nothing any more", async || {
        let (status, _) = answer(&caller, Method::DELETE, &path, &Value::Null).await;
        (status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_annotations_and_parameters() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    make(&caller, MAPS, &map("limits", json!({ "longest": "3" }))).await;
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "matchConstraints": on_maps(&["CREATE"]),
        "validations": [{ "expression": "size(object.metadata.name) <= int(params.data.longest)",
            "messageExpression": "'at most ' + params.data.longest + ' in ' + namespaceObject.metadata.name" }],
        "auditAnnotations": [{ "key": "name-length", "valueExpression": "string(size(object.metadata.name))" }],
    });
    make(&caller, POLICIES, &policy("short", spec)).await;
    let bound = json!({
        "validationActions": ["Warn", "Audit"],
        "paramRef": { "name": "limits", "parameterNotFoundAction": "Deny" },
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } } },
    });
    make(&caller, BINDINGS, &binding("b", "short", bound)).await;
    let warning = eventually("the policy warns", async || {
        let response =
            send(&caller, Method::POST, &format!("{MAPS}?dryRun=All"), &map("long", json!({}))).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        Some(response.headers().get("warning")?.to_str().unwrap().to_owned())
    })
    .await;
    let said =
        "Validation failed for ValidatingAdmissionPolicy 'short' with binding 'b': at most 3 in default";
    assert_eq!(warning, format!("299 - \"{said}\""));
    let query = "resource:configmaps verb:create name:long";
    let page = eventually("the audit has it", async || {
        let page = caller.get("/v1/events").query(&[("q", query)]).send().await.unwrap();
        let page: Value = page.json().await.unwrap();
        let items = page["items"].as_array()?.clone();
        items.into_iter().find(|item| item["event"]["annotations"]["short/name-length"] == "4")
    })
    .await;
    let failure = &page["event"]["annotations"]["validation.policy.admission.k8s.io/validation_failure"];
    assert!(failure.as_str().unwrap().contains("at most 3 in default"), "{page}");

    let (status, _) = answer(&caller, Method::DELETE, &format!("{MAPS}/limits"), &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let (_, denied) = refused(&caller, &map("x", json!({}))).await;
    let said =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(denied["message"].as_str().unwrap().ends_with(said), "{denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_is_refused_when_it_is_written() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let spec = json!({
        "matchConstraints": on_maps(&["CREATE"]),
        "variables": [{ "name": "a", "expression": "variables.b" }],
        "validations": [
            { "expression": "objct.data == null" },
            { "expression": "'text'" },
            { "expression": "authorizer.group('').check('get').allowed()" },
            { "expression": "true", "reason": "Teapot" }],
        "auditAnnotations": [{ "key": "a", "valueExpression": "1" }],
    });
    let (status, refused) = answer(&caller, Method::POST, POLICIES, &policy("bad", spec)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let causes = refused["details"]["causes"].as_array().unwrap();
    let fault = |field: &str| {
        let cause = causes.iter().find(|cause| cause["field"] == field);
        cause.unwrap_or_else(|| panic!("{field}: {refused}"))["message"].as_str().unwrap()
    };
    assert_eq!(
        fault("spec.validations[0].expression"),
        "Invalid value: \"objct.data == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to \
         'objct' (in container '')\n | objct.data == null\n | ^"
    );
    assert_eq!(
        fault("spec.validations[1].expression"),
        "Invalid value: \"'text'\": must evaluate to bool but got string"
    );
    assert!(fault("spec.validations[2].expression").contains("'authorizer' is not available"));
    assert!(fault("spec.validations[3].reason").starts_with("Unsupported value: \"Teapot\""));
    assert!(fault("spec.variables[0].expression").contains("undefined field 'b'"));
    assert!(fault("spec.auditAnnotations[0].valueExpression").contains("must evaluate to one of"));

    let bound = json!({ "validationActions": ["Deny", "Warn"], "paramRef": {} });
    let (status, refused) = answer(&caller, Method::POST, BINDINGS, &binding("bad", "p", bound)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields: Vec<&str> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["spec.paramRef", "spec.paramRef.parameterNotFoundAction", "spec.validationActions"]);
}
