//! JSON and YAML to objects, by the table: unknown and duplicate fields are found, values of wrong types refused in
//! upstream's words, and what comes out has the form that upstream would print.

use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use super::{Shape, TypeId};

mod context;
mod visitor;

use context::Context;
use visitor::Typed;

/// An object, and what a strict decoder would not have taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object as upstream would print it: known members only, in Go's order, zero ones filled in.
    pub object: Map<String, Value>,
    /// Such as `unknown field "spec.foo"`, at most 100, each once.
    pub strict: Vec<String>,
}

/// Why a body is no object of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON or YAML at all.
    #[error("{0}")]
    Syntax(String),
    /// A value that its field does not take.
    #[error("{0}")]
    Type(String),
    /// More values than any stored object has.
    #[error("the body has more than {} values", context::MAX_VALUES)]
    Values,
}

/// Reads a JSON body.
///
/// # Errors
/// See [`DecodeError`].
pub fn json(ty: TypeId, body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut context = Context::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Typed::new(&Shape::Message(ty), &mut context).deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    finish(value, context, |error| syntax(&error))
}

/// Reads a YAML body of one document.
///
/// # Errors
/// See [`DecodeError`].
pub fn yaml(ty: TypeId, body: &[u8]) -> Result<Decoded, DecodeError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let mut context = Context::new();
    let value = serde_saphyr::with_deserializer_from_slice_with_options(body, options, |deserializer| {
        Typed::new(&Shape::Message(ty), &mut context).deserialize(deserializer)
    });
    finish(value, context, |error| {
        DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {error}"))
    })
}

/// Reads JSON that has no type, such as a patch, and what a strict decoder would not have taken.
///
/// # Errors
/// See [`DecodeError`].
pub fn any(body: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut context = Context::untyped();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Typed::new(&Shape::Json, &mut context).deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    let strict = context.finish()?;
    value.map(|value| (value, strict)).map_err(|error| syntax(&error))
}

/// Gives an object the form that upstream would print, as after a patch.
///
/// # Errors
/// See [`DecodeError`].
pub fn value(ty: TypeId, object: &Map<String, Value>) -> Result<Decoded, DecodeError> {
    let mut context = Context::new();
    let deserializer =
        serde::de::value::MapDeserializer::new(object.iter().map(|(key, value)| (key.as_str(), value)));
    let value = Typed::new(&Shape::Message(ty), &mut context).deserialize(deserializer);
    finish(value, context, |error: serde_json::Error| syntax(&error))
}

fn finish<E>(
    value: Result<Value, E>,
    context: Context,
    syntax: impl FnOnce(E) -> DecodeError,
) -> Result<Decoded, DecodeError> {
    match (value, context.finish()) {
        (_, Err(refused)) => Err(refused),
        (Ok(Value::Object(object)), Ok(strict)) => Ok(Decoded { object, strict }),
        (Ok(_), Ok(strict)) => Ok(Decoded { object: Map::new(), strict }),
        (Err(error), Ok(_)) => Err(syntax(error)),
    }
}

fn syntax(error: &serde_json::Error) -> DecodeError {
    DecodeError::Syntax(if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        error.to_string()
    })
}

#[cfg(test)]
mod tests;
