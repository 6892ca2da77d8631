//! Merges lists, and puts them in order: the patch's order where it has one, the server's for what only it has.

use serde_json::{Map, Value};

use super::{DIRECTIVE, Of, PatchError, merge as merge_objects, print, unknown_directive};

/// The merged list of two. A merge key tells objects apart; without one the elements are scalars.
pub(super) fn merge(
    items: Vec<Value>,
    patch: Vec<Value>,
    of: Of,
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let Some(first) = items.first().or(patch.first()) else { return Ok(items) };
    let kind = std::mem::discriminant(first);
    if first.is_array() {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    if items.iter().chain(&patch).any(|item| std::mem::discriminant(item) != kind) {
        return Err(PatchError::Unmergeable("list element types are not identical".to_owned()));
    }
    if !first.is_object() {
        let mut merged = items.clone();
        merged.extend(patch.iter().filter(|item| !items.contains(item)).cloned());
        return in_order(merged, &patch, &items, "");
    }
    if key.is_empty() {
        return Err(PatchError::Unmergeable("cannot merge lists without merge key".to_owned()));
    }
    let (items, patch) = special(items, patch, key)?;
    let mut merged = items.clone();
    for element in &patch {
        let Value::Object(element) = element else { continue };
        let name = element.get(key).ok_or_else(|| no_key(element, key))?;
        let found = merged
            .iter_mut()
            .find_map(|item| item.as_object_mut().filter(|item| item.get(key) == Some(name)));
        match found {
            Some(item) => merge_objects(item, element.clone(), of)?,
            None => merged.push(Value::Object(element.clone())),
        }
    }
    in_order(merged, &patch, &items, key)
}

/// Carries out the elements that say what to do, and leaves those that are to be merged.
fn special(
    mut items: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut rest = Vec::new();
    let mut replace = false;
    for element in patch {
        let Value::Object(object) = &element else { continue };
        match object.get(DIRECTIVE).map(Value::as_str) {
            None => rest.push(element),
            Some(Some("delete")) => {
                let name = object.get(key).ok_or_else(|| no_key(object, key))?;
                items.retain(|item| item.get(key) != Some(name));
            }
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => {
                return Err(PatchError::Unmergeable(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(_) => return Err(unknown_directive(object)),
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (items, rest) })
}

/// The elements that `order` names, in its order, and the others where the server had them.
pub(super) fn in_order(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    if !key.is_empty() {
        for element in merged.iter().chain(order) {
            let object =
                element.as_object().ok_or_else(|| PatchError::Unmergeable("expected a map".to_owned()))?;
            object.get(key).ok_or_else(|| no_key(object, key))?;
        }
    }
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(server, item).unwrap_or(usize::MAX));
    let mut all = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(named)) => {
                matches!((place(server, other), place(server, named)), (Some(left), Some(right)) if left < right)
            }
            (other, _) => other.is_some(),
        };
        match if other_first { others.next() } else { named.next() } {
            Some(item) => all.push(item),
            None => return Ok(all),
        }
    }
}

/// A patch's list has to come in the order that it asks for.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for element in patch.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        if !wanted.any(|wanted| same(wanted, element, key)) {
            return Err(PatchError::Unmergeable(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                print::go_list(patch),
                print::go_list(order)
            )));
        }
    }
    Ok(())
}

fn same(left: &Value, right: &Value, key: &str) -> bool {
    if key.is_empty() { left == right } else { left.get(key).is_some() && left.get(key) == right.get(key) }
}

fn no_key(object: &Map<String, Value>, key: &str) -> PatchError {
    PatchError::Unmergeable(format!(
        "map: {} does not contain declared merge key: {key}",
        print::go_map(object)
    ))
}
