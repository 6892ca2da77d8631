//! Strict loading: from the bytes of a YAML or JSON file to a valid policy.

use serde::Deserialize;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, Spanned};
use sha2::{Digest, Sha256};

use super::{Policy, Violation, validate};
use crate::from_file::{self, FromFile, NotText};

/// A policy with the hash of the file that it was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of the file's bytes, in lower-case hex.
    pub hash: String,
}

/// Text that is not a valid policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a text, or an empty one.
    #[error(transparent)]
    NotText(#[from] NotText),
    /// Not YAML or JSON, or not with the fields and types of a policy.
    #[error("{line}:{column}: {message}")]
    Malformed {
        /// Line, from 1; 0 when there is no place.
        line: u64,
        /// Column, from 1; 0 when there is no place.
        column: u64,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Well formed, but not valid. There is at least one violation.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
}

impl Loaded {
    /// Loads the bytes of a file.
    ///
    /// # Errors
    /// When they are no valid policy. Violations are all told at once, a malformed text only by its first flaw.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let text = from_file::text(bytes)?;
        let head: Head = parse(text)?;
        head.check()?;
        let policy = validate::policy(parse(text)?).map_err(PolicyError::Invalid)?;
        Ok(Self { policy, hash: hex::encode(Sha256::digest(bytes)) })
    }
}

impl FromFile for Loaded {
    const NAME: &'static str = "audit policy";
    type Error = PolicyError;

    fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        Self::from_bytes(bytes)
    }

    fn hash(&self) -> &str {
        &self.hash
    }
}

/// What says that a document is a policy. It is read first, so that another document is refused for what it is
/// and not for its first field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
}

impl Head {
    fn check(&self) -> Result<(), PolicyError> {
        Self::is("apiVersion", self.api_version.as_ref(), "audit.k8s.io/v1")?;
        Self::is("kind", self.kind.as_ref(), "Policy")
    }

    fn is(field: &str, found: Option<&Spanned<String>>, right: &str) -> Result<(), PolicyError> {
        match found {
            Some(found) if found.value == right => Ok(()),
            Some(found) => Err(PolicyError::Malformed {
                line: found.referenced.line(),
                column: found.referenced.column(),
                message: format!("{field} is {:?}, but only {right:?} is supported", found.value),
            }),
            None => Err(PolicyError::Malformed {
                line: 1,
                column: 1,
                message: format!("{field} is missing; it must be {right:?}"),
            }),
        }
    }
}

/// A policy as it is written; absent and null are the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicyText {
    #[serde(rename = "apiVersion")]
    _api_version: serde::de::IgnoredAny,
    #[serde(rename = "kind")]
    _kind: serde::de::IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: Option<serde::de::IgnoredAny>,
    pub(super) rules: Option<Vec<RuleText>>,
    pub(super) omit_stages: Option<Vec<String>>,
    pub(super) omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleText {
    pub(super) level: Option<String>,
    pub(super) users: Option<Vec<String>>,
    pub(super) user_groups: Option<Vec<String>>,
    pub(super) verbs: Option<Vec<String>>,
    pub(super) resources: Option<Vec<ResourcesText>>,
    pub(super) namespaces: Option<Vec<String>>,
    #[serde(rename = "nonResourceURLs")]
    pub(super) non_resource_urls: Option<Vec<String>>,
    pub(super) omit_stages: Option<Vec<String>>,
    pub(super) omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourcesText {
    pub(super) group: Option<String>,
    pub(super) resources: Option<Vec<String>>,
    pub(super) resource_names: Option<Vec<String>>,
}

/// Where a field belongs, for those that are often put in the wrong place.
const PLACES: [(&str, &[&str]); 3] = [
    ("the policy", &["rules", "omitStages", "omitManagedFields"]),
    (
        "a rule",
        &[
            "level",
            "users",
            "userGroups",
            "verbs",
            "resources",
            "namespaces",
            "nonResourceURLs",
            "omitStages",
            "omitManagedFields",
        ],
    ),
    ("an entry of a rule's resources", &["group", "resources", "resourceNames"]),
];

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, PolicyError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        // A number is no name, here as there: Kubernetes refuses it too.
        no_schema: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| malformed(&error))
}

fn malformed(error: &Error) -> PolicyError {
    let message = match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown(field, expected),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("{key:?} is given twice"),
        Error::MultipleDocuments { .. } => {
            "a policy is one document, and a second one begins here".to_owned()
        }
        other => without_place(&other.render()),
    };
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    PolicyError::Malformed { line, column, message }
}

fn unknown(field: &str, expected: &[&str]) -> String {
    let elsewhere = PLACES.iter().find(|(_, fields)| fields.contains(&field)).map(|(place, _)| place);
    let nearest =
        expected.iter().copied().max_by(|a, b| similarity(a, field).total_cmp(&similarity(b, field)));
    match (elsewhere, nearest) {
        (Some(place), _) => format!("{field:?} does not belong here, it is a field of {place}"),
        (None, Some(nearest)) => format!("unknown field {field:?}; did you mean {nearest:?}?"),
        (None, None) => format!("unknown field {field:?}"),
    }
}

pub(super) fn similarity(known: &str, given: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&known.to_lowercase(), &given.to_lowercase())
}

/// The first line of a parser's message without the place at its end, which is told apart.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ").map_or(line, |(message, _)| message).to_owned()
}
