//! The parts of the index without the indexer around them: what a benchmark needs for a bare loop over tantivy.

use std::path::Path;

use ingest::record::Record;
use tantivy::{IndexBuilder, IndexWriter, tokenizer::TextAnalyzer};

use crate::{
    IndexError,
    document::document,
    schema::{Fields, settings},
    tokenizer::{self, EventTokenizer},
};

/// One tantivy index with this crate's schema, and nothing that keeps days, positions or duplicates.
#[derive(Debug)]
pub struct Bare {
    fields: Fields,
    index: tantivy::Index,
}

impl Bare {
    /// Makes an empty one in the folder `dir`, which is there.
    ///
    /// # Errors
    /// When tantivy cannot write there.
    pub fn create(dir: &Path) -> Result<Self, IndexError> {
        let fields = Fields::new();
        let index =
            IndexBuilder::new().schema(fields.schema.clone()).settings(settings()).create_in_dir(dir)?;
        index.tokenizers().register(tokenizer::NAME, TextAnalyzer::from(EventTokenizer::default()));
        Ok(Self { fields, index })
    }

    /// A writer with so many threads and bytes of memory in all.
    ///
    /// # Errors
    /// When tantivy does not give one.
    pub fn writer(&self, threads: usize, bytes: usize) -> Result<IndexWriter, IndexError> {
        Ok(self.index.writer_with_num_threads(threads, bytes)?)
    }

    /// Adds a record without looking whether it is there.
    ///
    /// # Errors
    /// When the writer has failed.
    pub fn add(&self, writer: &IndexWriter, record: &Record, arrival: u64) -> Result<(), IndexError> {
        writer.add_document(document(&self.fields, record, arrival))?;
        Ok(())
    }
}
