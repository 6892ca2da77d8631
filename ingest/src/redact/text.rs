//! Finding secrets by what they look like.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use regex::Regex;

use super::{automaton, marker::Marks, rules::TextRule};

/// Base64 as it is found: with or without padding, whatever its last bits.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Decodes a run of base64 characters of either alphabet, in one line or several, of which the last ones may be something else.
fn decode_run(text: &str) -> Option<Vec<u8>> {
    let mut text = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    text.retain(|c| !c.is_ascii_whitespace());
    let whole = text.len() - usize::from(text.len() % 4 == 1);
    GeneralPurpose::new(&STANDARD, LENIENT).decode(&text[..whole]).ok()
}

/// Decodes standard or URL-safe base64.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let standard = GeneralPurpose::new(&STANDARD, LENIENT).decode(text);
    standard.or_else(|_| GeneralPurpose::new(&URL_SAFE, LENIENT).decode(text)).ok()
}

/// A secret within a text.
#[derive(Debug)]
pub(super) struct Secret<'r> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) rule: &'r str,
    /// The decoded value.
    pub(super) value: Vec<u8>,
}

/// The compiled text rules.
#[derive(Debug)]
pub(super) struct Texts {
    rules: Vec<Compiled>,
    words: AhoCorasick,
    /// Which rule each word of the automaton belongs to.
    owner: Vec<usize>,
}

#[derive(Debug)]
struct Compiled {
    name: String,
    regex: Regex,
    encoded: bool,
    token: bool,
}

impl Texts {
    pub(super) fn new(rules: &[TextRule]) -> Self {
        let words: Vec<&str> = rules.iter().flat_map(|r| r.words.iter().map(String::as_str)).collect();
        let owner =
            rules.iter().enumerate().flat_map(|(n, r)| std::iter::repeat_n(n, r.words.len())).collect();
        Self {
            words: automaton(&words, MatchKind::Standard),
            owner,
            rules: rules.iter().map(compile).collect(),
        }
    }

    /// The name of the first rule.
    pub(super) fn first_name(&self) -> &str {
        self.rules.first().map_or("text", |rule| &rule.name)
    }

    /// The secrets within a decoded text, in order, none overlapping another; markers are left alone.
    pub(super) fn find(&self, text: &str, marks: &Marks) -> Vec<Secret<'_>> {
        let found = self.find_plain(text);
        if found.is_empty() {
            return found;
        }
        let kept = marks.spans(text);
        found.into_iter().flat_map(|secret| around(text, secret, &kept)).collect()
    }

    fn find_plain(&self, text: &str) -> Vec<Secret<'_>> {
        let mut applies = vec![false; self.rules.len()];
        for word in self.words.find_overlapping_iter(text) {
            applies[self.owner[word.pattern().as_usize()]] = true;
        }
        let mut found = Vec::new();
        for rule in applies.iter().zip(&self.rules).filter(|(applies, _)| **applies).map(|(_, rule)| rule) {
            found.extend(rule.regex.captures_iter(text).filter_map(|captures| self.secret(rule, &captures)));
        }
        found.sort_by_key(|s: &Secret<'_>| (s.start, usize::MAX - s.end));
        merge(text, found)
    }

    fn secret<'r>(&'r self, rule: &'r Compiled, captures: &regex::Captures<'_>) -> Option<Secret<'r>> {
        let span = captures.name("secret").or_else(|| captures.get(0))?;
        let (start, end, text) = (span.start(), span.end(), span.as_str());
        if text.is_empty() || rule.token && !looks_like_a_token(text) {
            return None;
        }
        if !rule.encoded {
            return Some(Secret { start, end, rule: &rule.name, value: text.as_bytes().to_vec() });
        }
        // What was encoded may begin after other characters of the alphabet, such as a path's.
        (0..4.min(text.len())).find_map(|skipped| {
            let value = decode_run(text.get(skipped..)?)?;
            let inner = self.find_once(&String::from_utf8_lossy(&value))?;
            Some(Secret { start: start + skipped, end, rule: inner, value })
        })
    }

    /// The rule of the first secret in a text that was decoded, in which no further encoding is looked for.
    fn find_once(&self, text: &str) -> Option<&str> {
        self.rules.iter().filter(|r| !r.encoded && r.regex.is_match(text)).map(|r| r.name.as_str()).next()
    }
}

/// What of a secret lies outside the markers. Markers can be forged: one within a secret must not shield the rest of it.
fn around<'r>(text: &str, secret: Secret<'r>, marks: &[(usize, usize)]) -> Vec<Secret<'r>> {
    let inside: Vec<_> =
        marks.iter().filter(|(start, end)| *start < secret.end && secret.start < *end).collect();
    if inside.is_empty() {
        return vec![secret];
    }
    let starts = std::iter::once(secret.start).chain(inside.iter().map(|mark| mark.1));
    let ends = inside.iter().map(|mark| mark.0).chain(std::iter::once(secret.end));
    starts
        .zip(ends)
        .filter(|(start, end)| start < end)
        .map(|(start, end)| Secret {
            start,
            end,
            rule: secret.rule,
            value: text.as_bytes()[start..end].to_vec(),
        })
        .collect()
}

/// Secrets that overlap become one, under the rule of the first: dropping either would leave a part of it.
fn merge<'r>(text: &str, found: Vec<Secret<'r>>) -> Vec<Secret<'r>> {
    let mut merged: Vec<Secret<'r>> = Vec::with_capacity(found.len());
    for secret in found {
        match merged.last_mut() {
            Some(last) if secret.start < last.end => {
                if secret.end > last.end {
                    last.end = secret.end;
                    last.value = text.as_bytes()[last.start..last.end].to_vec();
                }
            }
            _ => merged.push(secret),
        }
    }
    merged
}

fn compile(rule: &TextRule) -> Compiled {
    match Regex::new(&rule.pattern) {
        Ok(regex) => Compiled { name: rule.name.clone(), regex, encoded: rule.base64, token: rule.token },
        Err(error) => unreachable!("the patterns of validated rules compile: {error}"),
    }
}

/// Tells a token from a word of prose: it has a digit, or both cases, or is long.
fn looks_like_a_token(text: &str) -> bool {
    /// No English word that follows "bearer" in a message is this long.
    const LONG: usize = 24;
    let has = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    has(u8::is_ascii_digit)
        || has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
        || text.len() >= LONG
}
