//! Strategic merge patch: lists are merged by the table's merge keys, and members with a `$` say what else to do.

use serde_json::{Map, Value};

use super::{PatchError, print};
use crate::gateway::schema::{Field, Shape, TypeId};

mod list;

const DIRECTIVE: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";
const RETAIN: &str = "$retainKeys";

pub(super) fn apply(
    ty: TypeId,
    current: &Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    let mut next = current.clone();
    merge(&mut next, patch, Of::Struct(ty))?;
    Ok(next)
}

/// What is known of the members of an object.
#[derive(Clone, Copy)]
enum Of {
    Struct(TypeId),
    Map(&'static Shape),
    Anything,
}

impl Of {
    fn shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Message(ty) => Self::Struct(*ty),
            Shape::Map(inner) => Self::Map(inner),
            _ => Self::Anything,
        }
    }

    /// What is known of a member, and the field that it is where it is one.
    fn member(self, name: &str) -> Result<(&'static Shape, Option<&'static Field>), PatchError> {
        match self {
            Self::Struct(ty) => match ty.get().member(name) {
                Some((_, field)) => Ok((&field.shape, Some(field))),
                None => Err(PatchError::Unmergeable(format!(
                    "unable to find api field in struct {} for the json field {name:?}",
                    ty.get().short_name()
                ))),
            },
            Self::Map(inner) => Ok((inner, None)),
            Self::Anything => Ok((&Shape::Json, None)),
        }
    }
}

/// Merges a patch into an object.
fn merge(object: &mut Map<String, Value>, mut patch: Map<String, Value>, of: Of) -> Result<(), PatchError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None => {}
        Some(Some("replace")) => {
            patch.shift_remove(DIRECTIVE);
            *object = patch;
            return Ok(());
        }
        Some(Some("delete")) => {
            object.clear();
            return Ok(());
        }
        Some(_) => return Err(unknown_directive(&patch)),
    }
    retain_keys(object, &mut patch)?;
    ordered_lists(object, &mut patch, of)?;
    for (key, value) in patch {
        match key.strip_prefix(DELETE_FROM) {
            Some(rest) => {
                let name = rest.strip_prefix('/').ok_or_else(|| bad("primitive list"))?;
                delete_from(object, name, &value)?;
            }
            None => member(object, key, value, of)?,
        }
    }
    Ok(())
}

fn member(object: &mut Map<String, Value>, key: String, value: Value, of: Of) -> Result<(), PatchError> {
    match (object.get_mut(&key), value) {
        (_, Value::Null) => drop(object.shift_remove(&key)),
        (Some(Value::Object(inner)), Value::Object(patch)) => {
            let (shape, field) = of.member(&key)?;
            if field.is_some_and(|field| field.patch_replace) {
                *inner = patch;
            } else {
                merge(inner, patch, Of::shape(shape))?;
            }
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            let (shape, field) = of.member(&key)?;
            match field.filter(|field| field.patch_merge) {
                Some(field) => {
                    *items = list::merge(std::mem::take(items), patch, element(shape), field.merge_key)?;
                }
                None => *items = patch,
            }
        }
        (_, value) => {
            let mut value = value;
            drop_nulls(&mut value);
            match without_directives(value) {
                Some(value) => drop(object.insert(key, value)),
                None => drop(object.shift_remove(&key)),
            }
        }
    }
    Ok(())
}

fn element(shape: &'static Shape) -> Of {
    match shape {
        Shape::List(inner) => Of::shape(inner),
        _ => Of::Anything,
    }
}

/// `$retainKeys`: all other members of the object go.
fn retain_keys(object: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(kept) = patch.shift_remove(RETAIN) else { return Ok(()) };
    let Value::Array(kept) = kept else { return Err(bad("retainKeys")) };
    let is_kept = |name: &str| kept.iter().any(|kept| kept.as_str() == Some(name));
    let strange = |(name, value): (&String, &Value)| {
        !value.is_null() && !name.starts_with(DELETE_FROM) && !name.starts_with(ORDER) && !is_kept(name)
    };
    if patch.iter().any(strange) {
        return Err(bad("retainKeys"));
    }
    object.retain(|name, _| is_kept(name));
    Ok(())
}

/// `$setElementOrder/…`: merges the list that it speaks of and puts it in order.
fn ordered_lists(
    object: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    of: Of,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.shift_remove(&directive);
        let name = directive.strip_prefix(ORDER).and_then(|rest| rest.strip_prefix('/'));
        let (Some(name), Some(Value::Array(order))) = (name, order) else {
            return Err(bad("setElementOrder list"));
        };
        let (shape, field) = of.member(name)?;
        let key = field.map_or("", |field| field.merge_key);
        let changes = match patch.shift_remove(name) {
            Some(Value::Array(items)) => Some(items),
            None => None,
            // A null removes the list, whatever its order.
            Some(other) => {
                patch.insert(name.to_owned(), other);
                return Err(PatchError::Unmergeable(format!("{name}: expected a slice")));
            }
        };
        let existing = match object.get(name) {
            Some(Value::Array(items)) => Some(items.clone()),
            None => None,
            Some(_) => return Err(PatchError::Unmergeable(format!("{name}: expected a slice"))),
        };
        list::check_order(changes.as_deref().unwrap_or_default(), &order, key)?;
        let merged = match (existing.clone(), changes) {
            (None, None) => continue,
            (Some(existing), None) => existing,
            (None, Some(changes)) => match without_directives(Value::Array(changes)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(existing), Some(changes)) if field.is_some_and(|field| field.patch_merge) => {
                list::merge(existing, changes, element(shape), key)?
            }
            (Some(_), Some(changes)) => changes,
        };
        let merged = list::in_order(merged, &order, existing.as_deref().unwrap_or_default(), key)?;
        object.insert(name.to_owned(), Value::Array(merged));
    }
    Ok(())
}

fn delete_from(object: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    match (object.get_mut(name), values) {
        (Some(Value::Array(items)), Value::Array(values)) => items.retain(|item| !values.contains(item)),
        _ if values.is_null() => drop(object.shift_remove(name)),
        _ => {}
    }
    Ok(())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The value without the objects that only say what to do.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept = members.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn unknown_directive(patch: &Map<String, Value>) -> PatchError {
    let directive =
        patch.get(DIRECTIVE).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    PatchError::Unmergeable(format!(
        "unknown patch type: {} in map: {}",
        directive.unwrap_or_default(),
        print::go_map(patch)
    ))
}

fn bad(what: &str) -> PatchError {
    PatchError::BadRequest(format!("invalid patch format of {what}"))
}
