//! Patches: JSON patch, JSON merge patch and strategic merge patch, from the current object and a body to the next object.

use serde_json::{Map, Value};

use super::{TypeId, decode};

mod json;
mod merge;
mod print;
mod strategic;

/// The largest number of operations in a JSON patch; upstream's bound.
pub const MAX_OPERATIONS: usize = 10_000;

/// Which rules a patch follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7396.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

impl PatchKind {
    /// The kind of a content type, its parameters left out.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// What a patch made of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// In the form that upstream would print; defaults are not set.
    pub object: Map<String, Value>,
    /// What a strict decoder would not have taken, of the patch and of its result.
    pub strict: Vec<String>,
    /// What stands behind `patch: Invalid value:` when `strict` refuses the patch.
    pub shown: String,
}

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no such patch; 400.
    #[error("{0}")]
    BadRequest(String),
    /// More than [`MAX_OPERATIONS`]; 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// It does not fit the object; 422 without a field.
    #[error("{0}")]
    Unprocessable(String),
    /// Its result is not of the type; 422 on the field `patch`.
    #[error("{detail}")]
    Invalid {
        /// What upstream shows as the invalid value.
        shown: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A strategic merge that cannot be carried out; upstream answers 500.
    #[error("{0}")]
    Unmergeable(String),
}

/// Applies a patch to an object of a type. The object itself is not changed.
///
/// # Errors
/// See [`PatchError`].
pub fn apply(
    ty: TypeId,
    current: &Map<String, Value>,
    kind: PatchKind,
    body: &[u8],
) -> Result<Patched, PatchError> {
    let (patch, mut strict) = decode::any(body).map_err(|error| match kind {
        PatchKind::Strategic => PatchError::BadRequest(error.to_string()),
        _ => PatchError::BadRequest(format!("error decoding patch: {error}")),
    })?;
    let (next, shown) = match (kind, patch) {
        (PatchKind::Json, patch) => {
            strict = json::strict(&patch, strict);
            shown_as_json(json::apply(current, patch)?)
        }
        (PatchKind::Merge, Value::Object(patch)) => shown_as_json(merge::apply(current, patch)),
        (PatchKind::Strategic, Value::Object(patch)) => {
            let shown = print::go_map(&patch);
            (strategic::apply(ty, current, patch)?, shown)
        }
        _ => return Err(PatchError::BadRequest("Invalid JSON Patch".to_owned())),
    };
    match decode::value(ty, &next) {
        Ok(decoded) => {
            strict.extend(decoded.strict);
            Ok(Patched { object: decoded.object, strict, shown })
        }
        Err(error) => Err(PatchError::Invalid { shown, detail: error.to_string() }),
    }
}

fn shown_as_json(object: Map<String, Value>) -> (Map<String, Value>, String) {
    let shown = serde_json::to_string(&object).unwrap_or_default();
    (object, shown)
}

#[cfg(test)]
mod tests;
