//! Which policies are for a request, by which of their bindings and with which parameters.

use std::sync::Arc;

use serde_json::Value;

use super::{
    configuration::{Binding, Policy},
    params::{self, params},
    rules::Rules,
};
use crate::{cluster::ClusterState, denial::Denial, matching::Form, request::AdmissionRequest};

/// A policy that is for a request.
pub(super) struct Meant<R> {
    pub(super) policy: Arc<Policy<R>>,
    /// Which of the policy's bindings.
    pub(super) binding: usize,
    /// In which form it wants to see the objects.
    pub(super) form: Form,
    pub(super) params: Option<Arc<Value>>,
}

impl<R> Meant<R> {
    pub(super) fn binding(&self) -> &Binding {
        &self.policy.bindings[self.binding]
    }
}

/// Everything that has to be evaluated, in the order of the names. `unconfigured` is told which policy or binding cannot
/// be followed, and why.
pub(super) async fn meant<R: Rules>(
    policies: &[Arc<Policy<R>>],
    request: &AdmissionRequest,
    state: &dyn ClusterState,
    mut unconfigured: impl FnMut(&Policy<R>, Option<&Binding>, &str) + Send,
) -> Vec<Meant<R>> {
    let mut meant = Vec::new();
    let namespace = namespace_of(request);
    for policy in policies.iter().filter(|policy| !policy.bindings.is_empty()) {
        let common = policy.rules.common();
        let form = match common.constraints.form(request, state).await {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(denial) => {
                unconfigured(policy, None, &denial.message);
                continue;
            }
        };
        let kind = common.param_kind.as_ref();
        if let Some(kind) = kind.filter(|kind| state.scope(kind).is_none()) {
            unconfigured(policy, None, &params::unknown(kind));
            continue;
        }
        for (at, binding) in policy.bindings.iter().enumerate() {
            match is_bound(binding, request, state).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(denial) => {
                    unconfigured(policy, Some(binding), &denial.message);
                    continue;
                }
            }
            match params(kind, binding.spec.param_ref.as_ref(), namespace, state).await {
                Ok(found) => meant.extend(found.into_iter().map(|params| Meant {
                    policy: policy.clone(),
                    binding: at,
                    form: form.clone(),
                    params,
                })),
                Err(why) => unconfigured(policy, Some(binding), &why),
            }
        }
    }
    meant
}

/// The namespace that a request's object is in; a Namespace is in none.
pub(super) fn namespace_of(request: &AdmissionRequest) -> &str {
    if request.resource.is("", "namespaces") { "" } else { &request.namespace }
}

async fn is_bound(
    binding: &Binding,
    request: &AdmissionRequest,
    state: &dyn ClusterState,
) -> Result<bool, Denial> {
    match &binding.spec.match_resources {
        None => Ok(true),
        Some(constraints) => Ok(constraints.form(request, state).await?.is_some()),
    }
}
