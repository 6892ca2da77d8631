//! The schemas of types: what members an object has, and how patches merge them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::gateway::schema::{Field, ListType, Shape, TypeId, schema};

/// Groups whose kinds are answered below resources of other groups.
const SHARED: [(&str, &str); 4] =
    [("", "v1"), ("autoscaling", "v1"), ("policy", "v1"), ("authentication.k8s.io", "v1")];

/// Kinds by their type: group, version and name.
type Kinds = HashMap<TypeId, Vec<Value>>;

/// The schemas of these types and of all that they hold, by name.
pub(super) fn of(group: &str, version: &str, types: Vec<TypeId>) -> Map<String, Value> {
    let kinds = kinds(group, version);
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let mut waiting = types;
    while let Some(ty) = waiting.pop() {
        let name = name(ty);
        if !found.contains_key(&name) {
            let schema = object(ty, kinds.get(&ty), &mut waiting, &mut found);
            found.insert(name, schema);
        }
    }
    found.into_iter().collect()
}

fn kinds(group: &str, version: &str) -> Kinds {
    let mut kinds = Kinds::new();
    let shared = SHARED.into_iter().filter(|shared| *shared != (group, version));
    for (group, version) in [(group, version)].into_iter().chain(shared) {
        for (kind, ty) in schema().kinds(group, version) {
            let named = json!({ "group": group, "kind": kind, "version": version });
            kinds.entry(*ty).or_default().push(named);
        }
    }
    kinds
}

/// The name of a type's schema: its Go package with the domain turned round.
pub(super) fn name(ty: TypeId) -> String {
    let (package, short) = ty.get().name.rsplit_once('.').unwrap_or(("", ty.get().name));
    let (group, version) = package.split_once('/').unwrap_or((package, ""));
    let prefix = match group {
        "meta" => "io.k8s.apimachinery.pkg.apis.meta",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.apiregistration",
        group => return format!("io.k8s.api.{group}.{version}.{short}"),
    };
    format!("{prefix}.{version}.{short}")
}

fn object(
    ty: TypeId,
    kinds: Option<&Vec<Value>>,
    waiting: &mut Vec<TypeId>,
    found: &mut BTreeMap<String, Value>,
) -> Value {
    let mut properties: BTreeMap<&str, Value> = BTreeMap::new();
    let mut required = Vec::new();
    for field in ty.get().members() {
        properties.insert(field.name, property(field, waiting, found));
        if field.required {
            required.push(field.name);
        }
    }
    let mut schema = json!({ "type": "object" });
    if !properties.is_empty() {
        schema["properties"] = json!(properties);
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some(kinds) = kinds {
        schema["x-kubernetes-group-version-kind"] = json!(kinds);
    }
    schema
}

fn property(field: &Field, waiting: &mut Vec<TypeId>, found: &mut BTreeMap<String, Value>) -> Value {
    let mut property = shape(&field.shape, waiting, found);
    let strategies: Vec<&str> = [
        (field.patch_retain_keys, "retainKeys"),
        (field.patch_merge, "merge"),
        (field.patch_replace, "replace"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
    .collect();
    if !strategies.is_empty() {
        let mut strategies = strategies;
        strategies.sort_unstable();
        property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if !field.merge_key.is_empty() {
        property["x-kubernetes-patch-merge-key"] = field.merge_key.into();
    }
    let keys: Vec<&str> = field.list_keys().collect();
    if !keys.is_empty() {
        property["x-kubernetes-list-map-keys"] = json!(keys);
    }
    let key = if matches!(field.shape, Shape::List(_)) {
        "x-kubernetes-list-type"
    } else {
        "x-kubernetes-map-type"
    };
    let word = match field.list_type {
        ListType::Unsaid => return property,
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
        ListType::Granular => "granular",
    };
    property[key] = word.into();
    property
}

fn shape(shape: &Shape, waiting: &mut Vec<TypeId>, found: &mut BTreeMap<String, Value>) -> Value {
    let mut scalar = |name: &str, schema: Value| {
        found.entry(name.to_owned()).or_insert(schema);
        reference(name)
    };
    match shape {
        Shape::Text(_) => json!({ "type": "string" }),
        Shape::Int32(_) => json!({ "type": "integer", "format": "int32" }),
        Shape::Int64(_) => json!({ "type": "integer", "format": "int64" }),
        Shape::Bool(_) => json!({ "type": "boolean" }),
        Shape::Float => json!({ "type": "number", "format": "double" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Time => scalar(
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            json!({ "type": "string", "format": "date-time" }),
        ),
        Shape::MicroTime => scalar(
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            json!({ "type": "string", "format": "date-time" }),
        ),
        Shape::Duration => {
            scalar("io.k8s.apimachinery.pkg.apis.meta.v1.Duration", json!({ "type": "string" }))
        }
        Shape::Quantity => scalar(
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        ),
        Shape::IntOrText => scalar(
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
        ),
        Shape::Raw => scalar("io.k8s.apimachinery.pkg.runtime.RawExtension", json!({ "type": "object" })),
        Shape::Fields => scalar("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", json!({ "type": "object" })),
        Shape::Json => scalar("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", json!({})),
        // A schema within a schema, or a word in its place: any JSON.
        Shape::SchemaOrBool(_) | Shape::SchemaOrList(_) | Shape::SchemaOrTexts(_) => json!({}),
        Shape::Message(ty) => {
            waiting.push(*ty);
            reference(&name(*ty))
        }
        Shape::List(inner) | Shape::Wrapped(inner) => {
            json!({ "type": "array", "items": self::shape(inner, waiting, found) })
        }
        Shape::Map(inner) => {
            json!({ "type": "object", "additionalProperties": self::shape(inner, waiting, found) })
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }] })
}
