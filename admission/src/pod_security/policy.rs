//! What the labels of a namespace ask for.

use super::level::{Level, LevelVersion, ParseError, Version};
use crate::{denial::Cause, quote::Quoted};

/// What every label begins with, and every annotation for the audit event.
pub const LABEL_PREFIX: &str = "pod-security.kubernetes.io/";

/// What a namespace is held to, in the three modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: LevelVersion,
    /// Violations are noted in the audit event.
    pub audit: LevelVersion,
    /// The user is warned of violations.
    pub warn: LevelVersion,
}

/// A label with a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelError {
    /// The whole label.
    pub label: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub error: ParseError,
}

impl std::fmt::Display for LabelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = self.cause();
        write!(f, "{}: {}", cause.field, cause.message)
    }
}

impl LabelError {
    /// The flaw as a status's details have it.
    pub fn cause(&self) -> Cause {
        Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: {}: {}", Quoted(&self.value), self.error),
            field: format!("metadata.labels[{}]", self.label),
        }
    }
}

impl Policy {
    /// One policy for all modes.
    pub fn all(policy: LevelVersion) -> Self {
        Self { enforce: policy, audit: policy, warn: policy }
    }

    /// What labels ask for, with defaults where they say nothing, and the labels that cannot be followed. With those
    /// enforcing falls back to what is strictest, and auditing and warning to nothing.
    pub fn from_labels<'a>(
        label: impl Fn(&str) -> Option<&'a str>,
        defaults: Self,
    ) -> (Self, Vec<LabelError>) {
        let mut labels = Labels { label, errors: Vec::new() };
        let mut policy = defaults;
        let enforced = labels.level("enforce", &mut policy.enforce, Level::Restricted);
        labels.version("enforce-version", &mut policy.enforce);
        labels.level("audit", &mut policy.audit, Level::Privileged);
        labels.version("audit-version", &mut policy.audit);
        let warned = labels.level("warn", &mut policy.warn, Level::Privileged);
        let warn_version = labels.version("warn-version", &mut policy.warn);
        // Whoever asks for a stricter level to be enforced is warned by it too, unless the labels say otherwise.
        if warned == Found::Absent && enforced == Found::Valid && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if warn_version == Found::Absent {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, labels.errors)
    }

    /// Whether no mode demands anything.
    pub fn is_fully_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }

    /// Whether both demand the same in every mode.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.enforce.is_equivalent(other.enforce)
            && self.audit.is_equivalent(other.audit)
            && self.warn.is_equivalent(other.warn)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Absent,
    Valid,
    Invalid,
}

struct Labels<F> {
    label: F,
    errors: Vec<LabelError>,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Labels<F> {
    fn level(&mut self, name: &str, mode: &mut LevelVersion, otherwise: Level) -> Found {
        self.parse(name, &mut mode.level, otherwise)
    }

    fn version(&mut self, name: &str, mode: &mut LevelVersion) -> Found {
        self.parse(name, &mut mode.version, Version::Latest)
    }

    fn parse<T>(&mut self, name: &str, field: &mut T, otherwise: T) -> Found
    where
        T: std::str::FromStr<Err = ParseError>,
    {
        let label = format!("{LABEL_PREFIX}{name}");
        let Some(value) = (self.label)(&label) else { return Found::Absent };
        match value.parse() {
            Ok(parsed) => {
                *field = parsed;
                Found::Valid
            }
            Err(error) => {
                *field = otherwise;
                self.errors.push(LabelError { label, value: value.to_owned(), error });
                Found::Invalid
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(labels: &[(&str, &'static str)]) -> (String, Vec<String>) {
        let find = |label: &str| {
            let name = label.strip_prefix(LABEL_PREFIX).unwrap();
            labels.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
        };
        let (policy, errors) = Policy::from_labels(find, Policy::default());
        let text = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (text, errors.iter().map(LabelError::to_string).collect())
    }

    #[test]
    fn enforcing_warns_too_unless_the_labels_say_otherwise() {
        for (labels, expected) in [
            (&[][..], "privileged:latest privileged:latest privileged:latest"),
            (&[("enforce", "baseline")], "baseline:latest privileged:latest baseline:latest"),
            (
                &[("enforce", "restricted"), ("enforce-version", "v1.25")],
                "restricted:v1.25 privileged:latest restricted:v1.25",
            ),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.25"), ("warn-version", "v1.20")],
                "baseline:v1.25 privileged:latest baseline:v1.20",
            ),
            (
                &[("enforce", "baseline"), ("warn", "privileged")],
                "baseline:latest privileged:latest privileged:latest",
            ),
            (&[("audit", "restricted")], "privileged:latest restricted:latest privileged:latest"),
        ] {
            assert_eq!(policy(labels), (expected.to_owned(), Vec::new()), "{labels:?}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_enforced_is_strictest_and_one_that_only_warns_is_dropped() {
        let (text, errors) =
            policy(&[("enforce", "x"), ("enforce-version", "v2"), ("audit", "y"), ("warn", "z\"")]);
        assert_eq!(text, "restricted:latest privileged:latest privileged:latest");
        assert_eq!(
            errors,
            [
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "v2": must be "latest" or "v1.x""#,
                r#"metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "y": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "z\"": must be one of privileged, baseline, restricted"#,
            ]
        );
    }
}
