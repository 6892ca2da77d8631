//! Who a request comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The group of everybody who has shown who they are.
pub const AUTHENTICATED: &str = "system:authenticated";

/// The group whose members may do everything, whatever the stored roles say.
pub const MASTERS: &str = "system:masters";

/// An identity as audit events and reviews carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Unique at one time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Unique for all time, where the authenticator has such a thing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// What it is a member of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Whether it is a member of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Somebody who has shown who they are is in [`AUTHENTICATED`].
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
