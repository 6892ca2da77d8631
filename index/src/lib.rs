//! Search index.

pub mod query;
