//! Values as Go's `%+v` prints them, which is how upstream shows a strategic merge patch that it refuses.

use std::fmt::Write;

use serde_json::{Map, Value};

pub(super) fn go_map(map: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_map(map, &mut text);
    text
}

pub(super) fn go_list(items: &[Value]) -> String {
    let mut text = String::new();
    write_list(items, &mut text);
    text
}

fn write_list(items: &[Value], out: &mut String) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        write_value(item, out);
    }
    out.push(']');
}

fn write_map(map: &Map<String, Value>, out: &mut String) {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    out.push_str("map[");
    for (at, (key, value)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(key);
        out.push(':');
        write_value(value, out);
    }
    out.push(']');
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Object(map) => write_map(map, out),
        Value::Array(items) => write_list(items, out),
        // Writing to a text does not fail.
        other => drop(write!(out, "{other}")),
    }
}
