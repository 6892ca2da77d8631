//! An object of the API as the gateway handles it: JSON with a `metadata` that is read and written by name.

use serde_json::{Map, Value};

/// A JSON object that has a JSON object `metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object(Map<String, Value>);

/// What stands before all else, in this order, as upstream writes it.
const HEAD: [&str; 3] = ["kind", "apiVersion", "metadata"];

/// Why a value is no object of the API.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoObject {
    /// An array, a text, a number.
    #[error("not a JSON object")]
    NotAnObject,
    /// `metadata` is something else than an object.
    #[error("metadata is not a JSON object")]
    Metadata,
}

impl Object {
    /// Takes a value, with an empty `metadata` where there is none, and `kind`, `apiVersion` and `metadata` in front.
    ///
    /// # Errors
    /// See [`NoObject`].
    pub fn new(value: Value) -> Result<Self, NoObject> {
        let Value::Object(mut rest) = value else { return Err(NoObject::NotAnObject) };
        let mut object = Map::with_capacity(rest.len() + 1);
        let is_ordered = rest.keys().zip(HEAD).all(|(key, head)| key == head) && rest.len() >= HEAD.len();
        if is_ordered {
            object = rest;
        } else {
            for key in HEAD {
                if let Some(value) = rest.shift_remove(key) {
                    object.insert(key.to_owned(), value);
                }
            }
            object.extend(rest);
        }
        match object.get_mut("metadata") {
            None => drop(object.insert("metadata".into(), Value::Object(Map::new()))),
            Some(metadata @ Value::Null) => *metadata = Value::Object(Map::new()),
            Some(Value::Object(_)) => {}
            Some(_) => return Err(NoObject::Metadata),
        }
        Ok(Self(object))
    }

    /// The whole object.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The members of the object.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The members of the object.
    pub fn members_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Sets `kind` and `apiVersion`.
    pub fn set_type(&mut self, api_version: &str, kind: &str) {
        self.0.insert("kind".into(), kind.into());
        self.0.insert("apiVersion".into(), api_version.into());
        if self.0.keys().next().is_none_or(|key| key != HEAD[0])
            && let Ok(ordered) = Self::new(Value::Object(std::mem::take(&mut self.0)))
        {
            *self = ordered;
        }
    }

    /// Its `metadata`.
    pub fn metadata(&self) -> &Map<String, Value> {
        static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.0.get("metadata").and_then(Value::as_object).unwrap_or(&NONE)
    }

    /// Its `metadata`.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let metadata = self.0.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !metadata.is_object() {
            *metadata = Value::Object(Map::new());
        }
        match metadata {
            Value::Object(members) => members,
            _ => unreachable!("made an object above"),
        }
    }

    fn text(&self, key: &str) -> &str {
        self.metadata().get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a text of `metadata`, or removes it when it is empty.
    pub fn set_text(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            self.metadata_mut().shift_remove(key);
        } else {
            self.metadata_mut().insert(key.to_owned(), value.into());
        }
    }

    /// Empty where there is none, like every text here.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// The prefix that a name is made from.
    pub fn generate_name(&self) -> &str {
        self.text("generateName")
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.text("namespace")
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.text("uid")
    }

    /// The revision that it was read at.
    pub fn resource_version(&self) -> &str {
        self.text("resourceVersion")
    }

    /// How often its specification changed.
    pub fn generation(&self) -> i64 {
        self.metadata().get("generation").and_then(Value::as_i64).unwrap_or_default()
    }

    /// Whether somebody has asked for its end.
    pub fn is_deleting(&self) -> bool {
        !self.text("deletionTimestamp").is_empty()
    }

    /// Who has to agree before it goes.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        let list = self.metadata().get("finalizers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata().get("labels")?.get(key)?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().get("annotations")?.get(key)?.as_str()
    }

    /// The value at a JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let (first, rest) = pointer.strip_prefix('/')?.split_once('/').unwrap_or((&pointer[1..], ""));
        let member = self.0.get(first)?;
        if rest.is_empty() { Some(member) } else { member.pointer(&pointer[first.len() + 1..]) }
    }

    /// The text at a JSON pointer, empty where there is none.
    pub fn text_at(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kind_version_and_metadata_come_first() {
        let object = Object::new(json!({"data": {}, "metadata": {"name": "a"}, "kind": "K"})).unwrap();
        assert_eq!(
            serde_json::to_string(&object.into_value()).unwrap(),
            r#"{"kind":"K","metadata":{"name":"a"},"data":{}}"#
        );
        let mut object = Object::new(json!({"data": {}})).unwrap();
        object.set_type("v1", "ConfigMap");
        let text = serde_json::to_string(&object.into_value()).unwrap();
        assert_eq!(text, r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{}}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(Object::new(json!([])), Err(NoObject::NotAnObject));
        assert_eq!(Object::new(json!({"metadata": 1})), Err(NoObject::Metadata));
        assert!(Object::new(json!({"metadata": null})).is_ok());
    }

    #[test]
    fn pointers_reach_members_and_below() {
        let object = Object::new(json!({"spec": {"a": ["x"]}, "type": "T"})).unwrap();
        assert_eq!(object.text_at("/spec/a/0"), "x");
        assert_eq!(object.text_at("/type"), "T");
        assert_eq!(object.text_at("/none/a"), "");
    }
}
