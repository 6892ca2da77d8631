//! Protobuf to JSON, by the table.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::wire::{Fields, Wire, varint};
use crate::gateway::schema::{
    Field, Shape, Type, TypeId, canonical,
    canonical::Slots,
    scalar::{ScalarError, quantity, time},
};

/// How deep messages may be nested. Upstream's own types stay below 20; only the schemas of CustomResourceDefinitions
/// go deeper, and theirs is bounded by the size of a stored object.
const MAX_DEPTH: usize = 200;
/// How many values one body may become: 3 MiB of the smallest entries of a ConfigMap stay below.
const MAX_VALUES: usize = 500_000;

/// Why bytes are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// Without the magic number.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// Compressed or otherwise encoded.
    #[error("content encodings are not supported")]
    Encoding,
    /// A kind that is not built in.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Kind {
        /// Which was given.
        api_version: String,
        /// Which was given.
        kind: String,
    },
    /// The bytes end in the middle.
    #[error("unexpected EOF")]
    Short,
    /// More than ten bytes.
    #[error("proto: integer overflow")]
    Varint,
    /// A field number or wire type that there is not.
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    /// A field of the wrong wire type.
    #[error("proto: wrong wireType for field {0}")]
    WireType(String),
    /// A text that is not UTF-8.
    #[error("proto: a text is not UTF-8")]
    Utf8,
    /// A value that its type does not have.
    #[error(transparent)]
    Scalar(#[from] ScalarError),
    /// A raw value that is not JSON.
    #[error("proto: a raw value is not JSON")]
    Json,
    /// Nested too deeply.
    #[error("proto: messages are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// Too many values.
    #[error("proto: more than {MAX_VALUES} values")]
    Values,
}

/// The object that a message of a type is, under this kind and apiVersion.
///
/// # Errors
/// See [`ProtobufError`]. Fields that the table does not know are skipped, as upstream does.
pub fn object(
    ty: TypeId,
    bytes: &[u8],
    api_version: &str,
    kind: &str,
) -> Result<Map<String, Value>, ProtobufError> {
    let ty = ty.get();
    let mut slots = Slots::new(ty);
    for (name, text) in [("kind", kind), ("apiVersion", api_version)] {
        if let Some((slot, _)) = ty.member(name) {
            *slots.at(slot) = Some(Value::from(text));
        }
    }
    let mut reader = Reader { depth: 0, values: 0 };
    reader.fields(ty, bytes, &mut slots, 0)?;
    Ok(slots.finish(ty))
}

/// A text of the wire.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    str::from_utf8(bytes).map_err(|_| ProtobufError::Utf8)
}

struct Reader {
    depth: usize,
    values: usize,
}

impl Reader {
    /// Reads a message into the slots from `base` on: those of an inlined message are its owner's.
    fn fields(
        &mut self,
        ty: &Type,
        bytes: &[u8],
        slots: &mut Slots,
        base: usize,
    ) -> Result<(), ProtobufError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        let mut fields = Fields::new(bytes);
        while let Some((number, wire)) = fields.next()? {
            let Some(field) = ty.numbered(number) else { continue };
            let slot = base + field.slot();
            match (&field.shape, wire) {
                (Shape::Message(inner), Wire::Bytes(bytes)) if field.inline => {
                    self.fields(inner.get(), bytes, slots, slot)?;
                }
                _ => self.field(field, wire, slots.at(slot))?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        slot: &mut Option<Value>,
    ) -> Result<(), ProtobufError> {
        match &field.shape {
            Shape::List(inner) => {
                let Value::Array(items) = slot.get_or_insert(Value::Array(Vec::new())) else { return Ok(()) };
                self.items(inner, wire, items, field.name)
            }
            Shape::Map(inner) => {
                let Wire::Bytes(entry) = wire else { return Err(wrong(field.name)) };
                let Value::Object(entries) = slot.get_or_insert(Value::Object(Map::new())) else {
                    return Ok(());
                };
                let (key, value) = self.entry(inner, entry, field.name)?;
                entries.insert(key, value);
                Ok(())
            }
            shape => {
                *slot = Some(self.value(shape, wire, field.name)?);
                Ok(())
            }
        }
    }

    fn items(
        &mut self,
        shape: &Shape,
        wire: Wire<'_>,
        items: &mut Vec<Value>,
        name: &str,
    ) -> Result<(), ProtobufError> {
        let packed = matches!(shape, Shape::Int32(_) | Shape::Int64(_) | Shape::Bool(_));
        if let (true, Wire::Bytes(mut bytes)) = (packed, wire) {
            while !bytes.is_empty() {
                let wire = Wire::Varint(varint(&mut bytes)?);
                items.push(self.value(shape, wire, name)?);
            }
            return Ok(());
        }
        items.push(self.value(shape, wire, name)?);
        Ok(())
    }

    fn entry(&mut self, shape: &Shape, bytes: &[u8], name: &str) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = ("", None);
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                (2, wire) => value = Some(self.value(shape, wire, name)?),
                _ => {}
            }
        }
        Ok((key.to_owned(), value.unwrap_or_else(|| canonical::zero(shape))))
    }

    fn value(&mut self, shape: &Shape, wire: Wire<'_>, name: &str) -> Result<Value, ProtobufError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(ProtobufError::Values);
        }
        match (shape, wire) {
            (Shape::Int32(_), Wire::Varint(value)) => Ok(Value::from(value as i32)),
            (Shape::Int64(_), Wire::Varint(value)) => Ok(Value::from(value as i64)),
            (Shape::Bool(_), Wire::Varint(value)) => Ok(Value::Bool(value != 0)),
            (Shape::Float, Wire::Fixed64(bits)) => Ok(Value::from(f64::from_bits(bits))),
            (_, Wire::Bytes(bytes)) => self.bytes(shape, bytes, name),
            _ => Err(wrong(name)),
        }
    }

    fn bytes(&mut self, shape: &Shape, bytes: &[u8], name: &str) -> Result<Value, ProtobufError> {
        Ok(match shape {
            Shape::Text(_) => Value::from(text(bytes)?),
            Shape::Bytes => Value::String(BASE64_STANDARD.encode(bytes)),
            Shape::Message(ty) => {
                let mut slots = Slots::new(ty.get());
                self.fields(ty.get(), bytes, &mut slots, 0)?;
                Value::Object(slots.finish(ty.get()))
            }
            Shape::Time => self.time(bytes, name, |seconds, _| time::from_seconds(seconds))?,
            Shape::MicroTime => self.time(bytes, name, time::from_micros)?,
            Shape::Duration => Value::String(time::from_duration(number(bytes, 1)? as i64)),
            Shape::Quantity => {
                let given = part(bytes, 1)?.map(text).transpose()?.unwrap_or_default();
                Value::String(if given.is_empty() { "0".to_owned() } else { quantity::canonical(given)? })
            }
            Shape::IntOrText => match number(bytes, 1)? {
                0 => Value::from(number(bytes, 2)? as i32),
                _ => Value::from(part(bytes, 3)?.map(text).transpose()?.unwrap_or_default()),
            },
            Shape::Raw => raw(part(bytes, 1)?)?,
            Shape::Fields | Shape::Json => json(part(bytes, 1)?)?,
            Shape::Wrapped(inner) => {
                let mut items = Vec::new();
                let mut fields = Fields::new(bytes);
                while let Some((number, wire)) = fields.next()? {
                    if number == 1 {
                        self.items(inner, wire, &mut items, name)?;
                    }
                }
                Value::Array(items)
            }
            Shape::SchemaOrBool(ty) => match part(bytes, 2)? {
                Some(schema) => self.bytes(&Shape::Message(*ty), schema, name)?,
                None => Value::Bool(number(bytes, 1)? != 0),
            },
            Shape::SchemaOrList(ty) => self.schema_or(bytes, *ty, &Shape::Message(*ty), name)?,
            Shape::SchemaOrTexts(ty) => self.schema_or(bytes, *ty, &Shape::Text(""), name)?,
            _ => return Err(wrong(name)),
        })
    }

    fn schema_or(
        &mut self,
        bytes: &[u8],
        ty: TypeId,
        item: &Shape,
        name: &str,
    ) -> Result<Value, ProtobufError> {
        let mut items = Vec::new();
        let mut fields = Fields::new(bytes);
        while let Some((number, wire)) = fields.next()? {
            match number {
                1 => return self.value(&Shape::Message(ty), wire, name),
                2 => self.items(item, wire, &mut items, name)?,
                _ => {}
            }
        }
        Ok(if items.is_empty() { Value::Null } else { Value::Array(items) })
    }

    /// An empty message is the time that was never set.
    fn time(
        &mut self,
        bytes: &[u8],
        name: &str,
        print: impl Fn(i64, i32) -> Option<String>,
    ) -> Result<Value, ProtobufError> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let text = print(number(bytes, 1)? as i64, number(bytes, 2)? as i32);
        let text = text.ok_or_else(|| ScalarError(format!("{name}: year outside of range [0,9999]")))?;
        Ok(Value::String(text))
    }
}

fn wrong(name: &str) -> ProtobufError {
    ProtobufError::WireType(name.to_owned())
}

/// The last varint of this number in a message.
fn number(bytes: &[u8], wanted: u32) -> Result<u64, ProtobufError> {
    let mut found = 0;
    let mut fields = Fields::new(bytes);
    while let Some((number, wire)) = fields.next()? {
        if let (true, Wire::Varint(value)) = (number == wanted, wire) {
            found = value;
        }
    }
    Ok(found)
}

/// The last bytes of this number in a message.
fn part(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>, ProtobufError> {
    let mut found = None;
    let mut fields = Fields::new(bytes);
    while let Some((number, wire)) = fields.next()? {
        if let (true, Wire::Bytes(value)) = (number == wanted, wire) {
            found = Some(value);
        }
    }
    Ok(found)
}

fn json(bytes: Option<&[u8]>) -> Result<Value, ProtobufError> {
    match bytes {
        None | Some([]) => Ok(Value::Null),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| ProtobufError::Json),
    }
}

/// A raw extension holds JSON, or a whole protobuf body of its own.
fn raw(bytes: Option<&[u8]>) -> Result<Value, ProtobufError> {
    match bytes {
        Some(body) if super::envelope::Envelope::is(body) => {
            let envelope = super::envelope::Envelope::read(body)?;
            if envelope.content_type.ends_with("json") {
                json(Some(envelope.raw))
            } else {
                Ok(Value::Object(envelope.object()?))
            }
        }
        other => json(other),
    }
}
