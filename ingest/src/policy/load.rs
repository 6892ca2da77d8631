//! Strict loading: from the bytes of a YAML or JSON file to a valid policy.

use manifest::{Form, Refused as PolicyError};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Policy, validate};
use crate::from_file::{FromFile, MAX_FILE_BYTES};

/// A policy with the hash of the file that it was loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of the file's bytes, in lower-case hex.
    pub hash: String,
}

impl Loaded {
    /// Loads the bytes of a file.
    ///
    /// # Errors
    /// When they are no valid policy. Violations are all told at once, a malformed text only by its first flaw.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let text = manifest::read(&FORM, bytes)?;
        let policy = validate::policy(text).map_err(PolicyError::Invalid)?;
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
const PLACES: &[(&str, &[&str])] = &[
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

const FORM: Form = Form {
    what: "policy",
    kinds: &[("audit.k8s.io/v1", "Policy")],
    max_bytes: MAX_FILE_BYTES,
    places: PLACES,
    confidential: false,
};
