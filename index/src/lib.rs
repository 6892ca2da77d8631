//! Search index.
