//! JSON merge patch, RFC 7396.

use serde_json::{Map, Value};

pub(super) fn apply(current: &Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    let mut next = current.clone();
    merge(&mut next, patch);
    next
}

fn merge(object: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match (value, object.get_mut(&key)) {
            (Value::Null, _) => drop(object.shift_remove(&key)),
            (Value::Object(patch), Some(Value::Object(inner))) => merge(inner, patch),
            (Value::Object(patch), _) => {
                let mut inner = Map::new();
                merge(&mut inner, patch);
                object.insert(key, Value::Object(inner));
            }
            (value, _) => drop(object.insert(key, value)),
        }
    }
}
