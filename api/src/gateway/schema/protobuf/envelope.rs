//! The envelope of every protobuf body: a magic number, then which kind follows.

use serde_json::{Map, Value};

use super::{
    decode, decode::ProtobufError, encode, encode::EncodeError, tail::Tail, wire::Fields, wire::Wire,
};
use crate::gateway::schema::{TypeId, schema};

/// What a body in protobuf begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// A body whose kind is known and whose content was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`; what the sender says.
    pub api_version: &'a str,
    /// `Deployment`; likewise.
    pub kind: &'a str,
    /// The message.
    pub raw: &'a [u8],
    /// Empty for protobuf.
    pub content_type: &'a str,
}

impl<'a> Envelope<'a> {
    /// Whether bytes are such a body at all.
    pub fn is(body: &[u8]) -> bool {
        body.starts_with(MAGIC)
    }

    /// Reads the envelope.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn read(body: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut fields = Fields::new(body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?);
        let mut envelope = Self { api_version: "", kind: "", raw: &[], content_type: "" };
        while let Some(field) = fields.next()? {
            match field {
                (1, Wire::Bytes(meta)) => {
                    let mut fields = Fields::new(meta);
                    while let Some(field) = fields.next()? {
                        match field {
                            (1, Wire::Bytes(text)) => envelope.api_version = decode::text(text)?,
                            (2, Wire::Bytes(text)) => envelope.kind = decode::text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => return Err(ProtobufError::Encoding),
                (4, Wire::Bytes(text)) => envelope.content_type = decode::text(text)?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The type that the sender says it is.
    ///
    /// # Errors
    /// A kind that is not built in.
    pub fn ty(&self) -> Result<TypeId, ProtobufError> {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", self.api_version));
        schema().kind(group, version, self.kind).ok_or_else(|| ProtobufError::Kind {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
        })
    }

    /// The object, with its kind and apiVersion.
    ///
    /// # Errors
    /// See [`ProtobufError`].
    pub fn object(&self) -> Result<Map<String, Value>, ProtobufError> {
        self.object_as(self.ty()?)
    }

    /// The object, taken to be of a type that the caller knows; its kind and apiVersion are what the sender says.
    ///
    /// # Errors
    /// See [`ProtobufError`].
    pub fn object_as(&self, ty: TypeId) -> Result<Map<String, Value>, ProtobufError> {
        decode::object(ty, self.raw, self.api_version, self.kind)
    }
}

/// The body of an object of a type. Kind and apiVersion are the object's own.
///
/// # Errors
/// An object that is not of the type.
pub fn write(ty: TypeId, object: &Map<String, Value>) -> Result<Vec<u8>, EncodeError> {
    let member = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut tail = Tail::with_capacity(1024);
    tail.bytes_field(4, b"");
    tail.bytes_field(3, b"");
    let before = tail.len();
    encode::message(ty, object, &mut tail)?;
    tail.close(2, before);
    let before = tail.len();
    tail.bytes_field(2, member("kind").as_bytes());
    tail.bytes_field(1, member("apiVersion").as_bytes());
    tail.close(1, before);
    tail.push(MAGIC);
    Ok(tail.finish())
}

/// One frame of a watch: its length in four bytes, then a `WatchEvent` around the object's own body.
pub fn frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut tail = Tail::with_capacity(object.len() + 64);
    let before = tail.len();
    tail.bytes_field(1, object);
    tail.close(2, before);
    tail.bytes_field(1, event.as_bytes());
    let length = u32::try_from(tail.len()).unwrap_or(u32::MAX);
    tail.push(&length.to_be_bytes());
    tail.finish()
}
