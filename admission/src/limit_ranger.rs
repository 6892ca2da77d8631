//! The built-in controller `LimitRanger`: what a container asks for where it says nothing, and what it may ask for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, ClusterState, Denial, Freshness, Kind,
    Operation, Phases, denial::aggregate,
};

mod constraint;
mod defaults;

/// The controller.
pub(crate) struct LimitRanger {
    state: Arc<dyn ClusterState>,
}

#[async_trait]
impl AdmissionController for LimitRanger {
    fn name(&self) -> &str {
        "LimitRanger"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.fill(request).await.into()
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.check(request).await.into()
    }

    fn phases(&self) -> Phases {
        Phases::Both
    }

    /// A live look where a cache knows of no limits.
    fn deadline(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl LimitRanger {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state }
    }

    async fn fill(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let Some(pod) = concerned(request).filter(|_| request.resource.is("", "pods")) else {
            return Ok(AdmissionResponse::Allow);
        };
        let patch = defaults::patch(pod, &self.ranges(request).await?);
        Ok(if patch.is_empty() { AdmissionResponse::Allow } else { AdmissionResponse::AllowWithPatch(patch) })
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let Some(object) = concerned(request) else { return Ok(AdmissionResponse::Allow) };
        for range in self.ranges(request).await? {
            let violations = constraint::violations(object, &range, request.resource.is("", "pods"));
            let violations = violations.map_err(|why| Denial::bad_request(why.to_string()))?;
            if !violations.is_empty() {
                return Err(aggregate(&violations).into());
            }
        }
        Ok(AdmissionResponse::Allow)
    }

    async fn ranges(&self, request: &AdmissionRequest) -> Result<Vec<Arc<Value>>, Denial> {
        let list = |freshness| self.state.list(Kind::LimitRange, &request.namespace, freshness);
        let cached = list(Freshness::Cached).await.map_err(Denial::internal)?;
        if !cached.is_empty() {
            return Ok(cached);
        }
        list(Freshness::Live).await.map_err(Denial::internal)
    }
}

/// The object, where a range may speak of it: a new Pod or one that is resized, or a claim. What is on its way out
/// may end as it is.
fn concerned(request: &AdmissionRequest) -> Option<&Value> {
    let created = request.operation == Operation::Create;
    let is_pod = request.resource.is("", "pods");
    let is_concerned = match request.subresource.as_str() {
        "" => (is_pod && created) || request.resource.is("", "persistentvolumeclaims"),
        "resize" => is_pod && !created,
        _ => false,
    };
    let is_leaving = request.old_object().is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null());
    request.object().filter(|_| is_concerned && !is_leaving)
}

/// The items of a range that are for a type.
fn items<'a>(range: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |item| item["type"] == kind)
}

#[cfg(test)]
mod tests;
