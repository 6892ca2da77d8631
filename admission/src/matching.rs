//! Which requests a policy, a binding or a webhook is for.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::{ClusterState, Freshness, Kind},
    denial::Denial,
    policy::Configuration,
    request::{AdmissionRequest, GroupVersionKind, GroupVersionResource, Operation},
};

mod rule;
mod selector;

pub(crate) use rule::Rule;
pub(crate) use selector::Selector;

/// `matchConstraints`, `matchResources`, and what a webhook says of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Constraints {
    pub(crate) namespace_selector: Option<Selector>,
    pub(crate) object_selector: Option<Selector>,
    #[serde(alias = "rules")]
    pub(crate) resource_rules: Option<Vec<Rule>>,
    pub(crate) exclude_resource_rules: Option<Vec<Rule>>,
    pub(crate) match_policy: Option<String>,
}

/// In which form a matching request is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: GroupVersionKind,
}

impl Form {
    /// The form that the request has.
    pub(crate) fn of(request: &AdmissionRequest) -> Self {
        Self { resource: request.resource.clone(), kind: request.kind.clone() }
    }
}

impl Constraints {
    /// The form in which these are for the request; none where they are not.
    ///
    /// # Errors
    /// When the labels of the request's namespace have to be known, and are not.
    pub(crate) async fn form(
        &self,
        request: &AdmissionRequest,
        state: &dyn ClusterState,
    ) -> Result<Option<Form>, Denial> {
        let Some(form) = self.by_rules(request, state) else { return Ok(None) };
        if !self.selects_object(request) || !self.selects_namespace(request, state).await? {
            return Ok(None);
        }
        Ok(Some(form))
    }

    /// Without any rule every resource is meant.
    fn by_rules(&self, request: &AdmissionRequest, state: &dyn ClusterState) -> Option<Form> {
        let own = Form::of(request);
        let excluded = self.exclude_resource_rules.as_deref().unwrap_or_default();
        if self.one_of(excluded, request, &own, state).is_some() {
            return None;
        }
        match self.resource_rules.as_deref().unwrap_or_default() {
            [] => Some(own),
            rules => self.one_of(rules, request, &own, state),
        }
    }

    fn one_of(
        &self,
        rules: &[Rule],
        request: &AdmissionRequest,
        own: &Form,
        state: &dyn ClusterState,
    ) -> Option<Form> {
        let is_met =
            |resource: &GroupVersionResource| rules.iter().any(|rule| rule.is_for(request, resource));
        if is_met(&own.resource) {
            return Some(own.clone());
        }
        if self.match_policy.as_deref() == Some("Exact") || rules.is_empty() {
            return None;
        }
        state
            .equivalents(&own.resource)
            .into_iter()
            .find(|form| is_met(&form.0))
            .map(|(resource, kind)| Form { resource, kind })
    }

    fn selects_object(&self, request: &AdmissionRequest) -> bool {
        let Some(selector) = self.object_selector.as_ref().filter(|selector| !selector.is_all()) else {
            return true;
        };
        let labels = |object: Option<&Value>| {
            object.is_some_and(|object| selector.matches(&object["metadata"]["labels"]))
        };
        labels(request.object()) || labels(request.old_object())
    }

    async fn selects_namespace(
        &self,
        request: &AdmissionRequest,
        state: &dyn ClusterState,
    ) -> Result<bool, Denial> {
        let selector = self.namespace_selector.as_ref().filter(|selector| !selector.is_all());
        let Some(selector) = selector.filter(|_| !request.namespace.is_empty()) else { return Ok(true) };
        let is_new = request.is_for("", "namespaces")
            && matches!(request.operation, Operation::Create | Operation::Update);
        if let Some(object) = request.object().filter(|_| is_new) {
            return Ok(selector.matches(&object["metadata"]["labels"]));
        }
        let namespace = namespace(request, state).await?;
        let namespace = namespace.ok_or_else(|| Denial::not_found("", "namespaces", &request.namespace))?;
        Ok(selector.matches(&namespace["metadata"]["labels"]))
    }
}

/// The namespace of a request, where there is one.
///
/// # Errors
/// When the state cannot be read.
pub(crate) async fn namespace(
    request: &AdmissionRequest,
    state: &dyn ClusterState,
) -> Result<Option<Arc<Value>>, Denial> {
    let found = state.get(Kind::Namespace, "", &request.namespace, Freshness::Cached).await;
    found.map_err(|error| Denial::internal(error.to_string()))
}

/// What configures admission.
///
/// # Errors
/// 403 while that is not known yet.
pub(crate) async fn configuration(state: &dyn ClusterState) -> Result<Arc<Configuration>, Denial> {
    state.configuration().await.ok_or_else(|| Denial::forbidden("not yet ready to handle request"))
}

/// What configures admission itself is not subject to it: nobody can lock themselves out.
pub(crate) fn is_exempt(request: &AdmissionRequest) -> bool {
    const KINDS: [&str; 6] = [
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ];
    request.resource.group == "admissionregistration.k8s.io"
        && KINDS.contains(&request.resource.resource.as_str())
}
