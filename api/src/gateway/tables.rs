//! Rows for people: what `kubectl get` prints, made by the server as kube-apiserver 1.36 makes it.

mod age;
mod cells;
mod cluster;
mod columns;
mod network;
mod pod;
mod storage;
mod workload;

use ingest::time::Timestamp;
use serde_json::{Value, json};

use super::{
    negotiate::{Included, Version},
    resources::Resource,
    schema::convert::convert,
    status::Status,
};
use cells::View;
use columns::Column;

/// How the rows of one kind are written.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    columns: &'static [Column],
    included: Included,
    version: Version,
    now: Timestamp,
    /// The version that cells are read from, where objects come in another one.
    read_as: Option<(&'static str, &'static str)>,
}

impl Tables {
    /// For the objects of a resource, with ages as they are at `now`.
    pub fn of(resource: &Resource, version: Version, included: Included, now: Timestamp) -> Self {
        let read_as = (!resource.is_stored_as_it_is()).then_some(resource.stored);
        Self { columns: columns::of(resource), included, version, now, read_as }
    }

    /// The table of one object, or of a list's items.
    pub fn whole(mut self, mut value: Value) -> Value {
        if value["kind"] == "Scale" {
            self.columns = columns::SCALES;
        }
        let metadata = &value["metadata"];
        let mut told = serde_json::Map::new();
        for key in ["resourceVersion", "continue", "remainingItemCount"] {
            if let Some(value) = metadata.get(key) {
                told.insert(key.into(), value.clone());
            }
        }
        let objects = match value.get_mut("items") {
            Some(Value::Array(items)) => std::mem::take(items),
            _ => vec![value],
        };
        self.table(told.into(), Some(self.definitions()), objects)
    }

    /// The table of one event of a watch; only the first of a stream says what the columns are.
    pub fn event(&self, object: Value, is_first: bool) -> Value {
        let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
        self.table(metadata, is_first.then(|| self.definitions()), vec![object])
    }

    fn table(&self, metadata: Value, definitions: Option<Value>, objects: Vec<Value>) -> Value {
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object)).collect();
        json!({
            "kind": "Table",
            "apiVersion": self.version.api_version(),
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }

    fn definitions(&self) -> Value {
        self.columns.iter().map(Column::definition).collect()
    }

    fn row(&self, object: Value) -> Value {
        let other = self.read_as.and_then(|version| Some(convert(object.as_object()?, version)));
        let other = other.and_then(Result::ok).map(Value::Object);
        let view = View { object: other.as_ref().unwrap_or(&object), now: self.now };
        let cells: Vec<Value> = self.columns.iter().map(|column| column.cell(&view)).collect();
        let mut row = json!({ "cells": cells });
        if let Some(condition) = pod::completed(&object) {
            row["conditions"] = json!([condition]);
        }
        row["object"] = match self.included {
            Included::Nothing => Value::Null,
            Included::Object => object,
            Included::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": self.version.api_version(),
                "metadata": object["metadata"],
            }),
        };
        row
    }
}

/// The selector of a kind in the words that `--selector` takes: of labels alone, or with expressions.
pub fn selector(selector: &Value, is_plain: bool) -> String {
    match (is_plain, selector.as_object()) {
        (true, Some(labels)) if !labels.is_empty() => cells::labels(selector),
        (true, _) => String::new(),
        (false, _) => cells::selector(selector),
    }
}

/// Reads `includeObject`.
///
/// # Errors
/// 400 for another word.
pub fn included(word: Option<&str>) -> Result<Included, Status> {
    match word {
        None | Some("" | "Metadata") => Ok(Included::Metadata),
        Some("None") => Ok(Included::Nothing),
        Some("Object") => Ok(Included::Object),
        Some(other) => Err(Status::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::resources::resources;

    /// Rows that kube-apiserver 1.36 made of these objects at these times.
    const RECORDED: &str = include_str!("tables/recorded.jsonl");

    fn tables(resource: &str, now: i64) -> Tables {
        let (group, plural) = resource.split_once('/').unwrap();
        let found = resources().all().find(|r| r.group == group && r.plural == plural).unwrap();
        Tables::of(found, Version::V1, Included::Nothing, Timestamp::from_micros(now * 1_000_000))
    }

    #[test]
    fn rows_are_those_of_upstream() {
        for line in RECORDED.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let resource = case["resource"].as_str().unwrap();
            let tables = tables(resource, case["now"].as_i64().unwrap());
            let table = tables.whole(case["object"].clone());
            assert_eq!(table["rows"][0]["cells"], case["cells"], "{resource}: {}", case["object"]);
            assert_eq!(
                table["rows"][0].get("conditions").is_some(),
                case["completed"].as_bool().unwrap_or(false),
                "{resource}"
            );
        }
        assert!(RECORDED.lines().count() > 60);
    }

    #[test]
    fn columns_are_those_of_upstream() {
        let mut seen = 0;
        for line in include_str!("tables/recorded-columns.txt").lines().filter(|l| !l.starts_with('#')) {
            let (resource, expected) = line.split_once(": ").unwrap();
            let columns = tables(resource, 0).definitions();
            let told: Vec<String> = columns
                .as_array()
                .unwrap()
                .iter()
                .map(|c| {
                    let format = c["format"].as_str().unwrap();
                    let mut text = format!("{},{}", c["name"].as_str().unwrap(), c["type"].as_str().unwrap());
                    if !format.is_empty() {
                        text += &format!(",{format}");
                    }
                    if c["priority"] != 0 {
                        text += &format!(",{}", c["priority"]);
                    }
                    text
                })
                .collect();
            assert_eq!(told.join("|"), expected, "{resource}");
            seen += 1;
        }
        assert!(seen > 50);
    }

    #[test]
    fn an_event_of_a_watch_is_a_table_and_the_first_one_has_the_columns() {
        let tables = tables("/configmaps", 0);
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7"}});
        let first = tables.event(object.clone(), true);
        assert_eq!(first["columnDefinitions"].as_array().unwrap().len(), 3);
        assert_eq!(first["metadata"]["resourceVersion"], "7");
        let second = tables.event(object, false);
        assert_eq!(second["columnDefinitions"], Value::Null);
        assert_eq!(second["rows"][0]["cells"], json!(["a", 0, "<unknown>"]));
    }
}
