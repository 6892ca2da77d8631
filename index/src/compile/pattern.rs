//! Tests of whole values and of rows of words, by the same code that a test of the event itself would use.

use super::CompileError;
use crate::{
    query::{Case, Pattern, Piece, wildcard},
    scan::Verdict,
    terms,
};

/// A wildcard or regex.
pub(super) struct Tester {
    regex: regex::Regex,
    /// Whether anything may follow what matches.
    is_open: bool,
}

impl Tester {
    pub(super) fn new(pattern: &Pattern, case: Case) -> Result<Self, CompileError> {
        let (regex, is_open) = match pattern {
            Pattern::Regex(regex) => (regex.compile(), false),
            Pattern::Wildcard(pieces) => (wildcard(pieces, case), pieces.last() == Some(&Piece::Many)),
            Pattern::Word(text) | Pattern::Phrase { text, .. } => {
                (wildcard(&[Piece::Literal(text.clone())], case), false)
            }
        };
        let regex = regex.map_err(|fault| CompileError::Regex(fault.to_string()))?;
        Ok(Self { regex, is_open })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Tests a value of which only the beginning is kept.
    pub(super) fn verdict_on_beginning(&self, text: &str) -> Verdict {
        match self.regex.find(text) {
            // What a match depends on ends one character behind it.
            Some(found) if self.is_open || found.end() < text.len() => Verdict::Match,
            _ => Verdict::NotInKeptPart,
        }
    }
}

/// Words that must stand in a row.
pub(super) struct Words {
    row: Vec<String>,
    /// Finds the longest word, or what contains it: most values are done with after this.
    longest: Option<regex::Regex>,
}

impl Words {
    /// The words of `text`, unless there are none.
    pub(super) fn new(text: &str) -> Option<Self> {
        let row: Vec<String> = terms::words(text).map(std::borrow::Cow::into_owned).collect();
        let longest = row.iter().max_by_key(|word| word.len())?;
        // Of other words lower case and the regex's notion of case may differ.
        let longest = if longest.is_ascii() {
            regex::RegexBuilder::new(longest).case_insensitive(true).build().ok()
        } else {
            None
        };
        Some(Self { row, longest })
    }

    pub(super) fn len(&self) -> usize {
        self.row.len()
    }

    pub(super) fn distinct(&self) -> impl Iterator<Item = &str> {
        let earlier = |i: usize| self.row[..i].contains(&self.row[i]);
        (0..self.row.len()).filter(move |i| !earlier(*i)).map(|i| self.row[i].as_str())
    }

    /// Whether the words stand in `text` in this order, with at most `slop` other words between them in all.
    pub(super) fn stand_in(&self, text: &str, slop: u32) -> bool {
        if self.longest.as_ref().is_some_and(|longest| !longest.is_match(text)) {
            return false;
        }
        // One pass over the text; for each word of the row the fewest words that were skipped to get there.
        let mut skipped: Vec<Option<u32>> = vec![None; self.row.len()];
        for word in terms::words(text) {
            let mut next = vec![None; self.row.len()];
            for i in 0..self.row.len() {
                // Reaching word i here, from word i - 1 at some place before.
                let reached =
                    if *word == *self.row[i] { if i == 0 { Some(0) } else { skipped[i - 1] } } else { None };
                if reached.is_some() && i + 1 == self.row.len() {
                    return true;
                }
                next[i] = reached;
            }
            for (i, slot) in skipped.iter_mut().enumerate() {
                // A place that was reached before ages by one skipped word.
                let aged = slot.map(|n| n + 1).filter(|n| *n <= slop);
                *slot = match (next[i], aged) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        false
    }
}
