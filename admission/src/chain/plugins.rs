//! Which controllers are on: kube-apiserver's names, its defaults, and the two lists that change them.

use super::{AdmissionChain, entry::Entry};
use crate::built_in::{self, BUILT_IN};

/// The admission plugins of kube-apiserver 1.37.
const KNOWN: [&str; 41] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "JobValidation",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NamespaceLifecycle",
    "NodeDeclaredFeatureValidator",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
    "PodNodeSelector",
    "PodResizeValidator",
    "PodSecurity",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// Another name of PodSecurity.
const ALIAS: (&str, &str) = ("PodSecurityStandards", "PodSecurity");

/// A list of controllers that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// No such controller exists anywhere.
    #[error("unknown admission plugin {name:?}; did you mean {nearest:?}?")]
    Unknown {
        /// The name.
        name: String,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// kube-apiserver has the controller, and this chain does not.
    #[error("admission plugin {0:?} of kube-apiserver is not built in, so it cannot be enabled")]
    Absent(String),
    /// One name is in both lists.
    #[error("admission plugin {0:?} is both enabled and disabled")]
    Contradiction(String),
}

impl AdmissionChain {
    /// Adds all built-in controllers; every one of them is on by default in kube-apiserver too.
    #[must_use]
    pub fn with_built_in_controllers(self) -> Self {
        self.with(BUILT_IN)
    }

    /// Adds the built-in controllers but those that are disabled. Both lists take kube-apiserver's names, in any
    /// order, and `PodSecurityStandards` for PodSecurity.
    ///
    /// # Errors
    /// When a name is unknown, is in both lists, or is enabled although there is no such controller here.
    pub fn with_plugins(self, enable: &[String], disable: &[String]) -> Result<Self, PluginError> {
        let enable = enable.iter().map(|name| known(name)).collect::<Result<Vec<_>, _>>()?;
        let disable = disable.iter().map(|name| known(name)).collect::<Result<Vec<_>, _>>()?;
        for name in enable {
            if disable.contains(&name) {
                return Err(PluginError::Contradiction(name.to_owned()));
            }
            if !BUILT_IN.contains(&name) {
                return Err(PluginError::Absent(name.to_owned()));
            }
        }
        let names: Vec<_> = BUILT_IN.iter().copied().filter(|name| !disable.contains(name)).collect();
        Ok(self.with(&names))
    }

    fn with(mut self, names: &[&str]) -> Self {
        for (place, controller) in built_in::controllers(names, &self.state, &self.settings) {
            self.insert(Entry::new(controller, place));
        }
        self
    }
}

/// kube-apiserver's own name of a controller.
///
/// # Errors
/// When there is none, with the nearest one.
pub(crate) fn known(name: &str) -> Result<&'static str, PluginError> {
    if name == ALIAS.0 {
        return Ok(ALIAS.1);
    }
    if let Some(found) = KNOWN.iter().find(|known| **known == name) {
        return Ok(found);
    }
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let all = KNOWN.iter().copied().chain([ALIAS.0]);
    let nearest = all.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default();
    Err(PluginError::Unknown { name: name.to_owned(), nearest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins(enable: &[&str], disable: &[&str]) -> Result<Vec<String>, PluginError> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let chain = AdmissionChain::new().with_plugins(&owned(enable), &owned(disable))?;
        Ok(chain.controllers().map(|status| status.name.to_owned()).collect())
    }

    #[test]
    fn every_built_in_controller_has_kube_apiservers_name_and_place() {
        assert!(BUILT_IN.iter().all(|name| KNOWN.contains(name)));
        assert_eq!(plugins(&[], &[]).unwrap(), BUILT_IN);
        assert_eq!(plugins(&["PodSecurity"], &[]).unwrap(), BUILT_IN);
    }

    #[test]
    fn a_disabled_controller_is_absent_under_either_name() {
        for name in ["PodSecurity", "PodSecurityStandards"] {
            assert!(!plugins(&[], &[name]).unwrap().contains(&"PodSecurity".to_owned()));
        }
        assert_eq!(plugins(&[], &["AlwaysPullImages"]).unwrap(), BUILT_IN);
    }

    #[test]
    fn an_unknown_name_is_an_error_with_the_nearest_known_one() {
        let error = |enable: &[&str], disable: &[&str]| plugins(enable, disable).unwrap_err().to_string();
        for (name, nearest) in [
            ("podsecurity", "PodSecurity"),
            ("PodSecurityStandard", "PodSecurityStandards"),
            ("LimitRange", "LimitRanger"),
        ] {
            let expected = format!("unknown admission plugin {name:?}; did you mean {nearest:?}?");
            assert_eq!(error(&[name], &[]), expected);
            assert_eq!(error(&[], &[name]), expected);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let twice = plugins(&["PodSecurityStandards"], &["PodSecurity"]);
        assert_eq!(twice, Err(PluginError::Contradiction("PodSecurity".into())));
        assert_eq!(plugins(&["AlwaysPullImages"], &[]), Err(PluginError::Absent("AlwaysPullImages".into())));
    }
}
