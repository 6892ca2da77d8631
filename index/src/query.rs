//! The query language: text in, a checked and typed filter out.
//!
//! [`parse()`] knows the fields and their types, so what it returns can be answered: an unknown field, a wrong
//! operator and a value that is not of the field's type are errors with a place, never zero hits.
//! Printing a [`Query`] gives text that parses to the same query.
//!
//! The user's documentation is `docs/query.md`.

mod ast;
mod check;
mod cursor;
mod error;
pub mod fields;
mod known;
mod parse;
mod print;
mod value;

#[cfg(test)]
mod tests;

use ingest::time::Timestamp;

pub(crate) use ast::wildcard;
pub use ast::{
    Addresses, Case, Clause, Compare, Digits, Expr, Match, Number, Pattern, Piece, Query, Regex, Test,
};
pub use error::QueryError;
pub use fields::{Core, Field, Path, Root, Type};

/// The longest query, in bytes. Generated queries (lists of users or addresses) reach some kilobytes.
pub const MAX_QUERY_BYTES: usize = 16 * 1024;

/// How deep parentheses and negations nest. Parsing, printing and compiling recurse once per level.
pub const MAX_DEPTH: usize = 64;

/// How many conditions a query has. Each is at least one walk through a posting list.
pub const MAX_CLAUSES: usize = 512;

/// The largest compiled regex, in bytes. It bounds what `{n}` repetitions can blow up to.
pub const MAX_REGEX_BYTES: usize = 1024 * 1024;

/// How far apart the words of a phrase may stand (`"a b"~3`).
pub const MAX_SLOP: u32 = 100;

/// Reads a query. `now` is what `now` in it means.
///
/// # Errors
/// When the text is not a query, names an unknown field, or uses a field against its type; and past one of the
/// bounds of this module. The error names the place and, where there is one, the remedy.
pub fn parse(text: &str, now: Timestamp) -> Result<Query, QueryError> {
    parse::filter(text, now).map(Query::new).map_err(|fault| fault.at(text))
}
