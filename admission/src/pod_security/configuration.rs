//! Pod Security as it is configured: what holds where labels say nothing, and what is looked away from.

use std::collections::HashSet;

use manifest::{Form, Refused, Violation, is_label, is_subdomain};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    level::{Level, LevelVersion, Version},
    policy::Policy,
};

/// The namespaces that a cluster cannot do without: what runs in them may need more than others have.
pub(super) const SYSTEM: [&str; 2] = ["kube-system", "kube-public"];

/// The largest document.
const MAX_BYTES: usize = 1024 * 1024;

/// What a `PodSecurityConfiguration` must be. The older versions have the same fields.
pub(crate) const FORM: Form = Form {
    what: "Pod Security configuration",
    kinds: &[
        ("pod-security.admission.config.k8s.io/v1", KIND),
        ("pod-security.admission.config.k8s.io/v1beta1", KIND),
        ("pod-security.admission.config.k8s.io/v1alpha1", KIND),
    ],
    max_bytes: MAX_BYTES,
    places: &[
        ("the configuration", &["defaults", "exemptions"]),
        ("defaults", &["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"]),
        ("exemptions", &["usernames", "runtimeClasses", "namespaces"]),
    ],
    confidential: false,
};

pub(crate) const KIND: &str = "PodSecurityConfiguration";

/// What Pod Security looks away from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemptions {
    /// Users, by the name that asks.
    pub usernames: Vec<String>,
    /// Runtime classes of Pods.
    pub runtime_classes: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
}

/// How Pod Security is configured.
///
/// [`PodSecurityConfiguration::default`] is what holds without a file: baseline in all modes, and privileged in
/// `kube-system` and `kube-public`. A file is followed as kube-apiserver follows it: what it does not say is
/// privileged, in every namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSecurityConfiguration {
    /// What a namespace is held to where its labels say nothing.
    pub defaults: Policy,
    /// The same of `kube-system` and `kube-public`.
    pub system_defaults: Policy,
    /// What is looked away from.
    pub exemptions: Exemptions,
}

impl Default for PodSecurityConfiguration {
    fn default() -> Self {
        Self::without_file(Level::Baseline)
    }
}

impl PodSecurityConfiguration {
    /// One level for all modes, but privileged in `kube-system` and `kube-public`.
    pub fn without_file(level: Level) -> Self {
        Self {
            defaults: Policy::all(LevelVersion::new(level, Version::Latest)),
            system_defaults: Policy::default(),
            exemptions: Exemptions::default(),
        }
    }

    /// Reads a document: YAML or JSON, `pod-security.admission.config.k8s.io/v1` or one of its older versions.
    ///
    /// # Errors
    /// With the first flaw of its form, or everything that is wrong with its values.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        manifest::read::<Text>(&FORM, bytes)?.checked("").map_err(Refused::Invalid)
    }

    /// What a namespace is held to where its labels say nothing.
    pub fn defaults_of(&self, namespace: &str) -> Policy {
        if SYSTEM.contains(&namespace) { self.system_defaults } else { self.defaults }
    }
}

/// A document as it is written; absent and null are the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Text {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    defaults: Option<DefaultsText>,
    exemptions: Option<ExemptionsText>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DefaultsText {
    enforce: Option<String>,
    enforce_version: Option<String>,
    audit: Option<String>,
    audit_version: Option<String>,
    warn: Option<String>,
    warn_version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExemptionsText {
    usernames: Option<Vec<String>>,
    runtime_classes: Option<Vec<String>>,
    namespaces: Option<Vec<String>>,
}

impl Text {
    /// What it says, or everything that is wrong with it. `place` stands before the paths of fields.
    pub(crate) fn checked(self, place: &str) -> Result<PodSecurityConfiguration, Vec<Violation>> {
        let mut check = Check { place, violations: Vec::new() };
        let text = self.defaults.unwrap_or_default();
        let defaults = Policy {
            enforce: check.mode("enforce", text.enforce, text.enforce_version),
            audit: check.mode("audit", text.audit, text.audit_version),
            warn: check.mode("warn", text.warn, text.warn_version),
        };
        let text = self.exemptions.unwrap_or_default();
        let exemptions = Exemptions {
            usernames: check.names("usernames", text.usernames, |name| {
                (name.trim().is_empty()).then_some("is no name of a user")
            }),
            runtime_classes: check.names("runtimeClasses", text.runtime_classes, |name| {
                (!is_subdomain(name))
                    .then_some("is no DNS subdomain (RFC 1123), as the name of a RuntimeClass is")
            }),
            namespaces: check.names("namespaces", text.namespaces, |name| {
                (!is_label(name)).then_some("is no DNS label (RFC 1123), as the name of a namespace is")
            }),
        };
        if check.violations.is_empty() {
            Ok(PodSecurityConfiguration { defaults, system_defaults: defaults, exemptions })
        } else {
            Err(check.violations)
        }
    }
}

struct Check<'p> {
    place: &'p str,
    violations: Vec<Violation>,
}

impl Check<'_> {
    fn violated(&mut self, path: &str, message: String) {
        self.violations.push(Violation { path: format!("{}{path}", self.place), message });
    }

    fn mode(&mut self, name: &str, level: Option<String>, version: Option<String>) -> LevelVersion {
        let level = self.parsed(&format!("defaults.{name}"), level);
        LevelVersion { level, version: self.parsed(&format!("defaults.{name}-version"), version) }
    }

    /// A value; where it is absent or empty its default, as upstream takes it.
    fn parsed<T>(&mut self, path: &str, value: Option<String>) -> T
    where
        T: std::str::FromStr<Err = super::level::ParseError> + Default,
    {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return T::default() };
        value.parse().unwrap_or_else(|error| {
            self.violated(path, format!("{value:?}: {error}"));
            T::default()
        })
    }

    fn names(
        &mut self,
        list: &str,
        names: Option<Vec<String>>,
        flaw: impl Fn(&str) -> Option<&'static str>,
    ) -> Vec<String> {
        let names = names.unwrap_or_default();
        let mut seen = HashSet::new();
        for (at, name) in names.iter().enumerate() {
            let path = format!("exemptions.{list}[{at}]");
            if let Some(why) = flaw(name) {
                self.violated(&path, format!("{name:?} {why}"));
            } else if !seen.insert(name) {
                self.violated(&path, format!("{name:?} is given twice"));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n";

    fn read(rest: &str) -> Result<PodSecurityConfiguration, String> {
        PodSecurityConfiguration::from_bytes(format!("{HEAD}{rest}").as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_a_file_does_not_say_is_privileged_everywhere() {
        let read =
            read("defaults: {enforce: restricted, enforce-version: v1.30, warn: baseline, audit: ''}\n");
        let read = read.unwrap();
        for namespace in ["shop", "kube-system"] {
            let Policy { enforce, audit, warn } = read.defaults_of(namespace);
            assert_eq!(enforce.to_string(), "restricted:v1.30");
            assert_eq!(
                (audit.to_string(), warn.to_string()),
                ("privileged:latest".into(), "baseline:latest".into())
            );
        }
        assert_eq!(read.exemptions, Exemptions::default());
        for version in ["v1beta1", "v1alpha1"] {
            let text = HEAD.replace("/v1", &format!("/{version}"));
            let read = PodSecurityConfiguration::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(read.defaults, Policy::default());
        }
    }

    #[test]
    fn without_a_file_all_but_the_clusters_own_namespaces_are_held_to_baseline() {
        let configuration = PodSecurityConfiguration::default();
        assert_eq!(configuration.defaults_of("shop").enforce.to_string(), "baseline:latest");
        for namespace in SYSTEM {
            assert!(configuration.defaults_of(namespace).is_fully_privileged());
        }
    }

    #[test]
    fn exemptions_are_taken_as_they_stand() {
        let text = "exemptions:\n  usernames: ['system:serviceaccount:ci:builder']\n  runtimeClasses: [kata.x]\n  namespaces: [infra]\n";
        let Exemptions { usernames, runtime_classes, namespaces } = read(text).unwrap().exemptions;
        assert_eq!(usernames, ["system:serviceaccount:ci:builder"]);
        assert_eq!((runtime_classes, namespaces), (vec!["kata.x".to_owned()], vec!["infra".to_owned()]));
    }

    #[test]
    fn a_typo_is_an_error_with_its_place_and_the_nearest_name() {
        for (text, expected) in [
            ("defaults:\n  enforc: baseline\n", "4:3: unknown field \"enforc\"; did you mean \"enforce\"?"),
            (
                "defaults:\n  enforceVersion: latest\n",
                "4:3: unknown field \"enforceVersion\"; did you mean \"enforce-version\"?",
            ),
            ("exemption: {}\n", "3:1: unknown field \"exemption\"; did you mean \"exemptions\"?"),
            (
                "defaults:\n  namespaces: [a]\n",
                "4:3: \"namespaces\" does not belong here, it is a field of exemptions",
            ),
            ("exemptions: {}\nexemptions: {}\n", "4:1: \"exemptions\" is given twice"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_wrong_value_is_told_with_its_path() {
        let text = "defaults: {enforce: Baseline, warn-version: '1.30'}\n\
                    exemptions: {usernames: [' '], runtimeClasses: [A], namespaces: [a.b, ok, ok]}\n";
        assert_eq!(
            read(text).unwrap_err(),
            "defaults.enforce: \"Baseline\": must be one of privileged, baseline, restricted; \
             defaults.warn-version: \"1.30\": must be \"latest\" or \"v1.x\"; \
             exemptions.usernames[0]: \" \" is no name of a user; \
             exemptions.runtimeClasses[0]: \"A\" is no DNS subdomain (RFC 1123), as the name of a RuntimeClass is; \
             exemptions.namespaces[0]: \"a.b\" is no DNS label (RFC 1123), as the name of a namespace is; \
             exemptions.namespaces[2]: \"ok\" is given twice"
        );
    }
}
