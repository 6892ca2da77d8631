//! Changes of an object as JSON patches (RFC 6902).

use json_patch::{
    AddOperation, CopyOperation, MoveOperation, RemoveOperation, ReplaceOperation, TestOperation,
    jsonptr::PointerBuf,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an operation of a patch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatchOp {
    /// Puts a value where none is, or into a list.
    Add,
    /// Takes a value away.
    Remove,
    /// Puts a value in the place of another.
    Replace,
    /// Moves a value from another place.
    Move,
    /// Copies a value from another place.
    Copy,
    /// Fails the patch unless a value is there.
    Test,
}

/// One step of a patch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatchOperation {
    /// What is done.
    pub op: PatchOp,
    /// Where, as a JSON pointer.
    pub path: String,
    /// The value, for add, replace and test; none is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The other place, for move and copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl PatchOperation {
    /// Puts a value where none is.
    pub fn add(path: impl Into<String>, value: Value) -> Self {
        Self { op: PatchOp::Add, path: path.into(), value: Some(value), from: None }
    }
}

/// Sets an annotation of an object that has metadata.
pub(crate) fn annotation(object: &Value, key: &str, text: &str) -> PatchOperation {
    if object["metadata"]["annotations"].is_object() {
        let key = key.replace('~', "~0").replace('/', "~1");
        PatchOperation::add(format!("/metadata/annotations/{key}"), Value::from(text))
    } else {
        PatchOperation::add("/metadata/annotations", serde_json::json!({ key: text }))
    }
}

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// A path does not begin with `/`, or has a `~` that is no escape.
    #[error("{path:?} is not a JSON pointer")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: json_patch::jsonptr::ParseError,
    },
    /// A step of the patch does not fit the object.
    #[error("the patch does not fit the object")]
    Misfit(#[from] json_patch::PatchError),
}

impl PatchError {
    /// Whether the patch fits, but is not to be applied: a value is another than its test says.
    pub(crate) fn is_failed_test(&self) -> bool {
        matches!(self, Self::Misfit(error) if matches!(error.kind, json_patch::PatchErrorKind::TestFailed))
    }
}

/// Why a patch was not applied, with its causes, in one line.
pub(crate) fn described(error: &PatchError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Applies a patch. After an error the object is as it was.
///
/// # Errors
/// When a path is malformed, or a step does not fit the object.
pub fn apply(object: &mut Value, patch: &[PatchOperation]) -> Result<(), PatchError> {
    let steps = patch.iter().map(step).collect::<Result<Vec<_>, _>>()?;
    Ok(json_patch::patch(object, &steps)?)
}

fn step(operation: &PatchOperation) -> Result<json_patch::PatchOperation, PatchError> {
    use json_patch::PatchOperation as Step;
    let path = pointer(&operation.path)?;
    let value = || operation.value.clone().unwrap_or_default();
    let from = || pointer(operation.from.as_deref().unwrap_or_default());
    Ok(match operation.op {
        PatchOp::Add => Step::Add(AddOperation { path, value: value() }),
        PatchOp::Remove => Step::Remove(RemoveOperation { path }),
        PatchOp::Replace => Step::Replace(ReplaceOperation { path, value: value() }),
        PatchOp::Move => Step::Move(MoveOperation { from: from()?, path }),
        PatchOp::Copy => Step::Copy(CopyOperation { from: from()?, path }),
        PatchOp::Test => Step::Test(TestOperation { path, value: value() }),
    })
}

fn pointer(path: &str) -> Result<PointerBuf, PatchError> {
    PointerBuf::parse(path.to_owned()).map_err(|rich| {
        let (source, path) = rich.decompose();
        PatchError::Path { path, source }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(patch: Value) -> Result<Value, PatchError> {
        let mut object = json!({"a": {"b": [1, 2]}, "unknown": {"kept": true}});
        apply(&mut object, &serde_json::from_value::<Vec<PatchOperation>>(patch).unwrap())?;
        Ok(object)
    }

    #[test]
    fn every_operation_does_what_the_rfc_says() {
        let object = patched(json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "replace", "path": "/a/b/0", "value": 9},
            {"op": "copy", "from": "/a/b", "path": "/c"},
            {"op": "move", "from": "/a/b", "path": "/d"},
            {"op": "remove", "path": "/d/1"},
            {"op": "add", "path": "/a/x~1y", "value": null},
        ]));
        let expected = json!({"a": {"x/y": null}, "unknown": {"kept": true}, "c": [9, 2, 3], "d": [9, 3]});
        assert_eq!(object.unwrap(), expected);
    }

    #[test]
    fn a_patch_that_does_not_fit_changes_nothing() {
        let mut object = json!({"a": 1});
        let patch = [
            PatchOperation::add("/b", json!(2)),
            PatchOperation { op: PatchOp::Remove, path: "/none".into(), value: None, from: None },
        ];
        assert!(matches!(apply(&mut object, &patch), Err(PatchError::Misfit(_))));
        assert_eq!(object, json!({"a": 1}));
    }

    #[test]
    fn a_path_that_is_no_pointer_is_named() {
        let error = patched(json!([{"op": "add", "path": "spec", "value": 1}])).unwrap_err();
        assert_eq!(error.to_string(), "\"spec\" is not a JSON pointer");
    }
}
