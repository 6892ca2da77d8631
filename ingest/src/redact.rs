//! Removes secrets from events before anything touches a disk, and leaves every other byte as it was.
//!
//! Two kinds of rules (see [`RuleSet`]): *body rules* name kinds whose objects hold secrets, and say which members are
//! kept; *text rules* name what a secret looks like wherever it stands. A removed value becomes
//! `{"$redacted":{"rule":…,"len":…,"hmac":…}}`; within a longer text, and where readers of audit events expect a text,
//! `$redacted(rule=…,len=…,hmac=…)`. `len` and `hmac` are of the decoded value, so that equal secrets can be found to
//! be equal, under a key that only this deployment holds.
//!
//! Most events hold no word that a rule needs: they are found by one pass over their bytes and borrowed. An event with
//! escapes that could hide such a word is read in full.

mod body;
mod event;
mod marker;
mod rules;
mod text;
mod walk;

use std::{borrow::Cow, sync::Arc};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use marker::Marks;
pub use rules::{BodyRule, RuleSet, RulesError, TextRule};
use text::Texts;
use walk::Walk;

use crate::{event::EventView, identity::DeploymentKey};

/// An event without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// Its bytes; borrowed when nothing was removed.
    pub bytes: Cow<'a, [u8]>,
    /// How many values were removed.
    pub count: u32,
}

/// Applies a rule set under a deployment's key.
///
/// Redacting what was redacted by the same rules changes nothing.
#[derive(Debug)]
pub struct Redactor {
    hash: Arc<str>,
    bodies: Vec<BodyRule>,
    texts: Texts,
    /// Every word without which no rule can apply.
    words: AhoCorasick,
    marks: Marks,
}

impl Redactor {
    /// A redactor for this deployment.
    pub fn new(rules: &RuleSet, key: &DeploymentKey) -> Self {
        let texts = Texts::new(rules.texts());
        let kinds = rules.bodies().iter().map(|b| b.kind.as_str()).filter(|k| !k.is_empty());
        let words: Vec<&str> =
            kinds.chain(rules.texts().iter().flat_map(|t| t.words.iter().map(String::as_str))).collect();
        Self {
            hash: rules.hash().into(),
            bodies: rules.bodies().to_vec(),
            marks: Marks::new(key, rules.names()),
            // Of this kind of automaton the library skips with vector instructions to where a word may begin.
            words: automaton(&words, MatchKind::LeftmostFirst),
            texts,
        }
    }

    /// SHA-256 of the rule set's canonical form, lower-case hex.
    pub const fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// Removes what the rules name.
    pub fn redact<'a>(&self, event: &EventView<'a>) -> Redacted<'a> {
        let raw = event.json().raw();
        let rule = self.rule_of(event);
        if rule.is_none() && !self.suspects(raw) {
            return Redacted { bytes: Cow::Borrowed(raw.as_bytes()), count: 0 };
        }
        let mut walk = Walk::new(self, raw);
        walk.event(event, rule);
        let (bytes, count) = walk.finish();
        Redacted { bytes, count }
    }

    /// Removes what the text rules name from a text of our own, such as a query that is about to be recorded.
    pub fn redact_text<'a>(&self, text: &'a str) -> (Cow<'a, str>, u32) {
        let found = self.texts.find(text, &self.marks);
        if found.is_empty() {
            return (Cow::Borrowed(text), 0);
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for secret in &found {
            out.push_str(&text[at..secret.start]);
            out.push_str(&self.marks.text(secret.rule, &secret.value));
            at = secret.end;
        }
        out.push_str(&text[at..]);
        (Cow::Owned(out), found.len() as u32)
    }

    /// True when the raw text may hold something that a rule names.
    fn suspects(&self, raw: &str) -> bool {
        self.words.is_match(raw) || hides_words(raw.as_bytes())
    }
}

/// An automaton over words of no particular order; only whether and where they occur matters.
fn automaton(words: &[&str], kind: MatchKind) -> AhoCorasick {
    match AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).match_kind(kind).build(words) {
        Ok(automaton) => automaton,
        // Words are bounded in number and length by the rules' validation; without an automaton nothing is safe.
        Err(error) => unreachable!("the words of validated rules fit an automaton: {error}"),
    }
}

/// True when an escape stands for a printable ASCII character that Go does not escape: a word may hide behind it.
fn hides_words(raw: &[u8]) -> bool {
    let mut at = 0;
    while let Some(slash) = memchr::memchr(b'\\', &raw[at..]).map(|n| at + n) {
        match raw.get(slash + 1) {
            Some(b'/') => return true,
            Some(b'u') if stands_for_plain_ascii(&raw[slash + 2..]) => return true,
            _ => {}
        }
        // By one byte, not two: within an embedded text the escape of an escape hides words as well.
        at = slash + 1;
    }
    false
}

fn stands_for_plain_ascii(digits: &[u8]) -> bool {
    let Some([b'0', b'0', high, low]) = digits.first_chunk::<4>() else { return false };
    let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16)) else {
        return false;
    };
    !matches!(high << 4 | low, 0..0x20 | 0x26 | 0x3c | 0x3e | 0x7f..)
}

#[cfg(test)]
mod tests;
