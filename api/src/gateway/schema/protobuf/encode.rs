//! JSON to protobuf, by the table, byte for byte as Go writes it: every field that is no pointer, even when empty.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::tail::Tail;
use crate::gateway::schema::{
    Shape, TypeId,
    scalar::{ScalarError, time},
};

/// Why an object cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value that is not of its field's type.
    #[error("{0}: not a {1}")]
    Type(String, String),
    /// A value that its type does not have.
    #[error("{0}")]
    Scalar(#[from] ScalarError),
}

/// Writes the fields of a message.
pub(super) fn message(ty: TypeId, object: &Map<String, Value>, out: &mut Tail) -> Result<(), EncodeError> {
    for field in ty.get().on_the_wire().rev() {
        if let (true, Shape::Message(inner)) = (field.inline, &field.shape) {
            let before = out.len();
            message(*inner, object, out)?;
            out.close(field.number, before);
            continue;
        }
        match object.get(field.name).filter(|value| !value.is_null()) {
            Some(value) => {
                self::field(field.number, &field.shape, value, out)
                    .map_err(|error| within(error, field.name))?;
            }
            None if !field.pointer => empty(field.number, &field.shape, out),
            None => {}
        }
    }
    Ok(())
}

fn within(error: EncodeError, name: &str) -> EncodeError {
    match error {
        EncodeError::Type(path, wanted) if path.is_empty() => EncodeError::Type(name.to_owned(), wanted),
        EncodeError::Type(path, wanted) => EncodeError::Type(format!("{name}.{path}"), wanted),
        other => other,
    }
}

fn field(number: u16, shape: &Shape, value: &Value, out: &mut Tail) -> Result<(), EncodeError> {
    let wrong = || EncodeError::Type(String::new(), shape.go_name());
    match shape {
        Shape::List(inner) => {
            for item in value.as_array().ok_or_else(wrong)?.iter().rev() {
                element(number, inner, item, out)?;
            }
        }
        Shape::Map(inner) => {
            let mut entries: Vec<_> = value.as_object().ok_or_else(wrong)?.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries.into_iter().rev() {
                let before = out.len();
                element(2, inner, value, out)?;
                out.bytes_field(1, key.as_bytes());
                out.close(number, before);
            }
        }
        _ => single(number, shape, value, out)?,
    }
    Ok(())
}

fn element(number: u16, shape: &Shape, value: &Value, out: &mut Tail) -> Result<(), EncodeError> {
    match value {
        Value::Null if !matches!(shape, Shape::Raw | Shape::Json) => {
            match shape {
                Shape::Wrapped(_) => out.bytes_field(number, b""),
                _ => empty(number, shape, out),
            }
            Ok(())
        }
        value => single(number, shape, value, out),
    }
}

fn single(number: u16, shape: &Shape, value: &Value, out: &mut Tail) -> Result<(), EncodeError> {
    let wrong = || EncodeError::Type(String::new(), shape.go_name());
    let text = || value.as_str().ok_or_else(wrong);
    match shape {
        Shape::Text(_) => out.bytes_field(number, text()?.as_bytes()),
        Shape::Int32(_) | Shape::Int64(_) => {
            out.varint_field(number, value.as_i64().ok_or_else(wrong)? as u64)
        }
        Shape::Bool(_) => out.varint_field(number, u64::from(value.as_bool().ok_or_else(wrong)?)),
        Shape::Float => {
            out.push(&value.as_f64().ok_or_else(wrong)?.to_le_bytes());
            out.key(number, 1);
        }
        Shape::Bytes => out.bytes_field(number, &BASE64_STANDARD.decode(text()?).map_err(|_| wrong())?),
        _ => {
            let before = out.len();
            inside(shape, value, out)?;
            out.close(number, before);
        }
    }
    Ok(())
}

/// The content of what is a message on the wire.
fn inside(shape: &Shape, value: &Value, out: &mut Tail) -> Result<(), EncodeError> {
    let wrong = || EncodeError::Type(String::new(), shape.go_name());
    let text = || value.as_str().ok_or_else(wrong);
    match shape {
        Shape::Message(ty) => message(*ty, value.as_object().ok_or_else(wrong)?, out)?,
        Shape::Time => timestamp(time::seconds(text()?)?, 0, out),
        Shape::MicroTime => {
            let (seconds, nanos) = time::micros(text()?)?;
            timestamp(seconds, nanos, out);
        }
        Shape::Duration => out.varint_field(1, time::duration(text()?)? as u64),
        Shape::Quantity => out.bytes_field(1, text()?.as_bytes()),
        Shape::IntOrText => match value {
            Value::String(text) => int_or_text(1, 0, text, out),
            _ => int_or_text(0, value.as_i64().ok_or_else(wrong)?, "", out),
        },
        Shape::Raw | Shape::Fields | Shape::Json => {
            if !value.is_null() {
                out.bytes_field(1, value.to_string().as_bytes());
            }
        }
        Shape::Wrapped(inner) => {
            for item in value.as_array().ok_or_else(wrong)?.iter().rev() {
                element(1, inner, item, out)?;
            }
        }
        Shape::SchemaOrBool(ty) => match value {
            Value::Object(schema) => {
                let before = out.len();
                message(*ty, schema, out)?;
                out.close(2, before);
                out.varint_field(1, 1);
            }
            value => out.varint_field(1, u64::from(value.as_bool().ok_or_else(wrong)?)),
        },
        Shape::SchemaOrList(ty) => schema_or(*ty, &Shape::Message(*ty), value, out)?,
        Shape::SchemaOrTexts(ty) => schema_or(*ty, &Shape::Text(""), value, out)?,
        _ => return Err(wrong()),
    }
    Ok(())
}

fn schema_or(ty: TypeId, item: &Shape, value: &Value, out: &mut Tail) -> Result<(), EncodeError> {
    match value {
        Value::Array(items) => {
            for value in items.iter().rev() {
                element(2, item, value, out)?;
            }
            Ok(())
        }
        value => single(1, &Shape::Message(ty), value, out),
    }
}

fn timestamp(seconds: i64, nanos: i32, out: &mut Tail) {
    out.varint_field(2, nanos as u64);
    out.varint_field(1, seconds as u64);
}

fn int_or_text(kind: u64, number: i64, text: &str, out: &mut Tail) {
    out.bytes_field(3, text.as_bytes());
    out.varint_field(2, number as u64);
    out.varint_field(1, kind);
}

/// What Go writes for a field that is no pointer and was never set.
fn empty(number: u16, shape: &Shape, out: &mut Tail) {
    match shape {
        Shape::Text(_) => out.bytes_field(number, b""),
        Shape::Int32(_) | Shape::Int64(_) | Shape::Bool(_) => out.varint_field(number, 0),
        Shape::Float => {
            out.push(&[0; 8]);
            out.key(number, 1);
        }
        Shape::Bytes | Shape::List(_) | Shape::Map(_) | Shape::Wrapped(_) => {}
        _ => {
            let before = out.len();
            match shape {
                // A struct's own fields are written too; the object that has none of them gives the same bytes.
                Shape::Message(ty) => drop(message(*ty, &Map::new(), out)),
                Shape::IntOrText => int_or_text(0, 0, "", out),
                Shape::Quantity => out.bytes_field(1, b"0"),
                Shape::Duration | Shape::SchemaOrBool(_) => out.varint_field(1, 0),
                _ => {}
            }
            out.close(number, before);
        }
    }
}
