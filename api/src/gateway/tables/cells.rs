//! What cells of several kinds are made of.

use ingest::time::Timestamp;
use serde_json::{Map, Value};

use super::age;

/// What stands where there is nothing.
pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// An object, or a part of one, and when it is looked at.
#[derive(Clone, Copy)]
pub(super) struct View<'v> {
    pub(super) object: &'v Value,
    pub(super) now: Timestamp,
}

impl<'v> View<'v> {
    pub(super) fn at(&self, pointer: &str) -> &'v Value {
        self.object.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Empty where there is none.
    pub(super) fn text(&self, pointer: &str) -> &'v str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    pub(super) fn or(&self, pointer: &str, nothing: &'v str) -> &'v str {
        Some(self.text(pointer)).filter(|text| !text.is_empty()).unwrap_or(nothing)
    }

    pub(super) fn int(&self, pointer: &str) -> i64 {
        self.at(pointer).as_i64().unwrap_or_default()
    }

    pub(super) fn flag(&self, pointer: &str) -> bool {
        self.at(pointer).as_bool().unwrap_or_default()
    }

    pub(super) fn list(&self, pointer: &str) -> &'v [Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// The elements of a list, each as a view of its own.
    pub(super) fn each(&self, pointer: &str) -> impl DoubleEndedIterator<Item = View<'v>> + use<'v> {
        let now = self.now;
        self.list(pointer).iter().map(move |object| View { object, now })
    }

    /// How many members an object or a list has.
    pub(super) fn len(&self, pointer: &str) -> usize {
        match self.at(pointer) {
            Value::Object(members) => members.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        }
    }

    pub(super) fn has(&self, pointer: &str) -> bool {
        !self.at(pointer).is_null()
    }

    /// How long ago.
    pub(super) fn since(&self, pointer: &str) -> String {
        age::since(self.text(pointer), self.now)
    }

    pub(super) fn age(&self) -> String {
        self.since("/metadata/creationTimestamp")
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.has("/metadata/deletionTimestamp")
    }

    /// The status of a condition, empty where there is no such one.
    pub(super) fn condition(&self, name: &str) -> &'v str {
        self.each("/status/conditions").find(|c| c.text("/type") == name).map_or("", |c| c.text("/status"))
    }

    /// The texts at a place of every element, with commas between.
    pub(super) fn texts(&self, list: &str, pointer: &str) -> String {
        self.each(list).map(|element| element.text(pointer)).collect::<Vec<_>>().join(",")
    }
}

/// `a=b,c=d` by key.
pub(super) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().map(pairs).unwrap_or_default();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

fn pairs(labels: &Map<String, Value>) -> Vec<String> {
    let mut pairs: Vec<_> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort_unstable();
    pairs
}

/// A label selector in the words that `--selector` takes; empty for one that selects everything.
pub(super) fn selector(selector: &Value) -> String {
    let mut terms: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<_> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|(a, _), (b, _)| a.cmp(b));
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// The same, with a word for one that selects everything.
pub(super) fn selector_or_none(value: &Value) -> String {
    Some(selector(value)).filter(|text| !text.is_empty()).unwrap_or_else(|| NONE.to_owned())
}

/// At most `max` of the texts, and how many more there are.
pub(super) fn first(texts: impl Iterator<Item = String>, max: usize) -> String {
    let mut texts: Vec<String> = texts.collect();
    let more = texts.len().saturating_sub(max);
    texts.truncate(max);
    let shown = texts.join(",");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}

/// A quantity's text, `0` where there is none.
pub(super) fn quantity(value: &Value) -> &str {
    value.as_str().unwrap_or("0")
}
