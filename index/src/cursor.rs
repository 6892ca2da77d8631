//! Where the next page begins: after the last record that was given, whatever arrives meanwhile.

use std::{fmt, str::FromStr};

use ingest::{record::RecordId, time::Timestamp};

use crate::{query::Query, search::Hit};

/// A place in the result of one query, newest first. Opaque to those who pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) key: Key,
    query: u64,
}

/// What a result is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) at: Timestamp,
    pub(crate) id: u128,
}

impl Key {
    pub(crate) const fn record(self) -> RecordId {
        RecordId(uuid::Uuid::from_u128(self.id))
    }
}

/// A text that is no cursor, or one of another query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// It was not made here.
    #[error("the cursor does not read: pass on what the page before gave as \"next\", or leave it out")]
    Unreadable,
    /// It was made for another query.
    #[error("the cursor belongs to another query: leave it out when the query changes")]
    OtherQuery,
}

impl Cursor {
    pub(crate) fn new(key: Key, query: &Query) -> Self {
        Self { key, query: hash(query) }
    }

    /// The place at which a page of `query` begins with `hit`.
    pub fn at(hit: &Hit, query: &Query) -> Self {
        let id = hit.id.0.as_u128();
        let key = match id.checked_add(1) {
            Some(after) => Key { at: hit.at, id: after },
            None => Key { at: Timestamp::from_micros(hit.at.micros().saturating_add(1)), id: 0 },
        };
        Self::new(key, query)
    }

    /// The place, if the cursor is of this query.
    pub(crate) fn of(self, query: &Query) -> Result<Key, CursorError> {
        if self.query == hash(query) { Ok(self.key) } else { Err(CursorError::OtherQuery) }
    }
}

/// FNV-1a of the query's printed form: the same for every spelling of one query, and at every start.
fn hash(query: &Query) -> u64 {
    query
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.key.at.micros() as u64;
        write!(f, "1{at:016x}{:032x}{:016x}", self.key.id, self.query)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let read = || {
            let digits = text.strip_prefix('1').filter(|digits| digits.len() == 64 && digits.is_ascii())?;
            let at = u64::from_str_radix(&digits[..16], 16).ok()?;
            let id = u128::from_str_radix(&digits[16..48], 16).ok()?;
            let query = u64::from_str_radix(&digits[48..], 16).ok()?;
            Some(Self { key: Key { at: Timestamp::from_micros(at as i64), id }, query })
        };
        read().ok_or(CursorError::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        crate::query::parse(text, Timestamp::from_micros(0)).unwrap()
    }

    #[test]
    fn a_cursor_reads_back_and_is_refused_by_another_query() {
        let key = Key { at: Timestamp::from_micros(-5), id: 7 };
        let cursor = Cursor::new(key, &query("verb:get"));
        let read: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(read.of(&query("(verb:get)")), Ok(key));
        assert_eq!(read.of(&query("verb:list")), Err(CursorError::OtherQuery));
        for text in ["", "1", "2aa", "1\u{e4}", &cursor.to_string()[..64]] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError::Unreadable), "{text}");
        }
    }
}
