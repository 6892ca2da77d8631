//! Objects from files: YAML or JSON, one document or several, and lists of objects.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

/// An object, and where it was read.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) file: String,
    pub(super) object: Value,
}

/// The objects of some files in their order.
///
/// # Errors
/// When a file cannot be read, or is neither YAML nor JSON.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let text = text(path).with_context(|| format!("cannot read {file}"))?;
        let documents = documents(&text).with_context(|| format!("{file} is no manifest"))?;
        for object in documents.into_iter().flat_map(items) {
            manifests.push(Manifest { file: file.clone(), object });
        }
    }
    Ok(manifests)
}

fn text(path: &Path) -> io::Result<String> {
    if path != Path::new("-") {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn documents(text: &str) -> Result<Vec<Value>> {
    if text.trim_start().starts_with(['{', '[']) {
        let values = serde_json::Deserializer::from_str(text).into_iter();
        if let Ok(values) = values.collect() {
            return Ok(values);
        }
    }
    Ok(serde_saphyr::from_multiple(text)?)
}

/// The objects of a List, or the object itself; nothing of an empty document.
fn items(document: Value) -> Vec<Value> {
    match document {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        object => vec![object],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        let objects = documents(text).unwrap().into_iter().flat_map(items);
        objects.map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn documents_lists_and_both_formats_are_read() {
        assert_eq!(kinds("---\nkind: A\n---\n---\n# nothing\n---\nkind: B\n"), ["A", "B"]);
        assert_eq!(kinds("kind: List\nitems:\n- kind: A\n- kind: B\n"), ["A", "B"]);
        assert_eq!(kinds("{\"kind\":\"A\"}\n{\n\t\"kind\": \"B\"}"), ["A", "B"]);
        assert_eq!(kinds("{kind: A, metadata: {name: x}}"), ["A"]);
        assert!(kinds("").is_empty());
        assert!(documents("kind: [").is_err());
    }
}
