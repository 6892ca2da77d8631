//! That no secret survives, in any shape, and that everything else does.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn redactor() -> Redactor {
    Redactor::new(&RuleSet::builtin(), &DeploymentKey::from_bytes([3; 32]))
}

fn redact_with(redactor: &Redactor, event: &str) -> (String, u32) {
    let view = EventView::parse(event.as_bytes()).unwrap();
    let redacted = redactor.redact(&view);
    let text = String::from_utf8(redacted.bytes.into_owned()).unwrap();
    let again = redactor.redact(&EventView::parse(text.as_bytes()).unwrap());
    assert_eq!(again.count, 0, "a second pass changes nothing: {text}");
    assert_eq!(std::str::from_utf8(&again.bytes).unwrap(), text);
    (text, redacted.count)
}

fn redact(event: &Value) -> (Value, u32) {
    let (text, count) = redact_with(&redactor(), &event.to_string());
    (serde_json::from_str(&text).unwrap(), count)
}

fn about(resource: &str, body: Value) -> Value {
    json!({"verb": "create", "objectRef": {"resource": resource, "apiVersion": "v1"}, "requestObject": body})
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl-_x";
const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nq+/=\n-----END RSA PRIVATE KEY-----\n";

/// The inside of a text's JSON string.
fn inside(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The marker's hash of a value.
fn hmac(value: &str) -> String {
    let text = redactor().marks.text("jwt", value.as_bytes());
    text[text.len() - 65..text.len() - 1].to_owned()
}

#[test]
fn an_event_without_secrets_is_borrowed_as_it_is() {
    let event = r#"{ "verb":"get", "requestURI":"/api/v1/pods?a=1\u0026b=\u003c2","x":[1, 2 ] }"#;
    let view = EventView::parse(event.as_bytes()).unwrap();
    let redacted = redactor().redact(&view);
    assert!(matches!(redacted.bytes, Cow::Borrowed(_)));
    assert_eq!((&*redacted.bytes, redacted.count), (event.as_bytes(), 0));
}

#[test]
fn of_a_secret_the_names_stay_and_the_values_go() {
    let body = json!({
        "kind": "Secret", "apiVersion": "v1", "type": "Opaque", "immutable": true,
        "metadata": {"name": "s", "labels": {"a": "b"}, "annotations": {
            "note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"k\":\"aHVudGVyMg==\"}}"}},
        "data": {"password": base64("hunter2"), "bad": "%%"},
        "stringData": {"plain": "hunter2"},
        "unheardOf": {"x": "hunter2"},
    });
    let (out, count) = redact(&about("secrets", body.clone()));
    let object = &out["requestObject"];
    for kept in ["kind", "apiVersion", "type", "immutable"] {
        assert_eq!(object[kept], body[kept]);
    }
    assert_eq!(object["metadata"]["labels"], body["metadata"]["labels"]);
    assert_eq!(object["metadata"]["annotations"]["note"], "kept");
    let applied = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(applied.as_str().unwrap().starts_with("$redacted(rule=secret,len="));
    let marker = json!({"$redacted": {"rule": "secret", "len": 7, "hmac": hmac("hunter2")}});
    assert_eq!(object["data"]["password"], marker, "the decoded value is what is hashed");
    assert_eq!(object["stringData"]["plain"], marker, "so equal secrets are equal");
    assert_eq!(object["data"]["bad"]["$redacted"]["len"], 2);
    assert_eq!(object["unheardOf"]["$redacted"]["rule"], "secret");
    assert_eq!(count, 5);
}

#[test]
fn a_secret_is_found_by_its_kind_wherever_it_stands() {
    let secret = |extra: Value| {
        let mut secret =
            json!({"data": {"k": base64("hunter2")}, "kind": "Secret", "metadata": {"name": "n"}});
        secret.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        secret
    };
    for body in [
        secret(json!({})),
        secret(json!({"apiVersion": "v1"})),
        json!({"kind": "List", "apiVersion": "v1", "items": [secret(json!({}))]}),
        json!({"kind": "SecretList", "apiVersion": "v1", "items": [{"metadata": {}, "data": {"k": base64("hunter2")}}]}),
        json!({"kind": "AdmissionReview", "request": {"object": secret(json!({"apiVersion": "v1"}))}}),
        json!({"kind": "ConfigMap", "data": {"manifest": secret(json!({})).to_string()}}),
        json!({"kind": "ConfigMap", "data": {"manifest": format!("kind: Secret\nmetadata: {{}}\ndata:\n  k: {}\n", base64("hunter2"))}}),
        json!({"kind": "ConfigMap", "data": {"twice": json!({"inner": secret(json!({})).to_string()}).to_string()}}),
        json!([{"op": "add", "path": "/spec/template", "value": secret(json!({}))}]),
    ] {
        let (out, count) = redact(&about("configmaps", body.clone()));
        assert!(!out.to_string().contains(&base64("hunter2")), "{body}");
        assert_eq!(count, 1, "{body}");
    }
}

#[test]
fn a_reference_to_a_secret_is_no_secret() {
    let body = json!({"kind": "Pod", "metadata": {"ownerReferences": [{"kind": "Secret", "apiVersion": "v1", "name": "n"}]},
        "involvedObject": {"kind": "Secret", "name": "n", "namespace": "d"},
        "other": {"kind": "Secret", "apiVersion": "example.com/v1", "metadata": {}, "data": {"k": "open"}},
        "volumes": [{"secret": {"secretName": "n"}}]});
    let event = about("pods", body);
    assert_eq!(redact(&event), (event, 0));
}

#[test]
fn patches_of_every_type_are_judged_by_their_paths() {
    let merge = json!({"data": {"k": "aHVudGVyMg=="}, "metadata": {"labels": {"a": "b"}}});
    let strategic =
        json!({"$patch": "merge", "stringData": {"k": "hunter2"}, "metadata": {"annotations": {"x": "y"}}});
    let apply = json!("apiVersion: v1\nstringData: {k: hunter2}\n");
    let patch = json!([
        {"op": "add", "path": "/data/a~1b", "value": "aHVudGVyMg=="},
        {"op": "test", "path": "/stringData", "value": {"k": "hunter2"}},
        {"op": "replace", "path": "", "value": {"data": {"k": "aHVudGVyMg=="}}},
        {"op": "add", "path": "/metadata/labels/a", "value": "b"},
        {"op": "add", "path": "/metadata/annotations/last-applied-configuration", "value": "hunter2"},
        {"op": "add", "path": "/metadata", "value": {"annotations": {"x": "{\"hunter2\":1}"}}},
        {"op": "move", "from": "/data/a", "path": "/data/b"},
        {"op": "add", "value": "hunter2"},
        {"op": "add", "path": "/type", "path": "/data/x", "value": "hunter2"},
        "hunter2",
    ]);
    for body in [merge, strategic, apply, patch] {
        let mut event = about("secrets", body);
        event["verb"] = "patch".into();
        let text = redact(&event).0.to_string();
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    }
    let (out, _) = redact(&about(
        "secrets",
        json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"},
        {"op": "add", "path": "/stringData", "value": {"k": "hunter2"}}]),
    ));
    assert_eq!(out["requestObject"][0]["value"], "b");
    assert_eq!(out["requestObject"][1]["value"]["k"]["$redacted"]["hmac"], hmac("hunter2"));
}

#[test]
fn the_reference_names_the_kind_when_the_body_does_not() {
    let mut event = json!({"verb": "list", "objectRef": {"resource": "secrets"}, "responseObject": {
        "items": [{"metadata": {"name": "n"}, "data": {"k": "aHVudGVyMg=="}}], "metadata": {"resourceVersion": "1"}}});
    let (out, _) = redact(&event);
    assert_eq!(out["responseObject"]["items"][0]["data"]["k"]["$redacted"]["hmac"], hmac("hunter2"));
    assert_eq!(out["responseObject"]["metadata"], event["responseObject"]["metadata"]);
    event.as_object_mut().unwrap().remove("objectRef");
    event["requestURI"] = "/api/v1/namespaces/d/secrets/n?x=1".into();
    assert!(!redact(&event).0.to_string().contains("aHVudGVyMg"));
}

#[test]
fn tables_lose_their_cells_and_the_values_of_their_objects() {
    let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{"name": "Name"}],
        "rows": [{"cells": ["n", "hunter2", 1], "object": {"metadata": {"name": "n"}, "data": {"k": "aHVudGVyMg=="}}},
                 {"cells": ["n"], "object": {"kind": "PartialObjectMetadata", "metadata": {"name": "m"}}}]});
    let (out, _) = redact(&json!({"objectRef": {"resource": "secrets"}, "responseObject": table}));
    let text = out.to_string();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    assert_eq!(out["responseObject"]["rows"][1]["object"]["metadata"]["name"], "m");
    assert_eq!(out["responseObject"]["columnDefinitions"], table["columnDefinitions"]);
}

#[test]
fn token_reviews_and_requests_lose_their_tokens_only() {
    let review = json!({"kind": "TokenReview", "spec": {"token": "opaque-hunter2", "audiences": ["a"]},
        "status": {"authenticated": true, "user": {"username": "u"}}});
    let (out, _) =
        redact(&json!({"objectRef": {"resource": "tokenreviews", "apiGroup": "authentication.k8s.io"},
        "requestObject": review, "responseObject": review}));
    for body in ["requestObject", "responseObject"] {
        assert_eq!(out[body]["spec"]["token"]["$redacted"]["rule"], "token-review");
        assert_eq!(out[body]["spec"]["audiences"], review["spec"]["audiences"]);
        assert_eq!(out[body]["status"], review["status"]);
    }
    let request = json!({"spec": {"expirationSeconds": 3600}, "status": {"token": "opaque-hunter2", "expirationTimestamp": "t"}});
    let (out, _) = redact(
        &json!({"objectRef": {"resource": "serviceaccounts", "subresource": "token"}, "responseObject": request}),
    );
    assert_eq!(out["responseObject"]["status"]["token"]["$redacted"]["rule"], "token-request");
    assert_eq!(out["responseObject"]["status"]["expirationTimestamp"], "t");
    assert_eq!(out["responseObject"]["spec"], request["spec"]);
}

#[test]
fn messages_about_secrets_stay_when_they_quote_names_only() {
    let with = |message: &str| {
        json!({"objectRef": {"resource": "secrets"}, "responseStatus": {"metadata": {}, "code": 409, "message": message,
            "details": {"name": "n", "causes": [{"reason": "FieldValueInvalid", "field": "data[k]", "message": "bad: hunter2"}]}}})
    };
    for kept in [
        r#"secrets "n" not found"#,
        r#"secrets "n" already exists"#,
        r#"secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace "d""#,
        r#"secrets is forbidden: User "alice" cannot list secrets in the namespace "ns1""#,
        r#"secrets "n" is forbidden: User "a:b" cannot get resource "secrets" in API group "" at the cluster scope"#,
        r#"Operation cannot be fulfilled on secrets "n": the object has been modified; please apply your changes to the latest version and try again"#,
    ] {
        let (out, _) = redact(&with(kept));
        assert_eq!(out["responseStatus"]["message"], kept);
        assert!(!out.to_string().contains("hunter2"));
    }
    for gone in [
        r#"Secret "n" is invalid: data[k]: Invalid value: "hunter2": must be base64"#,
        r#"admission webhook "w" denied the request: hunter2 is weak"#,
        r#"secrets "hunter2 is the password" not found"#,
    ] {
        let (out, _) = redact(&with(gone));
        assert!(out["responseStatus"]["message"].as_str().unwrap().starts_with("$redacted(rule=secret,"));
        assert!(!out.to_string().contains("hunter2"));
        assert_eq!(out["responseStatus"]["details"]["causes"][0]["field"], "data[k]");
    }
}

#[test]
fn admission_annotations_about_secrets_lose_what_may_quote_them() {
    let patch = json!({"configuration": "c", "webhook": "w", "patchType": "JSONPatch",
        "patch": [{"op": "add", "path": "/data/k", "value": "aHVudGVyMg=="}, {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]});
    let (out, count) = redact(&json!({"objectRef": {"resource": "secrets"}, "annotations": {
        "authorization.k8s.io/decision": "allow",
        "patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string(),
        "patch.webhook.admission.k8s.io/round_0_index_1": "hunter2",
        "validation.policy.admission.k8s.io/validation_failure": "hunter2",
        "webhook.example.com/note": "hunter2",
        "validate.nginx.ingress.kubernetes.io/note": "hunter2",
        "webhook.apps.k8s.io/note": "hunter2",
        "k8s.io": "hunter2",
    }}));
    let text = out.to_string();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    assert_eq!((count, &out["annotations"]["authorization.k8s.io/decision"]), (7, &json!("allow")));
    let inner = out["annotations"]["patch.webhook.admission.k8s.io/round_0_index_0"].as_str().unwrap();
    let inner: Value = serde_json::from_str(inner).unwrap();
    assert_eq!(inner["patch"][0]["value"]["$redacted"]["hmac"], hmac("hunter2"));
    assert_eq!(inner["patch"][1], patch["patch"][1]);
}

#[test]
fn the_announced_change_of_a_secret_stays_where_it_is_one() {
    let redacted = |change: &str| {
        redact(&json!({"objectRef": {"resource": "secrets"}, "annotations": {"muniment.io/change": change}}))
    };
    for change in ["secrets/shop/db@12 8e3f50124535c445d4a1e1166924fe69", "secrets/shop/a.b@7 -"] {
        let (out, count) = redacted(change);
        assert_eq!((count, &out["annotations"]["muniment.io/change"]), (0, &json!(change)));
    }
    for other in ["hunter2", "hunter2@1 8e3f", "hunter 2@1 -", "a@1 8e3f50124535c445d4a1e1166924fe6g"] {
        let (out, count) = redacted(other);
        assert_eq!(count, 1, "{out}");
        assert!(!out.to_string().contains("hunter2"), "{out}");
    }
}

#[test]
fn decisions_about_secrets_stay_without_what_may_quote_them() {
    let calls = json!([
        {"controller": "A", "phase": "mutating", "verdict": "patched", "micros": 5, "patch": [
            {"op": "add", "path": "/data/k", "value": "aHVudGVyMg=="},
            {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]},
        {"controller": "B", "phase": "validating", "verdict": "denied", "micros": 5, "reason": "no hunter2 here"},
        {"controller": "C", "phase": "validating", "verdict": "denied", "micros": 5,
         "reason": "namespaces \"x\" not found"},
    ]);
    let redacted = |calls: &Value| {
        redact(&json!({"objectRef": {"resource": "secrets"}, "annotations": {
            "admission.muniment.io/decisions": calls.to_string()}}))
    };
    let (out, count) = redacted(&calls);
    let inner = out["annotations"]["admission.muniment.io/decisions"].as_str().unwrap();
    assert!(!inner.contains("hunter2") && !inner.contains("aHVudGVyMg"), "{inner}");
    let inner: Value = serde_json::from_str(inner).unwrap();
    assert_eq!(inner[0]["patch"][0]["value"]["$redacted"]["hmac"], hmac("hunter2"));
    assert_eq!((&inner[0]["patch"][1], &inner[2]), (&calls[0]["patch"][1], &calls[2]));
    assert_eq!((count, &inner[1]["verdict"]), (2, &json!("denied")));
    assert_eq!(redacted(&inner).1, 0, "a second pass changes nothing");
    for other in [json!({"reason": "hunter2"}), json!(["hunter2", ["hunter2"]]), json!([{"note": "hunter2"}])]
    {
        let (out, _) = redacted(&other);
        assert!(!out.to_string().contains("hunter2"), "{out}");
    }
}

#[test]
fn an_annotation_whose_name_held_a_secret_loses_its_value_too() {
    // Once the name is redacted it no longer tells who wrote the annotation: a second pass must come to the same.
    let key = format!("patch.webhook.{JWT}.k8s.io/x");
    let (out, count) =
        redact(&json!({"objectRef": {"resource": "secrets"}, "annotations": {key.clone(): "{\"patch\":[]}"},
        "requestObject": {"metadata": {"annotations": {key: "open"}}}}));
    assert_eq!(count, 4);
    assert!(!out.to_string().contains("open"));
}

#[test]
fn delete_options_of_secrets_stay() {
    let mut event =
        about("secrets", json!({"propagationPolicy": "Background", "gracePeriodSeconds": 0, "x": "hunter2"}));
    event["verb"] = "delete".into();
    let (out, count) = redact(&event);
    assert_eq!((count, &out["requestObject"]["propagationPolicy"]), (1, &json!("Background")));
}

#[test]
fn tokens_and_keys_go_wherever_they_stand() {
    let secrets = [JWT, PEM.trim_end(), "s3cr3tBearerValue-99", "p4ss"];
    for (field, text) in [
        ("requestURI", format!("/api/v1/x?access_token={JWT}&b=1")),
        (
            "requestURI",
            format!("/api/v1/x?command=curl&command=-H&command=Authorization%3A+Bearer+{}", secrets[2]),
        ),
        ("requestURI", "/proxy?token=s3cr3tBearerValue-99#x".into()),
        ("userAgent", format!("agent ({JWT})")),
        ("requestObject", format!("Authorization: Bearer {}", secrets[2])),
        ("requestObject", format!("authorization: bearer  {JWT}")),
        ("requestObject", format!("before\n{PEM}after")),
        ("requestObject", format!("cut {}", &PEM[..60])),
        ("requestObject", "postgres://u:p4ss@db/x".into()),
        ("requestObject", JWT.into()),
        ("requestObject", base64(JWT)),
        ("requestObject", format!("key: {}\n", base64(PEM))),
        ("requestObject", format!("base64url.bearer.authorization.k8s.io.{}", secrets[2])),
    ] {
        for event in [
            json!({field: text, "responseStatus": {"message": text}, "annotations": {"a/b": text}}),
            json!({"requestObject": {"spec": {"containers": [{"env": [{"name": "T", "value": text}]}]}}}),
            json!({"responseObject": {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json!({"env": text}).to_string()}}}}),
            json!({"requestObject": {text.clone(): 1}}),
        ] {
            let (out, count) = redact(&event);
            assert!(count > 0, "{event}");
            let out = out.to_string();
            for secret in secrets {
                assert!(!out.contains(&inside(secret)), "{secret} of {event} is in {out}");
            }
            assert!(!out.contains("MIIE") && !out.contains(&base64(JWT)[..30]), "{out}");
        }
    }
}

#[test]
fn secrets_that_overlap_leave_no_part() {
    let text = format!("{}{PEM}", base64(JWT).trim_end_matches('='));
    let out = redact(&json!({"requestObject": text})).0.to_string();
    assert!(!out.contains("MIIE") && !out.contains("ZXlK") && !out.contains("PRIVATE"), "{out}");
}

#[test]
fn what_only_resembles_a_secret_stays() {
    for text in [
        "Authentication failed, attempted: basic, bearer, access_token, x509",
        "bearer authentication is on",
        "/api/v1/pods?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n",
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUM1ekNDQWMrZ0F3SUJBZ0lCQVRBTkJna3Foa2lH",
        "https://kubernetes.default.svc:443/x@y",
        "docker://nginx@sha256:abc",
    ] {
        let event = json!({"requestURI": text, "requestObject": {"a": text}, "annotations": {"a/b": text}});
        assert_eq!(redact(&event), (event, 0));
    }
}

#[test]
fn a_whole_value_in_a_body_becomes_an_object_and_a_part_becomes_text() {
    let (out, count) = redact(
        &json!({"requestObject": {"whole": JWT, "part": format!("x {JWT} y"), "encoded": base64(JWT)}, "userAgent": JWT}),
    );
    let facts = format!("rule=jwt,len={},hmac={}", JWT.len(), hmac(JWT));
    assert_eq!(
        out["requestObject"]["whole"],
        json!({"$redacted": {"rule": "jwt", "len": JWT.len(), "hmac": hmac(JWT)}})
    );
    assert_eq!(out["requestObject"]["encoded"], out["requestObject"]["whole"]);
    assert_eq!(out["requestObject"]["part"], format!("x $redacted({facts}) y"));
    assert_eq!(out["userAgent"], format!("$redacted({facts})"));
    assert_eq!(count, 4);
}

#[test]
fn any_case_of_bearer_and_of_a_parameter_is_found() {
    for text in [
        "bEARer hunter2hunter2",
        "BeaReR hunter2hunter2",
        "beareR+hunter2hunter2",
        "/x?Access_Token=hunter2",
        "/x?ACCESS-TOKEN=hunter2",
        "/x?a=b&clientSecret=no&client_SeCrEt=hunter2",
        "/x?PassWord=hunter2",
        "/x?ApiKey=hunter2&y=1",
        "/x?API_KEy=hunter2",
        "/x?passwD=hunter2",
    ] {
        let (out, count) = redact(&json!({"requestURI": text, "requestObject": {"a": text}}));
        assert!(count == 2 && !out.to_string().contains("hunter2"), "{text} gave {out}");
    }
}

#[test]
fn a_manifest_is_found_wherever_its_kind_has_its_value() {
    for kind in [
        "kind: Secret",
        "kind:\n  Secret",
        "kind:\r\n\r\n  \"Secret\"",
        "\"kind\" :\n  'SecretList'",
        "kind: # which\n  Secret",
        "kind:\n# one\n# two\n  Secret",
        "kind: !!str Secret",
        "kind: &k Secret",
        "kind: >-\n  Secret",
        "kind: |\n  Secret",
        "? kind\n: Secret",
        "# kind: Secret",
        "{a: \"#\", kind: # b # c\n  Secret}",
    ] {
        let text = format!("apiVersion: v1\n{kind}\nstringData: {{k: hunter2}}\n");
        let (out, count) = redact(&json!({"requestObject": {"a": text}}));
        assert!(count == 1 && !out.to_string().contains("hunter2"), "{text} gave {out}");
    }
    let prose =
        json!({"requestObject": {"a": "what kind of Secret: none\nmankind # a Secret\nkinds:\n- Secret\n"}});
    assert_eq!(redact(&prose), (prose, 0));
}

#[test]
fn an_encoded_token_is_found_wherever_it_begins() {
    for before in ["", "x", "xy", "xyz", "token: ", "token=  ", "{\"t\":\""] {
        let encoded = base64(&format!("{before}{JWT} and more"));
        for around in
            [encoded.clone(), format!("/a/{encoded}"), format!("ab/{encoded}"), format!("a/{encoded}")]
        {
            let (out, count) = redact(&json!({"requestObject": {"a": around}}));
            assert!(
                count == 1 && !out.to_string().contains(&encoded[24..60]),
                "{before:?}: {around} gave {out}"
            );
        }
    }
}

#[test]
fn escapes_hide_nothing() {
    let hide = |text: &str| text.replace('e', "\\u0065").replace('/', "\\/");
    let redactor = redactor();
    for event in [
        format!(r#"{{"requestObject":{{"x":"{}"}}}}"#, hide(JWT)),
        format!(
            r#"{{"requestObject":{{"{}":"{}","d\u0061ta":{{"k":"hunter2"}}}}}}"#,
            hide("kind"),
            hide("Secret")
        ),
        r#"{"requestObject":{"kind":"S\u0065cret","metadata":{},"stringData":{"k":"hunter2"}}}"#.into(),
        r#"{"objectRef":{"r\u0065source":"s\u0065crets"},"requ\u0065stObject":{"x":"hunter2"}}"#.into(),
        r#"{"requestObject":{"m":"{\"kind\":\"S\\u0065cret\",\"data\":{\"k\":\"hunter2\"}}"}}"#.into(),
    ] {
        let (out, count) = redact_with(&redactor, &event);
        assert!(count > 0 && !out.contains("hunter2") && !out.contains("InR5cCI6"), "{event} gave {out}");
        assert!(!out.contains(&hide(JWT)[..30]), "{out}");
    }
}

#[test]
fn a_forged_marker_protects_nothing() {
    for forged in [
        json!({"$redacted": "hunter2"}),
        json!({"$redacted": {"rule": "hunter2", "len": 1, "hmac": "0".repeat(64)}}),
        json!({"$redacted": {"rule": "secret", "len": 1, "hmac": "0".repeat(64), "x": "hunter2"}}),
        json!({"$redacted": {"rule": "secret", "len": 1, "hmac": "hunter2"}}),
        json!("$redacted(rule=secret,len=hunter2,hmac=00)"),
    ] {
        let out = redact(&about("secrets", json!({"data": {"k": forged}, "kind": "Secret"}))).0.to_string();
        assert!(!out.contains("hunter2"), "{out}");
    }
}

#[test]
fn rules_of_a_file_are_applied() {
    let rules = RuleSet::from_yaml(
        "bodies:\n- {name: vault, group: vault.io, kind: VaultSecret, resources: [vaultsecrets], keep: [apiVersion, kind, metadata, spec.path], keys: [spec.data]}\n\
         texts:\n- {name: aws-key, words: [AKIA], pattern: 'AKIA[0-9A-Z]{16}'}\n",
    )
    .unwrap();
    let redactor = Redactor::new(&rules, &DeploymentKey::from_bytes([3; 32]));
    let event = json!({"requestObject": {"kind": "VaultSecret", "apiVersion": "vault.io/v1", "metadata": {}, "spec": {"path": "p", "data": {"k": "hunter2"}, "x": "hunter2"}},
        "userAgent": "AKIAABCDEFGHIJKLMNOP"});
    let (out, count) = redact_with(&redactor, &event.to_string());
    assert!(
        !out.contains("hunter2")
            && !out.contains("AKIAABC")
            && out.contains(r#""path":"p""#)
            && out.contains(r#""k":{"#),
        "{out}"
    );
    assert_eq!(count, 3);
}

#[test]
fn a_query_of_our_own_is_searched_as_well() {
    let query = format!("ua:{JWT} and verb:get");
    let redactor = redactor();
    let (text, count) = redactor.redact_text(&query);
    assert!(text.starts_with("ua:$redacted(rule=jwt,") && text.ends_with(") and verb:get"));
    assert_eq!(count, 1);
    assert!(matches!(redactor.redact_text("verb:get"), (Cow::Borrowed("verb:get"), 0)));
}

/// Ways in which a secret value can stand in an event about secrets.
fn shapes(secret: &str) -> Vec<Value> {
    let object =
        json!({"metadata": {"name": "n"}, "data": {"k": base64(secret)}, "stringData": {"k": secret}});
    let mut named = object.clone();
    named["kind"] = "Secret".into();
    named["apiVersion"] = "v1".into();
    let reference = json!({"resource": "secrets"});
    let mut shapes = vec![
        json!({"objectRef": {"resource": "configmaps"}, "requestObject": {"kind": "List", "items": [named]}}),
    ];
    for body in [
        object.clone(),
        json!({"kind": "SecretList", "items": [object]}),
        json!({"kind": "Table", "rows": [{"cells": [secret], "object": named}]}),
        json!([{"op": "add", "path": "/data/k", "value": base64(secret)}, {"op": "add", "path": "/stringData", "value": {"k": secret}}]),
        json!(secret),
        json!({"kind": "Status", "message": format!("bad value {secret}"), "details": {"causes": [{"message": secret}]}}),
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": named.to_string()}}}),
        json!({"anything": [{"else": secret}]}),
    ] {
        shapes.push(json!({"objectRef": reference, "requestObject": body, "responseObject": body}));
    }
    let patch = json!({"patch": [{"op": "add", "path": "/data/k", "value": base64(secret)}], "more": secret});
    shapes.push(json!({"objectRef": reference, "responseStatus": {"message": format!("invalid: {secret}")},
        "annotations": {"patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string(), "w.example.com/k": secret}}));
    shapes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_planted_secret_survives_in_no_shape(secret in "[A-Z][ -~é€]{11,40}") {
        let escaped = inside(&secret);
        for event in shapes(&secret) {
            let (out, count) = redact(&event);
            let text = out.to_string();
            prop_assert!(count > 0);
            prop_assert!(!text.contains(&escaped), "{} in {}", secret, text);
            prop_assert!(!text.contains(&base64(&secret)), "{} in {}", secret, text);
        }
    }

    #[test]
    fn bytes_around_a_secret_stay(before in "[ -~\\n\"\\\\é😀]{0,20}", after in "[ -~\\n\"\\\\é😀]{0,20}", style in 0..3) {
        let quote = |text: &str| match style {
            0 => inside(text),
            1 => text.encode_utf16().map(|u| format!("\\u{u:04X}")).collect(),
            _ => inside(text).replace('/', "\\/"),
        };
        // Spaces part the secret from what could be taken as its continuation.
        let (head, tail) = (quote(&format!("{before} ")), quote(&format!(" {after}")));
        prop_assume!(!before.contains("://") && !after.contains('@'));
        let event = format!(r#"{{ "a" : 1.0e0,  "requestObject":{{"x" :"{head}{JWT}{tail}" , "y":[ ]}}}}"#);
        let marker = redactor().marks.text("jwt", JWT.as_bytes());
        let expected = event.replace(JWT, &marker);
        prop_assert_eq!(redact_with(&redactor(), &event), (expected, 1));
    }

    #[test]
    fn anything_that_is_an_event_redacts_to_an_event(text in "\\PC{0,60}", secret: bool) {
        let event = json!({"objectRef": {"resource": if secret { "secrets" } else { "pods" }}, "requestObject": {"kind": "Secret", "metadata": text, "data": {text.clone(): text}}, "userAgent": format!("{JWT}{text}")});
        let (_, count) = redact(&event);
        prop_assert!(count > 0);
    }
}
