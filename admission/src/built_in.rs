//! The controllers that come with the chain.

use std::sync::Arc;

use crate::{
    chain::Place,
    cluster::ClusterState,
    controller::AdmissionController,
    default_toleration_seconds::{DEFAULT_SECONDS, DefaultTolerationSeconds},
    limit_ranger::LimitRanger,
    namespace_lifecycle::NamespaceLifecycle,
    pod_security::{PodSecurity, PodSecurityConfiguration},
    policy::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy},
    priority::Priority,
    resource_quota::ResourceQuota,
    service_account::ServiceAccount,
    webhook::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook, WebhookClient},
};

/// The built-in controllers in kube-apiserver's order.
pub const BUILT_IN: &[&str] = &[
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "PodSecurity",
    "Priority",
    "DefaultTolerationSeconds",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];

/// How the built-in controllers behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What Pod Security holds namespaces to, and what it looks away from.
    pub pod_security: PodSecurityConfiguration,
    /// How many seconds Pods stay on a node that is not ready.
    pub not_ready_toleration_seconds: i64,
    /// How many seconds Pods stay on a node that is out of reach.
    pub unreachable_toleration_seconds: i64,
    /// What calls webhooks; without it every call has failed.
    pub webhook_client: Option<Arc<dyn WebhookClient>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pod_security: PodSecurityConfiguration::default(),
            not_ready_toleration_seconds: DEFAULT_SECONDS,
            unreachable_toleration_seconds: DEFAULT_SECONDS,
            webhook_client: None,
        }
    }
}

/// The built-in controllers of these names, with their places.
pub(crate) fn controllers(
    names: &[&str],
    state: &Arc<dyn ClusterState>,
    settings: &Settings,
) -> Vec<(Place, Arc<dyn AdmissionController>)> {
    let built = |name: &str| -> Option<Arc<dyn AdmissionController>> {
        Some(match name {
            "NamespaceLifecycle" => Arc::new(NamespaceLifecycle::new(state.clone())),
            "LimitRanger" => Arc::new(LimitRanger::new(state.clone())),
            "ServiceAccount" => Arc::new(ServiceAccount::new(state.clone())),
            "ResourceQuota" => Arc::new(ResourceQuota::new(state.clone())),
            "MutatingAdmissionPolicy" => Arc::new(MutatingAdmissionPolicy::new(state.clone())),
            "ValidatingAdmissionPolicy" => Arc::new(ValidatingAdmissionPolicy::new(state.clone())),
            "MutatingAdmissionWebhook" => {
                Arc::new(MutatingAdmissionWebhook::new(state.clone(), settings.webhook_client.clone()))
            }
            "ValidatingAdmissionWebhook" => {
                Arc::new(ValidatingAdmissionWebhook::new(state.clone(), settings.webhook_client.clone()))
            }
            "Priority" => Arc::new(Priority::new(state.clone())),
            "DefaultTolerationSeconds" => Arc::new(DefaultTolerationSeconds::new(
                settings.not_ready_toleration_seconds,
                settings.unreachable_toleration_seconds,
            )),
            "PodSecurity" => Arc::new(PodSecurity::new(settings.pod_security.clone(), state.clone())),
            _ => return None,
        })
    };
    let named = BUILT_IN.iter().zip(0..).filter(|(name, _)| names.contains(name));
    named
        .filter_map(|(name, at)| {
            let place = if *name == "ResourceQuota" { Place::Charging } else { Place::BuiltIn(at) };
            Some((place, built(name)?))
        })
        .collect()
}
