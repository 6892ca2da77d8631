//! Objects as upstream writes them: members in Go's order, empty ones left out, zero ones filled in.

use serde_json::{Map, Value};

use super::{Field, Shape, Type};

/// The members of one object while they are read, in the order of [`Type::members`].
#[derive(Debug)]
pub struct Slots(Vec<Option<Value>>);

impl Slots {
    /// Nothing read yet.
    pub fn new(ty: &Type) -> Self {
        Self(vec![None; ty.members().len()])
    }

    /// The slot of a member.
    pub fn at(&mut self, slot: usize) -> &mut Option<Value> {
        &mut self.0[slot]
    }

    /// The object that Go would print for what was read.
    pub fn finish(self, ty: &Type) -> Map<String, Value> {
        let filled = self.0.iter().filter(|value| value.is_some()).count();
        let mut object = Map::with_capacity(filled);
        for (field, value) in ty.members().zip(self.0) {
            match value {
                Some(value) if !left_out(field, &value) => object.insert(field.name.to_owned(), value),
                Some(_) => None,
                None if is_filled_in(field) => object.insert(field.name.to_owned(), zero_of(field)),
                None => None,
            };
        }
        object
    }
}

/// Puts the members of an object in the order in which upstream writes them.
pub fn order(ty: &Type, object: &mut Map<String, Value>) {
    let mut given = std::mem::take(object);
    for field in ty.members() {
        if let Some((name, value)) = given.remove_entry(field.name) {
            object.insert(name, value);
        }
    }
}

fn left_out(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => field.omit_empty && (field.pointer || !is_struct(&field.shape)) || field.omit_zero,
        _ if field.pointer || !field.omit_empty || is_struct(&field.shape) => false,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Whether a member that nobody gave is in Go's JSON all the same.
fn is_filled_in(field: &Field) -> bool {
    if field.pointer {
        return !field.omit_empty;
    }
    !field.omit_zero && (!field.omit_empty || is_struct(&field.shape))
}

/// Go never takes a struct to be empty.
fn is_struct(shape: &Shape) -> bool {
    !matches!(
        shape,
        Shape::Text(_)
            | Shape::Int32(_)
            | Shape::Int64(_)
            | Shape::Bool(_)
            | Shape::Float
            | Shape::Bytes
            | Shape::List(_)
            | Shape::Wrapped(_)
            | Shape::Map(_)
    )
}

fn zero_of(field: &Field) -> Value {
    if field.pointer { Value::Null } else { zero(&field.shape) }
}

/// What Go prints for a value that was never set.
pub fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Text(_) => Value::String(String::new()),
        Shape::Int32(_) | Shape::Int64(_) | Shape::Float | Shape::IntOrText => Value::from(0),
        Shape::Bool(_) | Shape::SchemaOrBool(_) => Value::Bool(false),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::Message(ty) => Value::Object(Slots::new(ty.get()).finish(ty.get())),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::schema::schema;

    #[test]
    fn an_empty_deployment_has_the_members_that_go_always_prints() {
        let ty = schema().kind("apps", "v1", "Deployment").unwrap();
        let zero = zero(&Shape::Message(ty)).to_string();
        assert_eq!(
            zero,
            r#"{"metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
        );
    }
}
