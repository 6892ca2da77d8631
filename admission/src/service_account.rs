//! The built-in controller `ServiceAccount`: who a Pod is, and its token.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, ClusterState, Denial, Freshness, Kind,
    Operation, PatchOperation, Phases, quote::Quoted,
};

mod mirror;
mod secrets;
mod token;

const DEFAULT: &str = "default";

/// How often the account `default` is looked for: it is made right after its namespace.
const ATTEMPTS: u32 = 10;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(150);

/// Lets an account use no secrets but those that it names.
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

/// The controller.
pub(crate) struct ServiceAccount {
    state: Arc<dyn ClusterState>,
}

#[async_trait]
impl AdmissionController for ServiceAccount {
    fn name(&self) -> &str {
        "ServiceAccount"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        match new_pod(request) {
            Some(pod) => self.fill(request, pod).await.into(),
            None => AdmissionResponse::Allow,
        }
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.check(request).await.into()
    }

    fn phases(&self) -> Phases {
        Phases::Both
    }

    /// The looks for `default`, and some time for each.
    fn deadline(&self) -> Duration {
        INTERVAL * ATTEMPTS * 2
    }
}

impl ServiceAccount {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state }
    }

    async fn fill(&self, request: &AdmissionRequest, pod: &Value) -> Result<AdmissionResponse, Denial> {
        if mirror::is_mirror(pod) {
            mirror::check(pod)?;
            return Ok(AdmissionResponse::Allow);
        }
        let spec = &pod["spec"];
        let own = account_name(pod);
        let name = if own.is_empty() { DEFAULT } else { own };
        let account = self.account(&request.namespace, name).await?;
        let mut patch = Vec::new();
        if own.is_empty() {
            patch.push(PatchOperation::add("/spec/serviceAccountName", json!(name)));
        }
        if automounts(spec, &account) {
            patch.extend(token::mount(spec));
        }
        let pulls = account["imagePullSecrets"].as_array().filter(|pulls| !pulls.is_empty());
        let has_own = spec["imagePullSecrets"].as_array().is_some_and(|own| !own.is_empty());
        if let (Some(pulls), false) = (pulls, has_own) {
            let names: Vec<_> = pulls.iter().map(|pull| json!({"name": pull["name"]})).collect();
            patch.push(PatchOperation::add("/spec/imagePullSecrets", Value::Array(names)));
        }
        Ok(if patch.is_empty() { AdmissionResponse::Allow } else { AdmissionResponse::AllowWithPatch(patch) })
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let debugs = request.operation == Operation::Update && request.subresource == "ephemeralcontainers";
        let debugged = request.object().filter(|_| debugs && request.resource.is("", "pods"));
        let Some(pod) = new_pod(request).or(debugged) else { return Ok(AdmissionResponse::Allow) };
        if !debugs && mirror::is_mirror(pod) {
            mirror::check(pod)?;
            return Ok(AdmissionResponse::Allow);
        }
        let name = account_name(pod);
        if name.is_empty() {
            let (namespace, name) =
                (&request.namespace, pod["metadata"]["name"].as_str().unwrap_or_default());
            return Err(format!("no service account specified for pod {namespace}/{name}").into());
        }
        let account = self.account(&request.namespace, name).await?;
        let enforces = account["metadata"]["annotations"][ENFORCE_SECRETS].as_str();
        if enforces.is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            secrets::check(&account, pod, debugs)?;
        }
        Ok(AdmissionResponse::Allow)
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Arc<Value>, Denial> {
        let refused =
            |why: String| Denial::from(format!("error looking up service account {namespace}/{name}: {why}"));
        let get = |freshness| self.state.get(Kind::ServiceAccount, namespace, name, freshness);
        if let Some(found) = get(Freshness::Cached).await.map_err(|why| refused(why.to_string()))? {
            return Ok(found);
        }
        for attempt in 1..=if name == DEFAULT { ATTEMPTS } else { 1 } {
            if attempt > 1 {
                tokio::time::sleep(INTERVAL).await;
            }
            if let Some(found) = get(Freshness::Live).await.map_err(|why| refused(why.to_string()))? {
                return Ok(found);
            }
        }
        Err(refused(format!("serviceaccount {} not found", Quoted(name))))
    }
}

fn new_pod(request: &AdmissionRequest) -> Option<&Value> {
    let is_new = request.operation == Operation::Create && request.is_for("", "pods");
    request.object().filter(|pod| is_new && pod["spec"].is_object())
}

fn account_name(pod: &Value) -> &str {
    pod["spec"]["serviceAccountName"].as_str().unwrap_or_default()
}

/// The Pod's wish goes before the account's.
fn automounts(spec: &Value, account: &Value) -> bool {
    let wish = |holder: &Value| holder["automountServiceAccountToken"].as_bool();
    wish(spec).or_else(|| wish(account)).unwrap_or(true)
}

#[cfg(test)]
mod tests;
