//! What every controller is: the trait that the built-in ones and yours implement alike.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    request::{AdmissionRequest, Operation},
    response::AdmissionResponse,
};

/// What a controller that only computes may take.
pub const COMPUTING: Duration = Duration::from_millis(100);

/// The two passes over the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Controllers may change the object.
    Mutating,
    /// Controllers see the object as it is to be stored, and may only refuse it.
    Validating,
}

/// In which passes a controller takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phases {
    /// Only the one in which objects may be changed: [`AdmissionController::admit`].
    Mutating,
    /// Only the last one: [`AdmissionController::validate`].
    Validating,
    /// Both.
    Both,
}

impl Phases {
    /// Whether a pass is among them.
    pub fn contains(self, phase: Phase) -> bool {
        match self {
            Self::Mutating => phase == Phase::Mutating,
            Self::Validating => phase == Phase::Validating,
            Self::Both => true,
        }
    }
}

/// What becomes of a request when a controller panics, runs late, or answers with a patch that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused.
    Fail,
    /// It goes on as if the controller had allowed it.
    Ignore,
}

/// Whether a controller wants to see an object again that was changed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reinvocation {
    /// Once is enough.
    Never,
    /// Once more, and never a third time.
    IfNeeded,
}

/// Decides on requests, and may change their objects.
///
/// Laws: an answer depends on the request and the cluster alone; calling twice does no harm; a controller that was
/// given its own patch answers without changing anything more.
#[async_trait]
pub trait AdmissionController: Send + Sync + 'static {
    /// The name in flags, audit events and metrics.
    fn name(&self) -> &str;

    /// Whether controllers see the object once more when this one changed it. So it is with those that were added.
    fn causes_reinvocation(&self) -> bool {
        false
    }

    /// Whether the controller wants to see an operation at all.
    fn supports_operation(&self, op: &Operation) -> bool;

    /// Called in the mutating phase.
    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse;

    /// Called in the validating phase, where a patch is a failure.
    async fn validate(&self, _request: &AdmissionRequest) -> AdmissionResponse {
        AdmissionResponse::Allow
    }

    /// In which phases the controller takes part.
    fn phases(&self) -> Phases {
        Phases::Mutating
    }

    /// What becomes of a request that the controller fails on.
    fn failure_policy(&self) -> FailurePolicy {
        FailurePolicy::Fail
    }

    /// After what time a call counts as failed. The request's own deadline may end it before.
    fn deadline(&self) -> Duration {
        COMPUTING
    }

    /// Whether the controller wants to see an object again that was changed after it. The built-in ones always do.
    fn reinvocation(&self) -> Reinvocation {
        Reinvocation::Never
    }
}
