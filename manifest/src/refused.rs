//! Why a document is refused.

use std::fmt;

/// A document that is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than its form allows.
    #[error("a {what} has at most {max} bytes")]
    TooLarge {
        /// What it should be.
        what: &'static str,
        /// The most bytes.
        max: usize,
    },
    /// Nothing but white space and comments.
    #[error("the {what} is empty")]
    Empty {
        /// What it should be.
        what: &'static str,
    },
    /// Not UTF-8.
    #[error("the {what} is not UTF-8 from byte {from} on")]
    NotUtf8 {
        /// What it should be.
        what: &'static str,
        /// The first byte that is wrong, from 0.
        from: usize,
    },
    /// Not YAML or JSON, or not with the fields and types of its kind.
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

/// A value that a document must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as kube-apiserver names it: `rules[0].level`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
