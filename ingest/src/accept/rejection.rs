//! Why an item is not taken, and where it stood.

use std::fmt;

use serde::Serialize;

use crate::{
    event::ParseError,
    json::{Flaw, JsonError},
};

/// Where an item begins in what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Which item it is, counted from 0 over the whole input.
    pub item: u64,
    /// Its line, counted from 1.
    pub line: u64,
    /// Its byte, counted from 0.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}, line {}, byte {}", self.item, self.line, self.offset)
    }
}

/// The kinds of refusal. The names are metric labels and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not JSON, or not UTF-8.
    Malformed,
    /// The input ends within the item.
    Truncated,
    /// JSON, but not an object.
    NotAnObject,
    /// An object or list of another kind.
    WrongKind,
    /// A version of the audit format that is not read.
    WrongVersion,
    /// A known member stands there twice.
    Duplicate,
    /// Nested deeper than [`crate::json::MAX_DEPTH`].
    TooDeep,
    /// Larger than [`crate::record::MAX_EVENT_BYTES`].
    TooLarge,
    /// A member that every event has is missing or has another type.
    Missing,
    /// A level or stage that does not exist.
    UnknownName,
    /// The stageTimestamp is not a time.
    BadTime,
    /// The event's day is more than one day ahead.
    DayAhead,
    /// The event's day is older than the retention.
    DayExpired,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::Truncated,
        Self::NotAnObject,
        Self::WrongKind,
        Self::WrongVersion,
        Self::Duplicate,
        Self::TooDeep,
        Self::TooLarge,
        Self::Missing,
        Self::UnknownName,
        Self::BadTime,
        Self::DayAhead,
        Self::DayExpired,
    ];

    /// The name in metrics, answers and facts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::NotAnObject => "not_an_object",
            Self::WrongKind => "wrong_kind",
            Self::WrongVersion => "wrong_version",
            Self::Duplicate => "duplicate_member",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::Missing => "missing_member",
            Self::UnknownName => "unknown_name",
            Self::BadTime => "bad_time",
            Self::DayAhead => "day_ahead",
            Self::DayExpired => "day_expired",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An item that is not taken.
///
/// The detail names members and places, and never quotes the item beyond short names: it may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// In words for whoever sent it.
    pub detail: String,
}

impl Rejection {
    /// A refusal with its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<JsonError> for Rejection {
    fn from(error: JsonError) -> Self {
        let reason = match error.flaw {
            Flaw::TooDeep => Reason::TooDeep,
            Flaw::UnexpectedEnd => Reason::Truncated,
            _ => Reason::Malformed,
        };
        Self::new(reason, format!("{} at byte {} of the item", error.flaw, error.at))
    }
}

impl From<ParseError> for Rejection {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Json(json) => json.into(),
            ParseError::NotAnObject => Self::new(Reason::NotAnObject, error.to_string()),
            ParseError::Duplicate { .. } => Self::new(Reason::Duplicate, error.to_string()),
        }
    }
}
