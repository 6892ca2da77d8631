//! What is served, told to clients: aggregated discovery, the older documents, and the version.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::{
    resources::{Group, Resource, Version, api_version, resources},
    status::Status,
};

/// The Kubernetes version whose API this is.
const MAJOR: &str = "1";
const MINOR: &str = "36";
const GIT_VERSION: &str = "v1.36.3";

/// The same, as OpenAPI documents have it.
pub(super) const KUBERNETES_VERSION: &str = "1.36";

/// The parameters that a client asks for aggregated discovery with, and an answer carries.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer for a path of discovery; nothing for other paths.
pub fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let document = match *parts.as_slice() {
        ["version"] => version(),
        ["api"] if wants_aggregated(headers) => return Some(aggregated(headers, true)),
        ["apis"] if wants_aggregated(headers) => return Some(aggregated(headers, false)),
        ["api"] => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
        ["apis"] => json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": named_groups().map(group).collect::<Vec<_>>(),
        }),
        ["apis", name] => match resources().group(name).filter(|g| !g.name.is_empty()) {
            Some(found) => {
                let mut document = group(found);
                document["kind"] = "APIGroup".into();
                document["apiVersion"] = "v1".into();
                document
            }
            None => return Some(Status::no_such_resource().into_response()),
        },
        ["api", version] => resource_list("", version)?,
        ["apis", name, version] => match resource_list(name, version) {
            Some(document) => document,
            None => return Some(Status::no_such_resource().into_response()),
        },
        _ => return None,
    };
    Some(send(headers, &document, "application/json"))
}

fn named_groups() -> impl Iterator<Item = &'static Group> {
    resources().groups().iter().filter(|g| !g.name.is_empty())
}

fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": format!("{GIT_VERSION}+muniment.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}

fn group(group: &Group) -> Value {
    let version = |v: &Version| json!({ "groupVersion": api_version(group.name, v.name), "version": v.name });
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({ "name": group.name, "preferredVersion": versions.first(), "versions": versions })
}

fn resource_list(name: &str, version: &str) -> Option<Value> {
    let group = resources().group(name)?;
    let version = group.versions.iter().find(|v| v.name == version)?;
    let mut list = Vec::new();
    for resource in &version.resources {
        list.push(resource_of_list(resource));
        for sub in &resource.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if sub.foreign {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            list.push(entry);
        }
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version(group.name, version.name),
        "resources": list,
    }))
}

fn resource_of_list(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    name_more(&mut entry, resource);
    entry
}

fn name_more(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(
        |clause| {
            let has = |parameter: &str| clause.split(';').any(|p| p.trim() == parameter);
            has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
        },
    )
}

fn aggregated(headers: &HeaderMap, is_core: bool) -> Response {
    let groups = resources().groups().iter().filter(|g| g.name.is_empty() == is_core);
    let items: Vec<Value> = groups.map(aggregated_group).collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    send(headers, &document, AGGREGATED)
}

fn aggregated_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = version.resources.iter().map(aggregated_resource).collect();
            json!({ "version": version.name, "freshness": "Current", "resources": resources })
        })
        .collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": { "group": "", "version": "", "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    name_more(&mut entry, resource);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) = if sub.foreign { (sub.group, sub.version) } else { ("", "") };
            json!({
                "subresource": sub.name,
                "responseKind": { "group": group, "version": version, "kind": sub.kind },
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

/// Sends a document that changes only with the program, with a tag by which clients keep it.
fn send(headers: &HeaderMap, document: &Value, media_type: &'static str) -> Response {
    let body = serde_json::to_vec(document).unwrap_or_default();
    let tag = format!("\"{}\"", hex::encode_upper(Sha512::digest(&body)));
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(body) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let sent = response.headers_mut();
    sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    sent.insert(header::VARY, HeaderValue::from_static("Accept"));
    sent.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        sent.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_what_it_asks_for_and_older_clients_what_they_know() {
        let mut headers = HeaderMap::new();
        assert!(answer("/api", &headers).is_some());
        assert!(answer("/apis/apps/v1", &headers).is_some());
        assert!(answer("/apis/apps/v1/deployments", &headers).is_none());
        assert_eq!(answer("/apis/none", &headers).map(|r| r.status()), Some(StatusCode::NOT_FOUND));
        headers.insert(header::ACCEPT, HeaderValue::from_static(AGGREGATED));
        let response = answer("/apis", &headers).unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], AGGREGATED);
        let tag = response.headers()[header::ETAG].clone();
        headers.insert(header::IF_NONE_MATCH, tag);
        assert_eq!(answer("/apis", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
    }
}
