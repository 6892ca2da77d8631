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
    /// Terms that begin with one of these are tested, in this order; no prefix begins with another one.
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

    /// The dictionary is read only as long as `guard` holds for a document that was not found yet, and a value of
    /// which only a part is kept is only of interest in such a document.
    pub(crate) fn guarded(self, guard: Arc<dyn Query>) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Puts the documents of one prefix into `found`.
    fn read(&self, reader: &SegmentReader, prefix: &str, found: &mut Found) -> tantivy::Result<()> {
        let inverted = reader.inverted_index(self.field)?;
        // An end would be compared with every byte that the stream walks over: a fifth of its time.
        let mut terms = inverted.terms().range().ge(prefix).into_stream()?;
        let mut left = TERMS_PER_LOOK;
        while terms.advance() {
            let Some(value) = terms.key().strip_prefix(prefix.as_bytes()) else { break };
            left -= 1;
            if left == 0 {
                if self.budget.is_over() {
                    return Ok(());
                }
                left = TERMS_PER_LOOK;
            }
            let Ok(value) = std::str::from_utf8(value) else { continue };
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

    /// Whether the guard holds for a document that is not in `found`; without a guard, always.
    fn is_wanting(&self, reader: &SegmentReader, found: Option<&BitSet>) -> tantivy::Result<bool> {
        let Some(mut guard) = self.guard(reader)? else { return Ok(true) };
        while guard.doc() != TERMINATED && found.is_some_and(|found| found.contains(guard.doc())) {
            guard.advance();
        }
        Ok(guard.doc() != TERMINATED)
    }

    /// Notes documents that might match.
    fn doubt(&self, reader: &SegmentReader, Found { sure, doubtful }: &Found) -> tantivy::Result<()> {
        let Some(doubtful) = doubtful else { return Ok(()) };
        let Some(mut guard) = self.guard(reader)? else {
            self.scan.budget.saw_cut();
            return Ok(());
        };
        while guard.doc() != TERMINATED {
            let is_sure = sure.as_ref().is_some_and(|sure| sure.contains(guard.doc()));
            if doubtful.contains(guard.doc()) && !is_sure {
                self.scan.budget.saw_cut();
                break;
            }
            guard.advance();
        }
        Ok(())
    }
}

impl Weight for ScanWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut found = Found::default();
        for prefix in &self.scan.prefixes {
            if !self.is_wanting(reader, found.sure.as_ref())? {
                break;
            }
            self.scan.read(reader, prefix, &mut found)?;
        }
        self.doubt(reader, &found)?;
        Ok(match found.sure {
            Some(sure) => Box::new(ConstScorer::new(BitSetDocSet::from(sure), boost)),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, _: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        Err(TantivyError::InvalidArgument(format!("document {doc} has no score to explain")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tantivy::{
        Index, TantivyDocument, Term,
        collector::Count,
        query::TermQuery,
        schema::{STRING, Schema},
    };

    use super::*;

    #[test]
    fn places_are_read_until_every_document_of_the_guard_is_found() {
        let mut schema = Schema::builder();
        let terms = schema.add_text_field("terms", STRING);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
        for values in [["word", "a:yes", "b:yes"], ["word", "a:no", "b:yes"], ["other", "a:no", "c:yes"]] {
            let mut doc = TantivyDocument::new();
            values.iter().for_each(|value| doc.add_text(terms, value));
            writer.add_document(doc).unwrap();
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        let budget = Budget::new(std::time::Duration::from_secs(60));
        for (guard, found, tested) in [("word", 2, 3), ("other", 1, 4), ("none", 0, 0)] {
            let count = Arc::new(AtomicUsize::new(0));
            let counter = count.clone();
            let test = move |value: &str| {
                counter.fetch_add(1, Ordering::Relaxed);
                Verdict::from(value == "yes")
            };
            let guard = TermQuery::new(Term::from_field_text(terms, guard), IndexRecordOption::Basic);
            let places = ["a:", "b:", "c:"].map(str::to_owned).to_vec();
            let scan = Scan::new(terms, places, &budget, Arc::new(test)).guarded(Arc::new(guard.clone()));
            let both = tantivy::query::BooleanQuery::intersection(vec![Box::new(guard), Box::new(scan)]);
            assert_eq!(searcher.search(&both, &Count).unwrap(), found);
            assert_eq!(count.load(Ordering::Relaxed), tested);
        }
    }
}
