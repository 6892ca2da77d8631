use std::{fs, path::PathBuf};

use serde_json::json;

use super::*;
use crate::gateway::schema::schema;

fn kind(group: &str, version: &str, kind: &str) -> TypeId {
    schema().kind(group, version, kind).unwrap()
}

fn pod(body: &str) -> Result<Decoded, DecodeError> {
    super::json(kind("", "v1", "Pod"), body.as_bytes())
}

fn refused(ty: TypeId, body: &str) -> String {
    super::json(ty, body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn unknown_and_duplicate_fields_are_named_with_their_path() {
    let decoded = pod(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":"1","a":"2"}},"foo":1,
            "spec":{"containers":[{"name":"c"},{"name":"d","imag":"x","name":"e"}],"nodeName":"n","nodeName":"m"}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.strict,
        [
            "duplicate field \"metadata.labels.a\"",
            "unknown field \"foo\"",
            "unknown field \"spec.containers[1].imag\"",
            "duplicate field \"spec.containers[1].name\"",
            "duplicate field \"spec.nodeName\"",
        ]
    );
    assert_eq!(decoded.object["spec"]["containers"][1], json!({"name": "e", "resources": {}}));
    assert_eq!(decoded.object["spec"]["nodeName"], "m");
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let deployment = kind("apps", "v1", "Deployment");
    let pod = kind("", "v1", "Pod");
    for (ty, body, text) in [
        (
            deployment,
            r#"{"spec":{"replicas":"2"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            pod,
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod,
            r#"{"spec":{"containers":[{"name":1}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            pod,
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            deployment,
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (pod, "[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            pod,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (pod, r#"{"metadata":"#, "unexpected end of JSON input"),
    ] {
        assert_eq!(refused(ty, body), text);
    }
}

#[test]
fn values_take_the_form_that_upstream_prints() {
    let secret = kind("", "v1", "Secret");
    let decoded =
        super::json(secret, br#"{"type":null,"data":{"b":"YQ==","a":null},"kind":"Secret"}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&decoded.object).unwrap(),
        r#"{"kind":"Secret","metadata":{},"data":{"a":null,"b":"YQ=="}}"#
    );
    let decoded = pod(
        r#"{"spec":{"hostNetwork":false,"activeDeadlineSeconds":0,"volumes":[],"containers":[
            {"resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},"ports":[null],"livenessProbe":{"httpGet":{"port":"http"}}}]},
            "metadata":{"creationTimestamp":null,"deletionTimestamp":"2026-01-01T01:00:00.5+01:00"}}"#,
    )
    .unwrap();
    assert_eq!(
        Value::Object(decoded.object),
        json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"activeDeadlineSeconds": 0, "containers": [{
                "name": "",
                "ports": [{"containerPort": 0}],
                "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": "http"}},
            }]},
            "status": {},
        })
    );
}

#[test]
fn a_body_of_many_values_is_refused() {
    let body = format!(r#"{{"spec":{{"containers":[{}{{}}]}}}}"#, "{},".repeat(context::MAX_VALUES));
    assert_eq!(pod(&body), Err(DecodeError::Values));
}

#[test]
fn yaml_is_read_by_the_same_rules() {
    let decoded = super::yaml(
        kind("", "v1", "ConfigMap"),
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: 'b'\n  a: c\nfoo: 1\n",
    )
    .unwrap();
    assert_eq!(decoded.strict, ["duplicate field \"data.a\"", "unknown field \"foo\""]);
    assert_eq!(decoded.object["data"], json!({"a": "c"}));
    let error = super::yaml(kind("", "v1", "ConfigMap"), b"data: {a: 1}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
    assert!(matches!(super::yaml(kind("", "v1", "ConfigMap"), b"a: [b"), Err(DecodeError::Syntax(_))));
}

/// Needs ../shared.
#[test]
fn every_sample_of_upstream_keeps_its_form() {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/api-roundtrip/testdata/HEAD");
    let Ok(files) = fs::read_dir(folder) else {
        crate::skipped::skipped("../shared is absent");
        return;
    };
    let mut read = 0;
    for path in
        files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let body = fs::read(&path).unwrap();
        let given: Map<String, Value> = serde_json::from_slice(&body).unwrap();
        let member = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default();
        let (group, version) = member("apiVersion").rsplit_once('/').unwrap_or(("", member("apiVersion")));
        let Some(ty) = schema().kind(group, version, member("kind")) else { continue };
        let decoded = super::json(ty, &body).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            decoded.strict.iter().all(|error| error.starts_with("unknown field")),
            "{:?}",
            decoded.strict
        );
        // Fields of later releases are the only ones that go.
        if decoded.strict.is_empty() {
            assert_eq!(Value::Object(decoded.object.clone()), Value::Object(given), "{}", path.display());
        }
        let yaml = super::yaml(ty, &fs::read(path.with_extension("yaml")).unwrap()).unwrap();
        assert_eq!(yaml.object, decoded.object, "{}", path.display());
        let again = super::value(ty, &decoded.object).unwrap();
        assert_eq!(again, Decoded { object: decoded.object, strict: Vec::new() }, "{}", path.display());
        read += 1;
    }
    assert!(read > 150, "{read}");
}
