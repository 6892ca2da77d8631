//! What became of a request, and the part that each controller had in it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{controller::Phase, denial::Denial, patch::PatchOperation};

/// What a controller decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The request may pass.
    Allowed,
    /// The request may pass with its object changed.
    Patched(Vec<PatchOperation>),
    /// The request is refused.
    Denied(String),
    /// The controller failed, and the request is refused for it.
    Failed(String),
    /// The controller failed, and the request goes on without it.
    FailedOpen(String),
}

/// One call of a controller.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The controller's name.
    pub controller: String,
    /// The phase of the call.
    pub phase: Phase,
    /// 0, or 1 when controllers were asked once more.
    pub round: u8,
    /// What it decided.
    pub verdict: Verdict,
    /// How long it took.
    pub duration: Duration,
}

/// What became of a request.
#[derive(Debug, Clone)]
#[must_use]
pub struct Outcome {
    /// The object as it is to be stored; as far as it came when the request is refused.
    pub object: Option<Arc<Value>>,
    /// Why the request is refused; none when it may pass.
    pub denial: Option<Denial>,
    /// Sentences that the client shows its user, each of them once.
    pub warnings: Vec<String>,
    /// Annotations for the audit event.
    pub annotations: BTreeMap<String, String>,
    /// Every call in its order.
    pub decisions: Vec<Decision>,
}

impl Outcome {
    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// Why the request is refused.
    pub fn deny_reason(&self) -> Option<&str> {
        self.denial.as_ref().map(|denial| denial.message.as_str())
    }
}
