//! The search index: derived from the log and the ledger, made anew at will.
//!
//! Records come in by [`Indexer`] and are found through [`Index`]; what they are asked is a [`query::Query`].
//! Every UTC day has a folder of its own. The events' bytes stay in the ledger: a hit is an id.

pub mod bare;
mod budget;
mod compile;
mod cursor;
mod day;
mod days;
mod document;
mod error;
mod folder;
mod gaps;
mod generation;
mod histogram;
mod index;
mod indexer;
mod lacking;
pub mod metrics;
pub mod query;
mod rebuild;
mod scan;
mod schema;
mod search;
mod segment;
mod slots;
mod standing;
mod tail;
mod terms;
mod tokenizer;
mod walk;
mod writer;

pub use budget::Partial;
pub use compile::CompileError;
pub use cursor::{Cursor, CursorError};
pub use error::IndexError;
pub use histogram::{Histogram, HistogramRequest, MAX_BUCKETS};
pub use index::{Commit, Index, IndexOptions};
pub use indexer::Indexer;
pub use lacking::Lacking;
pub use rebuild::Progress;
pub use schema::VERSION;
pub use search::{ALL_TIME, Hit, MAX_LIMIT, Page, QUERY_TIME, SearchError, SearchRequest};
pub use standing::Standing;
pub use tail::{TailPage, TailToken};
pub use writer::WriterOptions;
