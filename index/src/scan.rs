//! A query that reads a part of the dictionary and takes the documents of every term that passes a test.
//!
//! It serves wildcards, regexes, phrases, comparisons of numbers and tests for being there. Each is a test of
//! the whole value as the event has it, so that it means exactly what a test of the event itself would.

use std::{fmt, sync::Arc};

use tantivy::{
    DocId, Score, SegmentReader, TantivyError,
    query::{BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight},
    schema::{Field, IndexRecordOption},
};

use crate::budget::Budget;

/// How many terms are read between two looks at the clock.
const TERMS_PER_LOOK: usize = 1024;

/// What a term's test answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Match,
    No,
    /// Not in what is kept of the value.
    NotInKeptPart,
}

impl From<bool> for Verdict {
    fn from(matches: bool) -> Self {
        if matches { Self::Match } else { Self::No }
    }
}

/// A test of what follows a prefix in a term.
pub(crate) type TermTest = Arc<dyn Fn(&str) -> Verdict + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Scan {
    field: Field,
    /// Terms that begin with one of these are tested; no prefix begins with another one.
    prefixes: Vec<String>,
    test: TermTest,
    budget: Budget,
}

impl Scan {
    pub(crate) fn new(field: Field, prefixes: Vec<String>, budget: &Budget, test: TermTest) -> Self {
        Self { field, prefixes, test, budget: budget.clone() }
    }

    /// Puts the documents of one prefix into `found`.
    fn read(&self, reader: &SegmentReader, prefix: &str, found: &mut Found) -> tantivy::Result<()> {
        let inverted = reader.inverted_index(self.field)?;
        let mut range = inverted.terms().range().ge(prefix);
        if let Some(end) = after(prefix) {
            range = range.lt(end);
        }
        let mut terms = range.into_stream()?;
        let mut left = TERMS_PER_LOOK;
        while terms.advance() {
            left -= 1;
            if left == 0 {
                if self.budget.is_over() {
                    return Ok(());
                }
                left = TERMS_PER_LOOK;
            }
            let Ok(value) = std::str::from_utf8(&terms.key()[prefix.len()..]) else { continue };
            match (self.test)(value) {
                Verdict::No => continue,
                Verdict::NotInKeptPart => {
                    self.budget.saw_cut();
                    continue;
                }
                Verdict::Match => {}
            }
            let mut postings =
                inverted.read_block_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                postings.docs().iter().for_each(|doc| found.insert(*doc));
                postings.advance();
            }
        }
        Ok(())
    }
}

/// Documents that were found, each once.
struct Found {
    set: tantivy::BitSet,
    any: bool,
}

impl Found {
    fn insert(&mut self, doc: DocId) {
        self.set.insert(doc);
        self.any = true;
    }
}

/// The first string behind all that begin with `prefix`.
fn after(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

impl Query for Scan {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Scan {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut found = Found { set: tantivy::BitSet::with_max_value(reader.max_doc()), any: false };
        for prefix in &self.prefixes {
            self.read(reader, prefix, &mut found)?;
        }
        if !found.any {
            return Ok(Box::new(EmptyScorer));
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(found.set), boost)))
    }

    fn explain(&self, _: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        Err(TantivyError::InvalidArgument(format!("document {doc} has no score to explain")))
    }
}
