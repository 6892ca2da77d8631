//! What a controller answers.

use std::collections::BTreeMap;

use crate::{denial::Denial, patch::PatchOperation};

/// How the keys of annotations begin that quote what changed an object: they are for events that hold bodies of requests
/// (level Request and above), and for nobody else.
pub const PATCH_ANNOTATION: &str = "patch.webhook.admission.k8s.io/";

/// What comes along with an admitted request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Changes of the object; none where it stays as it is.
    pub patch: Vec<PatchOperation>,
    /// Sentences that the client shows its user.
    pub warnings: Vec<String>,
    /// Annotations for the audit event.
    pub annotations: BTreeMap<String, String>,
    /// What failed and is passed by: one sentence for each.
    pub failed_open: Vec<String>,
}

/// A controller's answer.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum AdmissionResponse {
    /// The request may pass.
    Allow,
    /// The request may pass, with the object changed.
    AllowWithPatch(Vec<PatchOperation>),
    /// The request may pass, with warnings and annotations, and perhaps with the object changed.
    AllowWithNotes(Notes),
    /// The request is refused.
    Deny(Denial),
}

impl AdmissionResponse {
    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Self::Deny(_))
    }

    /// Why the request is refused.
    pub fn deny_reason(&self) -> Option<&str> {
        match self {
            Self::Deny(denial) => Some(&denial.message),
            _ => None,
        }
    }

    /// The refusal, or what comes along with the request.
    ///
    /// # Errors
    /// The denial.
    pub(crate) fn into_notes(self) -> Result<Notes, Denial> {
        match self {
            Self::Allow => Ok(Notes::default()),
            Self::AllowWithPatch(patch) => Ok(Notes { patch, ..Notes::default() }),
            Self::AllowWithNotes(notes) => Ok(notes),
            Self::Deny(denial) => Err(denial),
        }
    }
}

impl From<Denial> for AdmissionResponse {
    fn from(denial: Denial) -> Self {
        Self::Deny(denial)
    }
}

/// Lets a controller's body use `?`.
impl From<Result<AdmissionResponse, Denial>> for AdmissionResponse {
    fn from(result: Result<AdmissionResponse, Denial>) -> Self {
        result.unwrap_or_else(Self::Deny)
    }
}
