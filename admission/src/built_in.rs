//! The controllers that come with the chain.

use std::sync::Arc;

use crate::{
    chain::Place,
    cluster::ClusterState,
    controller::AdmissionController,
    pod_security::{Exemptions, PodSecurity, Policy},
};

/// The built-in controllers in kube-apiserver's order.
pub(crate) const BUILT_IN: &[&str] = &["PodSecurity"];

/// How the built-in controllers behave.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What a namespace without labels is held to; `privileged` where nothing is said, as in kube-apiserver.
    pub pod_security_defaults: Policy,
    /// What Pod Security looks away from.
    pub pod_security_exemptions: Exemptions,
}

/// The built-in controllers of these names, with their places.
pub(crate) fn controllers(
    names: &[&str],
    state: &Arc<dyn ClusterState>,
    settings: &Settings,
) -> Vec<(Place, Arc<dyn AdmissionController>)> {
    let built = |name: &str| -> Option<Arc<dyn AdmissionController>> {
        Some(match name {
            "PodSecurity" => Arc::new(PodSecurity::new(
                settings.pod_security_defaults,
                settings.pod_security_exemptions.clone(),
                state.clone(),
            )),
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
