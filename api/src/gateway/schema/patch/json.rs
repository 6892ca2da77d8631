//! JSON patch, RFC 6902, in the words of upstream's library. Copies are bounded, which is why this is our own.

use serde_json::{Map, Value};

use super::{MAX_OPERATIONS, PatchError};

/// How many bytes of JSON the copies of one patch may make; upstream's bound, that of a body.
const MAX_COPIED: usize = 3 * 1024 * 1024;
const MEMBERS: [&str; 4] = ["op", "path", "from", "value"];

/// What a strict decoder says of the operations.
pub(super) fn strict(patch: &Value, found: Vec<String>) -> Vec<String> {
    let mut strict: Vec<String> = found.into_iter().map(|error| format!("json patch {error}")).collect();
    let unknown = patch.as_array().into_iter().flatten().enumerate().flat_map(|(at, operation)| {
        let members = operation.as_object().into_iter().flat_map(Map::keys);
        let unknown = members.filter(|name| !MEMBERS.contains(&name.as_str()));
        unknown.map(move |name| format!("json patch unknown field \"[{at}].{name}\""))
    });
    strict.extend(unknown.take(100));
    strict
}

pub(super) fn apply(current: &Map<String, Value>, patch: Value) -> Result<Map<String, Value>, PatchError> {
    let operations = match patch {
        Value::Array(operations) if operations.iter().all(Value::is_object) => operations,
        Value::Array(_) => {
            return Err(PatchError::BadRequest("an operation of the patch is no object".to_owned()));
        }
        _ => return Err(PatchError::BadRequest("a JSON patch is a list of operations".to_owned())),
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut patcher = Patcher { document: Value::Object(current.clone()), copied: 0 };
    for operation in &operations {
        patcher.apply(operation).map_err(PatchError::Unprocessable)?;
    }
    match patcher.document {
        Value::Object(next) => Ok(next),
        _ => Err(PatchError::Unprocessable("the patch does not leave an object".to_owned())),
    }
}

struct Patcher {
    document: Value,
    copied: usize,
}

impl Patcher {
    fn apply(&mut self, operation: &Value) -> Result<(), String> {
        let text = |name: &str| operation[name].as_str();
        let op = text("op").unwrap_or("unknown");
        let path =
            || text("path").ok_or_else(|| format!("{op} operation failed to decode path: missing value"));
        let from =
            || text("from").ok_or_else(|| format!("{op} operation failed to decode from: missing value"));
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        match op {
            "add" => {
                let path = path()?;
                let (parent, key) = self.parent(path).ok_or_else(|| {
                    format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
                })?;
                add(parent, &key, value())
                    .map_err(|error| format!("error in add for path: '{path}': {error}"))
            }
            "remove" => {
                let path = path()?;
                let (parent, key) = self.parent(path).ok_or_else(|| {
                    format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
                })?;
                remove(parent, &key)
                    .map(drop)
                    .map_err(|error| format!("error in remove for path: '{path}': {error}"))
            }
            "replace" => self.replace(path()?, value()),
            "move" => {
                let (from, path) = (from()?, path()?);
                let (parent, key) = self.parent(from).ok_or_else(|| {
                    format!("move operation does not apply: doc is missing from path: {from}: missing value")
                })?;
                let value = remove(parent, &key)
                    .map_err(|error| format!("error in move for path: '{key}': {error}"))?;
                let (parent, key) = self.parent(path).ok_or_else(|| {
                    format!("move operation does not apply: doc is missing destination path: {path}: missing value")
                })?;
                add(parent, &key, value).map_err(|error| format!("error in move for path: '{path}': {error}"))
            }
            "copy" => self.copy(from()?, path()?),
            "test" => self.test(path()?, &value()),
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), String> {
        if path.is_empty() {
            self.document = value;
            return Ok(());
        }
        let (parent, key) = self.parent(path).ok_or_else(|| {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        })?;
        let missing =
            || format!("replace operation does not apply: doc is missing key: {path}: missing value");
        *slot(parent, &key).ok_or_else(missing)? = value;
        Ok(())
    }

    fn copy(&mut self, from: &str, path: &str) -> Result<(), String> {
        let (parent, key) = self.parent(from).ok_or_else(|| {
            format!("copy operation does not apply: doc is missing from path: {from}: missing value")
        })?;
        let value = slot(parent, &key)
            .cloned()
            .ok_or_else(|| format!("error in copy for from: '{from}': missing value"))?;
        self.copied += serde_json::to_vec(&value).map_or(0, |json| json.len());
        if self.copied > MAX_COPIED {
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
                self.copied
            ));
        }
        let (parent, key) = self.parent(path).ok_or_else(|| {
            format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
        })?;
        add(parent, &key, value).map_err(|error| format!("error while adding value during copy: {error}"))
    }

    fn test(&mut self, path: &str, value: &Value) -> Result<(), String> {
        let failed = || Err(format!("testing value {path} failed: test failed"));
        if path.is_empty() {
            return if self.document == *value { Ok(()) } else { failed() };
        }
        let (parent, key) = self.parent(path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        let missing = match parent {
            Value::Object(_) => value.is_null(),
            Value::Array(items) => {
                let at = index(&key, items.len());
                at.map_err(|error| format!("error in test for path: '{path}': {error}"))?;
                false
            }
            _ => false,
        };
        match slot(parent, &key) {
            Some(found) if found == value => Ok(()),
            None if missing => Ok(()),
            _ => failed(),
        }
    }

    /// What a path's last part lies in, and that part.
    fn parent(&mut self, path: &str) -> Option<(&mut Value, String)> {
        let mut parts: Vec<String> =
            path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let key = parts.pop()?;
        let mut at = &mut self.document;
        for part in parts {
            at = slot(at, &part).filter(|value| value.is_object() || value.is_array())?;
        }
        Some((at, key))
    }
}

fn slot<'v>(parent: &'v mut Value, key: &str) -> Option<&'v mut Value> {
    match parent {
        Value::Object(members) => members.get_mut(key),
        Value::Array(items) => index(key, items.len()).ok().and_then(|at| items.get_mut(at)),
        _ => None,
    }
}

fn add(parent: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match parent {
        Value::Object(members) => drop(members.insert(key.to_owned(), value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(key, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err("invalid state detected".to_owned()),
    }
    Ok(())
}

fn remove(parent: &mut Value, key: &str) -> Result<Value, String> {
    match parent {
        Value::Object(members) => members
            .shift_remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(items) => {
            let at = index(key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err("invalid state detected".to_owned()),
    }
}

/// A place in a list of this length; upstream counts negative ones from its end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let at: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_start = if at < 0 { at + length } else { at };
    if from_start < 0 || from_start >= length {
        return Err(invalid(key));
    }
    usize::try_from(from_start).map_err(|_| invalid(key))
}

fn invalid(key: &str) -> String {
    format!("Unable to access invalid index: {key}: invalid index referenced")
}
