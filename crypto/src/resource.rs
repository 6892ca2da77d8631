//! Resources, and the rules that stand for several of them.

use std::fmt;

/// A resource of a group as it is stored: `secrets`, `deployments.apps`. In a rule the resource may be `*`, and so
/// may the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupResource {
    /// The resource, in the plural.
    pub resource: String,
    /// The group; empty for the core group.
    pub group: String,
}

impl GroupResource {
    /// Everything: `*.*`.
    pub(crate) fn everything() -> Self {
        Self { resource: "*".to_owned(), group: "*".to_owned() }
    }

    /// Every resource of the group.
    pub(crate) fn whole_group(&self) -> Self {
        Self { resource: "*".to_owned(), group: self.group.clone() }
    }
}

impl From<&str> for GroupResource {
    /// The first dot separates the resource from its group.
    fn from(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { resource: resource.to_owned(), group: group.to_owned() }
    }
}

impl fmt::Display for GroupResource {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if self.group.is_empty() && self.resource != "*" { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}
