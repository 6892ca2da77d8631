//! Takes one value in, whatever it is written in, as the table says.

use std::fmt;

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::context::Context;
use crate::gateway::schema::{
    Shape, TypeId, canonical,
    canonical::Slots,
    scalar::{ScalarError, quantity, time},
};

/// The last bits of base64 may be anything, as in Go.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A value of a form, about to be read. `Null` stands for what was not given.
pub(super) struct Typed<'a> {
    shape: &'a Shape,
    context: &'a mut Context,
}

impl<'a> Typed<'a> {
    pub(super) fn new(shape: &'a Shape, context: &'a mut Context) -> Self {
        Self { shape, context }
    }

    fn wrong<E: Error>(self, found: &str) -> Result<Value, E> {
        self.context.wrong_type(found, self.shape);
        Err(E::custom("wrong type"))
    }

    fn scalar<E: Error>(self, text: Result<String, ScalarError>) -> Result<Value, E> {
        text.map(Value::String).map_err(|error| {
            self.context.refuse(error.0);
            E::custom("no such value")
        })
    }

    fn integer<E: Error>(self, value: i64) -> Result<Value, E> {
        match self.shape {
            Shape::Int32(_) if i32::try_from(value).is_err() => self.wrong(&format!("number {value}")),
            Shape::Int32(_) | Shape::Int64(_) | Shape::Float | Shape::Json | Shape::Raw | Shape::Fields => {
                Ok(value.into())
            }
            Shape::IntOrText if i32::try_from(value).is_ok() => Ok(value.into()),
            Shape::IntOrText => {
                self.context
                    .refuse(format!("json: cannot unmarshal number {value} into Go value of type int32"));
                Err(E::custom("out of range"))
            }
            Shape::Quantity => self.scalar(quantity::canonical(&value.to_string())),
            _ => self.number(),
        }
    }

    fn number<E: Error>(self) -> Result<Value, E> {
        match self.shape {
            Shape::Time | Shape::MicroTime | Shape::Duration => {
                self.context.refuse("json: cannot unmarshal number into Go value of type string".to_owned());
                Err(E::custom("a number"))
            }
            _ => self.wrong("number"),
        }
    }

    fn structure<'de, A: MapAccess<'de>>(self, ty: TypeId, mut map: A) -> Result<Value, A::Error> {
        let layout = ty.get();
        let mut slots = Slots::new(layout);
        let mut seen = vec![false; layout.members().len()];
        let context = self.context;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some((slot, field)) = layout.member(&key) else {
                context.unknown(&key);
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut seen[slot], true) {
                context.duplicate(field.name);
            }
            context.enter_member(field.name, ty);
            let value = map.next_value_seed(Typed::new(&field.shape, context))?;
            context.leave();
            *slots.at(slot) = (!value.is_null()).then_some(value);
        }
        Ok(Value::Object(slots.finish(layout)))
    }

    /// An object from texts to values; `Json` inside of what has no type.
    fn entries<'de, A: MapAccess<'de>>(self, inner: &Shape, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        let context = self.context;
        let raw = matches!(self.shape, Shape::Json | Shape::Raw | Shape::Fields);
        while let Some(key) = map.next_key::<String>()? {
            if (!raw || context.is_untyped()) && entries.contains_key(&key) {
                context.duplicate(&key);
            }
            context.enter_key(&key);
            let value = map.next_value_seed(Typed::new(inner, context))?;
            context.leave();
            entries.insert(key, if value.is_null() { canonical::zero(inner) } else { value });
        }
        if !raw {
            entries.sort_keys();
        }
        Ok(Value::Object(entries))
    }

    fn items<'de, A: SeqAccess<'de>>(self, inner: &Shape, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let context = self.context;
        loop {
            context.enter_index(items.len());
            let item = list.next_element_seed(Typed::new(inner, context))?;
            context.leave();
            match item {
                Some(Value::Null) => items.push(canonical::zero(inner)),
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.context.count().is_err() {
            return Err(D::Error::custom("too many values"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape.go_name())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Bool(_) | Shape::SchemaOrBool(_) | Shape::Json | Shape::Raw | Shape::Fields => {
                Ok(value.into())
            }
            _ => self.wrong("bool"),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match (i64::try_from(value), self.shape) {
            (Ok(value), _) => self.integer(value),
            (Err(_), Shape::Float | Shape::Json | Shape::Raw | Shape::Fields) => Ok(value.into()),
            (Err(_), Shape::Quantity) => self.scalar(quantity::canonical(&value.to_string())),
            (Err(_), Shape::Int32(_) | Shape::Int64(_)) => self.wrong(&format!("number {value}")),
            (Err(_), _) => self.number(),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match self.shape {
            Shape::Float | Shape::Json | Shape::Raw | Shape::Fields => {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }
            Shape::Quantity => self.scalar(quantity::canonical(&value.to_string())),
            Shape::Int32(_) | Shape::Int64(_) => self.wrong(&format!("number {value:?}")),
            _ => self.number(),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match self.shape {
            Shape::Text(_) | Shape::IntOrText | Shape::Json | Shape::Raw | Shape::Fields => Ok(text.into()),
            Shape::Bytes => {
                // Line ends are no part of base64 in Go.
                let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
                match LENIENT_BASE64.decode(&clean) {
                    Ok(bytes) => Ok(Value::String(BASE64_STANDARD.encode(bytes))),
                    Err(_) => {
                        let place =
                            clean.bytes().position(|b| !b.is_ascii_alphanumeric() && !b"+/=".contains(&b));
                        let place = place.unwrap_or(clean.len() / 4 * 4);
                        self.context.refuse(format!("illegal base64 data at input byte {place}"));
                        Err(E::custom("not base64"))
                    }
                }
            }
            Shape::Quantity => self.scalar(quantity::canonical(text.trim())),
            Shape::Time => {
                let text = time::seconds(text).and_then(|at| printed(time::from_seconds(at), text));
                self.scalar(text)
            }
            Shape::MicroTime => {
                let text =
                    time::micros(text).and_then(|(at, nanos)| printed(time::from_micros(at, nanos), text));
                self.scalar(text)
            }
            Shape::Duration => self.scalar(time::duration(text).map(time::from_duration)),
            _ => self.wrong("string"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::Message(ty)
            | Shape::SchemaOrBool(ty)
            | Shape::SchemaOrList(ty)
            | Shape::SchemaOrTexts(ty) => self.structure(*ty, map),
            Shape::Map(inner) => self.entries(inner, map),
            Shape::Json | Shape::Raw | Shape::Fields => self.entries(&Shape::Json, map),
            Shape::Time | Shape::MicroTime | Shape::Duration => {
                self.context.refuse("json: cannot unmarshal object into Go value of type string".to_owned());
                Err(A::Error::custom("an object"))
            }
            _ => self.wrong("object").map_err(|error: A::Error| error),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::List(inner) | Shape::Wrapped(inner) => self.items(inner, list),
            Shape::SchemaOrList(ty) => self.items(&Shape::Message(*ty), list),
            Shape::SchemaOrTexts(_) => self.items(&Shape::Text(""), list),
            Shape::Json | Shape::Raw | Shape::Fields => self.items(&Shape::Json, list),
            Shape::Time | Shape::MicroTime | Shape::Duration => {
                self.context.refuse("json: cannot unmarshal array into Go value of type string".to_owned());
                Err(A::Error::custom("a list"))
            }
            _ => self.wrong("array"),
        }
    }
}

fn printed(text: Option<String>, given: &str) -> Result<String, ScalarError> {
    text.ok_or_else(|| ScalarError(format!("parsing time {given:?}: year outside of range [0,9999]")))
}
