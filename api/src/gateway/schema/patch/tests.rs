use serde_json::json;

use super::*;
use crate::gateway::schema::schema;

fn kind(group: &str, kind: &str) -> TypeId {
    schema().kind(group, "v1", kind).unwrap()
}

fn patched(ty: TypeId, current: Value, kind: PatchKind, patch: Value) -> Result<Patched, PatchError> {
    apply(ty, current.as_object().unwrap(), kind, patch.to_string().as_bytes())
}

fn pod(spec: Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": spec, "status": {}})
}

fn strategic(spec: Value, patch: Value) -> Result<Value, PatchError> {
    let patched = patched(kind("", "Pod"), pod(spec), PatchKind::Strategic, json!({"spec": patch}))?;
    Ok(patched.object["spec"].clone())
}

fn containers(names: &[(&str, &str)]) -> Value {
    names.iter().map(|(name, image)| json!({"name": name, "image": image, "resources": {}})).collect()
}

#[test]
fn a_strategic_patch_merges_lists_by_their_keys() {
    let spec = json!({"containers": containers(&[("a", "1"), ("b", "1")])});
    let next = strategic(
        spec.clone(),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
    );
    assert_eq!(next.unwrap()["containers"], containers(&[("a", "1"), ("b", "2"), ("c", "3")]));
    let next = strategic(spec.clone(), json!({"containers": [{"name": "a", "$patch": "delete"}]}));
    assert_eq!(next.unwrap()["containers"], containers(&[("b", "1")]));
    let next = strategic(spec, json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": "9"}]}));
    assert_eq!(next.unwrap()["containers"], containers(&[("z", "9")]));
}

#[test]
fn an_order_is_kept_around_what_only_the_server_has() {
    let spec = json!({"containers": containers(&[("a", "1"), ("x", "1"), ("b", "1")])});
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [{"name": "a", "image": "2"}],
    });
    let next = strategic(spec.clone(), patch).unwrap();
    assert_eq!(next["containers"], containers(&[("x", "1"), ("b", "1"), ("a", "2")]));
    let patch = json!({
        "$setElementOrder/containers": [{"name": "a"}],
        "containers": [{"name": "b", "image": "2"}],
    });
    assert!(matches!(strategic(spec, patch), Err(PatchError::Unmergeable(_))));
}

#[test]
fn lists_of_scalars_and_objects_obey_their_directives() {
    let ty = kind("", "Pod");
    let current = json!({"metadata": {"name": "p", "finalizers": ["a/a", "b/b"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"]}});
    let next = patched(ty, current.clone(), PatchKind::Strategic, patch).unwrap();
    assert_eq!(next.object["metadata"]["finalizers"], json!(["b/b"]));
    let patch = json!({"metadata": {"finalizers": ["c/c"]}});
    let next = patched(ty, current, PatchKind::Strategic, patch).unwrap();
    assert_eq!(next.object["metadata"]["finalizers"], json!(["c/c", "a/a", "b/b"]));

    let spec = json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]});
    let patch =
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]});
    assert_eq!(strategic(spec, patch).unwrap()["volumes"], json!([{"name": "v", "hostPath": {"path": "/"}}]));
    let spec = json!({"containers": [], "nodeSelector": {"a": "1", "b": "2"}});
    let next = strategic(spec.clone(), json!({"nodeSelector": {"$patch": "replace", "c": "3"}})).unwrap();
    assert_eq!(next["nodeSelector"], json!({"c": "3"}));
    let next = strategic(spec.clone(), json!({"nodeSelector": {"a": null}})).unwrap();
    assert_eq!(next["nodeSelector"], json!({"b": "2"}));
    let next = strategic(spec, json!({"nodeSelector": {"$patch": "delete"}})).unwrap();
    assert!(next.get("nodeSelector").is_none());
}

#[test]
fn strategic_patches_that_say_nonsense_are_refused() {
    let spec = || json!({"containers": containers(&[("a", "1")])});
    let error = strategic(spec(), json!({"containers": [{"image": "2"}]})).unwrap_err();
    assert_eq!(error.to_string(), "map: map[image:2] does not contain declared merge key: name");
    let error = strategic(spec(), json!({"containers": [{"$patch": "burn"}]})).unwrap_err();
    assert_eq!(error.to_string(), "unknown patch type: burn in map: map[$patch:burn]");
    let error = strategic(spec(), json!({"$retainKeys": "x"})).unwrap_err();
    assert_eq!(error, PatchError::BadRequest("invalid patch format of retainKeys".to_owned()));
    let strange =
        patched(kind("", "Pod"), pod(spec()), PatchKind::Strategic, json!({"spec": {"foo": 1}})).unwrap();
    assert_eq!(strange.strict, ["unknown field \"spec.foo\""]);
    assert_eq!(strange.shown, "map[spec:map[foo:1]]");
}

#[test]
fn a_merge_patch_replaces_lists_and_removes_nulls() {
    let ty = kind("", "ConfigMap");
    let current = json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}});
    let next =
        patched(ty, current.clone(), PatchKind::Merge, json!({"data": {"a": null, "c": "3"}})).unwrap();
    assert_eq!(next.object["data"], json!({"b": "2", "c": "3"}));
    let error = patched(ty, current.clone(), PatchKind::Merge, json!([1])).unwrap_err();
    assert_eq!(error, PatchError::BadRequest("Invalid JSON Patch".to_owned()));
    let twice =
        apply(ty, current.as_object().unwrap(), PatchKind::Merge, br#"{"data":{"a":"1","a":"2"}}"#).unwrap();
    assert_eq!(twice.strict, ["duplicate field \"data.a\""]);
    let PatchError::Invalid { shown, detail } =
        patched(ty, current, PatchKind::Merge, json!({"data": {"a": 1}})).unwrap_err()
    else {
        panic!("a number is no text");
    };
    assert_eq!(detail, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string");
    assert_eq!(shown, r#"{"metadata":{"name":"c"},"data":{"a":1,"b":"2"}}"#);
}

#[test]
fn a_json_patch_does_its_operations_in_turn() {
    let ty = kind("", "ConfigMap");
    let current =
        json!({"metadata": {"name": "c", "finalizers": ["a/a", "b/b"]}, "data": {"a": "1", "x/y~z": "2"}});
    let patch = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "3"},
        {"op": "copy", "from": "/data/a", "path": "/data/b"},
        {"op": "move", "from": "/data/x~1y~0z", "path": "/data/c"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "c/c"},
        {"op": "add", "path": "/metadata/finalizers/0", "value": "z/z"},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]);
    let next = patched(ty, current.clone(), PatchKind::Json, patch).unwrap().object;
    assert_eq!(next["data"], json!({"a": "3", "b": "3", "c": "2"}));
    assert_eq!(next["metadata"]["finalizers"], json!(["z/z", "b/b", "c/c"]));
    for (operation, text) in [
        (json!({"op": "test", "path": "/data/a", "value": "2"}), "testing value /data/a failed: test failed"),
        (
            json!({"op": "remove", "path": "/data/q"}),
            "error in remove for path: '/data/q': Unable to remove nonexistent key: q: missing value",
        ),
        (
            json!({"op": "replace", "path": "/data/q", "value": 1}),
            "replace operation does not apply: doc is missing key: /data/q: missing value",
        ),
        (
            json!({"op": "add", "path": "/spec/q", "value": 1}),
            "add operation does not apply: doc is missing path: \"/spec/q\": missing value",
        ),
        (json!({"op": "burn", "path": "/data"}), "Unexpected kind: burn"),
    ] {
        let error = patched(ty, current.clone(), PatchKind::Json, json!([operation])).unwrap_err();
        assert_eq!(error, PatchError::Unprocessable(text.to_owned()));
    }
}

#[test]
fn a_json_patch_has_bounds() {
    let ty = kind("", "ConfigMap");
    let current = json!({"metadata": {"name": "c"}, "data": {"a": "1".repeat(1_000)}});
    let operation = json!({"op": "test", "path": "/data/q", "value": null});
    let many = Value::Array(vec![operation; MAX_OPERATIONS + 1]);
    let error = patched(ty, current.clone(), PatchKind::Json, many).unwrap_err();
    assert_eq!(error, PatchError::TooManyOperations(MAX_OPERATIONS + 1));
    let doubling: Vec<_> =
        (0..30).map(|at| json!({"op": "copy", "from": "/data", "path": format!("/data/{at}")})).collect();
    let error = patched(ty, current, PatchKind::Json, Value::Array(doubling)).unwrap_err();
    assert!(error.to_string().contains("exceeding the limit 3145728"), "{error}");
}

/// Objects and patches that we wrote, and what upstream's library made of them.
#[test]
fn strategic_patches_do_what_upstreams_library_does() {
    let mut wrong = Vec::new();
    for line in include_str!("recorded.jsonl").lines() {
        let line: Map<String, Value> = serde_json::from_str(line).unwrap();
        let current = line["current"].as_object().unwrap();
        let api_version = current["apiVersion"].as_str().unwrap();
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let ty = schema().kind(group, version, current["kind"].as_str().unwrap()).unwrap();
        let ours = strategic::apply(ty, current, line["patch"].as_object().unwrap().clone());
        let same = match (&ours, line.get("result")) {
            (Ok(ours), Some(theirs)) => Some(ours) == theirs.as_object(),
            (Err(error), None) => line["error"] == error.to_string(),
            _ => false,
        };
        if !same {
            let theirs = line.get("result").unwrap_or_else(|| &line["error"]);
            wrong.push(format!("{}\n{}\n ours {ours:?}\n theirs {theirs}", line["current"], line["patch"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
