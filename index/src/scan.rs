//! A query that reads a part of the dictionary and takes the documents of every term that passes a test.
//!
//! It serves wildcards, regexes, phrases, comparisons of numbers and tests for being there. Each is a test of
//! the whole value as the event has it, so that it means exactly what a test of the event itself would.

use std::{fmt, sync::Arc};

use tantivy::{
    BitSet, DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError,
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
    /// What else holds for every document that is wanted.
    guard: Option<Arc<dyn Query>>,
}

impl Scan {
    pub(crate) fn new(field: Field, prefixes: Vec<String>, budget: &Budget, test: TermTest) -> Self {
        Self { field, prefixes, test, budget: budget.clone(), guard: None }
    }

    /// Where `guard` holds for no document the dictionary is not read, and a value of which only a part is kept
    /// is only of interest in a document for which it holds.
    pub(crate) fn guarded(self, guard: Arc<dyn Query>) -> Self {
        Self { guard: Some(guard), ..self }
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
            let set = match (self.test)(value) {
                Verdict::No => continue,
                Verdict::NotInKeptPart => &mut found.doubtful,
                Verdict::Match => &mut found.sure,
            };
            let set = set.get_or_insert_with(|| BitSet::with_max_value(reader.max_doc()));
            let mut postings =
                inverted.read_block_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                for doc in postings.docs() {
                    set.insert(*doc);
                }
                postings.advance();
            }
        }
        Ok(())
    }
}

/// Documents that were found, each once.
#[derive(Default)]
struct Found {
    sure: Option<BitSet>,
    /// The part of the value that is kept does not match.
    doubtful: Option<BitSet>,
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
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let guard = self.guard.as_ref().map(|guard| guard.weight(scoring)).transpose()?;
        Ok(Box::new(ScanWeight { scan: self.clone(), guard }))
    }
}

struct ScanWeight {
    scan: Scan,
    guard: Option<Box<dyn Weight>>,
}

impl ScanWeight {
    fn guard(&self, reader: &SegmentReader) -> tantivy::Result<Option<Box<dyn Scorer>>> {
        self.guard.as_ref().map(|guard| guard.scorer(reader, 1.0)).transpose()
    }

    /// Notes documents that might match.
    fn doubt(&self, reader: &SegmentReader, doubtful: BitSet) -> tantivy::Result<()> {
        let mut doubtful = BitSetDocSet::from(doubtful);
        let Some(mut guard) = self.guard(reader)? else {
            self.scan.budget.saw_cut();
            return Ok(());
        };
        while doubtful.doc() != TERMINATED {
            if guard.doc() < doubtful.doc() {
                guard.seek(doubtful.doc());
            }
            if guard.doc() == doubtful.doc() {
                self.scan.budget.saw_cut();
                break;
            }
            doubtful.advance();
        }
        Ok(())
    }
}

impl Weight for ScanWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        if self.guard(reader)?.is_some_and(|guard| guard.doc() == TERMINATED) {
            return Ok(Box::new(EmptyScorer));
        }
        let mut found = Found::default();
        for prefix in &self.scan.prefixes {
            self.scan.read(reader, prefix, &mut found)?;
        }
        if let Some(doubtful) = found.doubtful {
            self.doubt(reader, doubtful)?;
        }
        Ok(match found.sure {
            Some(sure) => Box::new(ConstScorer::new(BitSetDocSet::from(sure), boost)),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, _: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        Err(TantivyError::InvalidArgument(format!("document {doc} has no score to explain")))
    }
}
