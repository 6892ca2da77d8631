//! What upstream sets where a client says nothing: on every object that is created, replaced or patched.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::{Shape, TypeId, canonical, scalar::quantity, schema};

mod apps;
mod core;
mod rules;

/// Sets the defaults of an object that has the form that decoding gives it. Twice is as good as once.
pub fn set(ty: TypeId, object: &mut Map<String, Value>) {
    if plan().touched[ty.index()] {
        structure(ty, object);
    }
}

/// What to do for one type, before its members' turn.
type Rule = fn(&mut Map<String, Value>);

struct Plan {
    /// Members that are set where they are absent or empty, by type.
    members: Vec<Vec<(&'static str, Value)>>,
    rules: Vec<Option<Rule>>,
    /// Whether a type or anything in it has defaults.
    touched: Vec<bool>,
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let count = schema().types().count();
        let mut plan =
            Plan { members: vec![Vec::new(); count], rules: vec![None; count], touched: vec![false; count] };
        for ty in schema().types() {
            let name = ty.get().name;
            for (_, members) in rules::MEMBERS.iter().filter(|(of, _)| *of == name) {
                plan.members[ty.index()].extend(
                    members
                        .iter()
                        .map(|(member, json)| (*member, serde_json::from_str(json).unwrap_or_default())),
                );
            }
            plan.rules[ty.index()] = rules::RULES.iter().find(|(of, _)| *of == name).map(|(_, rule)| *rule);
            plan.touched[ty.index()] =
                !plan.members[ty.index()].is_empty() || plan.rules[ty.index()].is_some();
        }
        // What contains a type with defaults is touched too; types refer to each other in circles, hence the rounds.
        while spread(&mut plan.touched) {}
        plan
    })
}

fn spread(touched: &mut [bool]) -> bool {
    let mut changed = false;
    for ty in schema().types().filter(|ty| !touched[ty.index()]).collect::<Vec<_>>() {
        if ty.get().members().any(|field| is_touched(&field.shape, touched)) {
            touched[ty.index()] = true;
            changed = true;
        }
    }
    changed
}

fn is_touched(shape: &Shape, touched: &[bool]) -> bool {
    match shape {
        Shape::Message(ty) => touched[ty.index()],
        Shape::List(inner) => is_touched(inner, touched),
        // Amounts of resources are rounded.
        Shape::Map(inner) => **inner == Shape::Quantity || is_touched(inner, touched),
        _ => false,
    }
}

fn structure(ty: TypeId, object: &mut Map<String, Value>) {
    let plan = plan();
    if let Some(rule) = plan.rules[ty.index()] {
        rule(object);
    }
    let layout = ty.get();
    for (member, value) in &plan.members[ty.index()] {
        let given = object.get(*member);
        // Without a pointer, zero and unset are the same to Go.
        let pointer = layout.member(member).is_some_and(|(_, field)| field.pointer);
        if is_unset(given) || !pointer && given.and_then(Value::as_i64) == Some(0) {
            object.insert((*member).to_owned(), value.clone());
        }
    }
    let mut last = 0;
    let mut in_order = true;
    for (name, value) in object.iter_mut() {
        let Some((slot, field)) = layout.member(name) else { continue };
        in_order &= slot >= last;
        last = slot;
        descend(&field.shape, value);
    }
    if !in_order {
        canonical::order(layout, object);
    }
}

fn descend(shape: &'static Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Message(ty), Value::Object(object)) => structure(*ty, object),
        (Shape::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| descend(inner, item)),
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.values_mut().for_each(|value| match &**inner {
                Shape::Quantity => round(value),
                inner => descend(inner, value),
            })
        }
        _ => {}
    }
}

/// Upstream keeps thousandths of resources, and rounds up.
fn round(value: &mut Value) {
    if let Some(rounded) = value.as_str().and_then(quantity::thousandths) {
        *value = Value::String(rounded);
    }
}

/// Go's empty text and absent member are one for fields that are no pointers; a pointer to an empty text stays in JSON
/// as such, and none of those has a default that is a text.
fn is_unset(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// Sets a member where it is unset.
fn or_set(object: &mut Map<String, Value>, member: &str, value: impl Into<Value>) {
    if is_unset(object.get(member)) {
        object.insert(member.to_owned(), value.into());
    }
}

/// A member's text, empty where there is none.
fn text<'o>(object: &'o Map<String, Value>, member: &str) -> &'o str {
    object.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is an object.
fn inner<'o>(object: &'o mut Map<String, Value>, member: &str) -> Option<&'o mut Map<String, Value>> {
    object.get_mut(member).and_then(Value::as_object_mut)
}

/// A member that is an object, made where it is unset.
fn inner_or_new<'o>(object: &'o mut Map<String, Value>, member: &str) -> Option<&'o mut Map<String, Value>> {
    if is_unset(object.get(member)) {
        object.insert(member.to_owned(), Value::Object(Map::new()));
    }
    inner(object, member)
}

/// The objects of a member that is a list.
fn objects<'o>(
    object: &'o mut Map<String, Value>,
    member: &str,
) -> impl Iterator<Item = &'o mut Map<String, Value>> {
    object
        .get_mut(member)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests;
