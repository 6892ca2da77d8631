//! The paths of a group's resources, and what may be done at each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schemas;
use crate::gateway::{
    resources::{Resource, Version},
    schema::{TypeId, schema},
};

/// Media types of objects.
const OBJECTS: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];

/// Media types of patches that are applied.
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// The paths of a version, and the types that they speak of.
pub(super) fn of(group: &str, version: &Version) -> (Map<String, Value>, Vec<TypeId>) {
    let root = match group {
        "" => format!("/api/{}", version.name),
        name => format!("/apis/{name}/{}", version.name),
    };
    let mut paths = BTreeMap::new();
    let mut types = Vec::new();
    for resource in &version.resources {
        add(&mut paths, &mut types, &root, resource);
    }
    (paths.into_iter().collect(), types)
}

fn add(paths: &mut BTreeMap<String, Value>, types: &mut Vec<TypeId>, root: &str, resource: &Resource) {
    let list =
        resource.ty().and_then(|_| schema().kind(resource.group, resource.version, &resource.list_kind()));
    let about = Described {
        group: resource.group,
        version: resource.version,
        kind: resource.kind,
        ty: resource.ty(),
        list,
        namespaced: resource.namespaced,
        verbs: &resource.verbs,
    };
    types.extend(about.ty);
    types.extend(about.list);
    let collection = if resource.namespaced {
        paths.insert(format!("{root}/{}", resource.plural), about.item(&["list"], &[]));
        format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    };
    let place: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
    paths.insert(collection.clone(), about.item(&["list", "create", "deletecollection"], place));
    let named: Vec<&str> = ["name"].into_iter().chain(place.iter().copied()).collect();
    if resource.allows("get") {
        let verbs = ["get", "update", "patch", "delete"];
        paths.insert(format!("{collection}/{{name}}"), about.item(&verbs, &named));
    }
    for sub in &resource.subresources {
        let about = Described {
            group: sub.group,
            version: sub.version,
            kind: sub.kind,
            ty: sub.ty(),
            list: None,
            verbs: &sub.verbs,
            ..about
        };
        types.extend(about.ty);
        let verbs = ["get", "create", "update", "patch", "delete"];
        paths.insert(format!("{collection}/{{name}}/{}", sub.name), about.item(&verbs, &named));
    }
}

/// A resource or subresource.
#[derive(Clone, Copy)]
struct Described<'r> {
    group: &'r str,
    version: &'r str,
    kind: &'r str,
    ty: Option<TypeId>,
    list: Option<TypeId>,
    namespaced: bool,
    verbs: &'r [&'static str],
}

impl Described<'_> {
    /// What may be done at one path.
    fn item(&self, verbs: &[&str], place: &[&str]) -> Value {
        let mut item = Map::new();
        if !place.is_empty() {
            let parameters = place.iter().map(|name| {
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } })
            });
            item.insert("parameters".into(), parameters.collect());
        }
        for verb in verbs.iter().filter(|verb| self.verbs.contains(verb)) {
            let method = match *verb {
                "get" | "list" => "get",
                "create" => "post",
                "update" => "put",
                "patch" => "patch",
                _ => "delete",
            };
            let place = format!("{}{}", if self.namespaced { "Namespaced" } else { "" }, self.kind);
            item.insert(method.into(), self.operation(verb, &place));
        }
        item.into()
    }

    fn operation(&self, verb: &str, place: &str) -> Value {
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let answered = if verb == "list" { self.list } else { self.ty };
        let mut operation = json!({
            "operationId": format!("{verb}{place}"),
            "parameters": parameters(verb),
            "responses": { "200": { "description": "OK", "content": content(&OBJECTS, answered) } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind":
                { "group": self.group, "kind": self.kind, "version": self.version },
        });
        let body = match verb {
            "create" | "update" => content(&["*/*"], self.ty),
            "patch" => PATCHES
                .iter()
                .map(|name| ((*name).to_owned(), json!({ "schema": { "type": "object" } })))
                .collect(),
            _ => return operation,
        };
        operation["requestBody"] = json!({ "content": body, "required": true });
        operation
    }
}

fn content(media_types: &[&str], ty: Option<TypeId>) -> Map<String, Value> {
    let schema = match ty {
        Some(ty) => json!({ "$ref": format!("#/components/schemas/{}", schemas::name(ty)) }),
        None => json!({}),
    };
    media_types.iter().map(|name| ((*name).to_owned(), json!({ "schema": schema }))).collect()
}

fn parameters(verb: &str) -> Value {
    let names: &[(&str, &str)] = match verb {
        "create" | "update" | "patch" => {
            &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
        }
        "delete" => {
            &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")]
        }
        "list" | "deletecollection" => &[
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
        ],
        _ => &[],
    };
    let described = |(name, ty): &(&str, &str)| json!({ "name": name, "in": "query", "schema": { "type": ty, "uniqueItems": true } });
    names.iter().map(described).collect()
}
