//! The name of a cluster or API, as it stands in URLs, keys and tokens.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest name: that of a DNS name, which most clusters are called by.
const MAX_BYTES: usize = 253;

/// A name made of ASCII letters, digits, `-`, `.` and `_`: it stands in a URL and in a Kafka key as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The name.
    pub fn as_arc(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no cluster name.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no cluster name: 1 to {MAX_BYTES} of the letters a-z, A-Z, 0-9, '-', '.' and '_', a letter or digit first"
)]
pub struct ParseClusterError(String);

impl FromStr for ClusterName {
    type Err = ParseClusterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= MAX_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        if valid { Ok(Self(text.into())) } else { Err(ParseClusterError(text.chars().take(80).collect())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_url_or_a_key_are_refused() {
        for bad in ["", "a/b", "a b", "..", "a\u{1f}b", "ü", "-a", &"a".repeat(254)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
        for good in ["demo", "prod-eu.example.com", "A_1"] {
            assert_eq!(good.parse::<ClusterName>().unwrap().to_string(), good);
        }
    }
}
