//! OpenAPI v3 documents, one for each group and version, made from the tables of types and resources. kubectl reads
//! them before it validates, merges and explains.

mod paths;
mod schemas;
mod swagger;

use std::sync::OnceLock;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use super::{
    discovery::KUBERNETES_VERSION,
    request::parameter,
    resources::{Group, Version, resources},
    status::Status,
};

/// Where the documents are.
const ROOT: &str = "/openapi/v3";

/// What clients may do with a document whose name holds its hash.
const FOR_EVER: &str = "public, immutable, max-age=31536000";

/// One group and version, and the hash of its document. The document itself is made anew for whoever asks: that takes
/// milliseconds, and keeping them all takes megabytes.
struct Document {
    /// Such as `apis/apps/v1`.
    path: String,
    group: &'static Group,
    version: &'static Version,
    hash: String,
}

impl Document {
    fn new(group: &'static Group, version: &'static Version) -> Self {
        let path = match group.name {
            "" => format!("api/{}", version.name),
            name => format!("apis/{name}/{}", version.name),
        };
        let mut document = Self { path, group, version, hash: String::new() };
        document.hash = hex::encode_upper(Sha512::digest(document.bytes()));
        document
    }

    fn bytes(&self) -> Vec<u8> {
        let (paths, types) = paths::of(self.group.name, self.version);
        let document = json!({
            "openapi": "3.0.0",
            "info": { "title": "Kubernetes", "version": KUBERNETES_VERSION },
            "paths": paths,
            "components": { "schemas": schemas::of(self.group.name, self.version.name, types) },
        });
        serde_json::to_vec(&document).unwrap_or_default()
    }

    fn url(&self) -> String {
        format!("{ROOT}/{}?hash={}", self.path, self.hash)
    }
}

fn documents() -> &'static [Document] {
    static DOCUMENTS: OnceLock<Vec<Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let versions = resources().groups().iter().flat_map(|g| g.versions.iter().map(move |v| (g, v)));
        versions.map(|(group, version)| Document::new(group, version)).collect()
    })
}

/// The answer for a path below `/openapi`; nothing for other paths.
pub fn answer(path: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Response> {
    if path == "/openapi/v2" {
        return Some(swagger::answer(headers));
    }
    let rest = path.strip_prefix(ROOT)?.trim_matches('/');
    if !accepts_json(headers) {
        return Some(Status::not_acceptable("application/json").into_response());
    }
    if rest.is_empty() {
        return Some(send(headers, index(), None));
    }
    let document = documents().iter().find(|document| document.path == rest)?;
    match parameter(query, "hash").filter(|hash| !hash.is_empty()) {
        Some(hash) if hash != document.hash => Some(moved(&document.url())),
        known => Some(send(headers, document.bytes(), known.map(|_| FOR_EVER))),
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut clauses = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
    clauses.peek().is_none()
        || clauses.flat_map(|value| value.split(',')).any(|clause| {
            let name = clause.split(';').next().unwrap_or_default().trim();
            matches!(name, "application/json" | "application/*" | "*/*")
        })
}

fn index() -> Vec<u8> {
    let paths: Map<String, Value> = documents()
        .iter()
        .map(|document| (document.path.clone(), json!({ "serverRelativeURL": document.url() })))
        .collect();
    serde_json::to_vec(&json!({ "paths": paths })).unwrap_or_default()
}

/// The document is another one now: where that is.
fn moved(url: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(url) = HeaderValue::from_str(url) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    response
}

fn send(headers: &HeaderMap, body: Vec<u8>, kept: Option<&'static str>) -> Response {
    let tag = format!("\"{}\"", hex::encode_upper(Sha512::digest(&body)));
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(body) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let sent = response.headers_mut();
    sent.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    sent.insert(header::VARY, HeaderValue::from_static("Accept"));
    sent.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept.unwrap_or("no-cache, private")));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        sent.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn document(path: &str) -> Value {
        let found = documents().iter().find(|document| document.path == path).unwrap();
        serde_json::from_slice(&found.bytes()).unwrap()
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                    found.insert(name.strip_prefix("#/components/schemas/").unwrap().to_owned());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn a_document_refers_to_nothing_that_it_does_not_hold() {
        for known in documents() {
            let document = document(&known.path);
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            let schemas = document["components"]["schemas"].as_object().unwrap();
            for name in found {
                assert!(schemas.contains_key(&name), "{}: {name}", known.path);
            }
        }
    }

    /// What the older documents have and 1.36 has no longer.
    const GONE: [&str; 3] = [
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus.resizeStatus",
        "io.k8s.api.core.v1.PodResourceClaim.source",
        // Its merge rule, that is.
        "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement.key",
    ];

    #[test]
    fn the_documents_have_the_fields_and_merge_rules_of_upstream() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared/fixtures/openapi-v3/openapi/openapitest/testdata");
        if !folder.exists() {
            crate::skipped::skipped("../shared is absent");
            return;
        }
        let mut compared = 0;
        for (file, path) in [
            ("api__v1_openapi.json", "api/v1"),
            ("apis__apps__v1_openapi.json", "apis/apps/v1"),
            ("apis__batch__v1_openapi.json", "apis/batch/v1"),
            ("apis__discovery.k8s.io__v1_openapi.json", "apis/discovery.k8s.io/v1"),
        ] {
            let theirs: Value = serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap();
            let ours = document(path);
            for (name, schema) in theirs["components"]["schemas"].as_object().unwrap() {
                let our = &ours["components"]["schemas"][name];
                let Some(properties) = schema["properties"].as_object() else { continue };
                if our.is_null() {
                    continue;
                }
                for (field, theirs) in properties {
                    let ours = &our["properties"][field];
                    if GONE.contains(&&*format!("{name}.{field}")) {
                        continue;
                    }
                    assert!(!ours.is_null(), "{name}.{field}");
                    for key in ["type", "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key"] {
                        assert_eq!(ours[key], theirs[key], "{name}.{field} {key}");
                    }
                    compared += 1;
                }
            }
        }
        assert!(compared > 1_000, "{compared}");
    }

    #[test]
    fn a_wrong_hash_leads_to_the_right_one() {
        let headers = HeaderMap::new();
        let index: Value = serde_json::from_slice(&index()).unwrap();
        let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(answer(path, Some(query), &headers).unwrap().status(), StatusCode::OK);
        let moved = answer(path, Some("hash=OLD"), &headers).unwrap();
        assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(moved.headers()[header::LOCATION], url);
        assert!(answer("/openapi/v3/apis/none/v1", None, &headers).is_none());
        let mut strange = HeaderMap::new();
        strange.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        assert_eq!(answer(ROOT, None, &strange).unwrap().status(), StatusCode::NOT_ACCEPTABLE);
    }
}
