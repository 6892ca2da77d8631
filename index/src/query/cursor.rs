//! A place in the text of a query, and the words that start there.

use super::{Piece, error::Fault};

pub(super) struct Cursor<'t> {
    text: &'t str,
    pub(super) at: usize,
}

/// The characters of an unquoted word, each with whether a backslash stood before it.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) at: usize,
    symbols: Vec<(char, bool)>,
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `keyword` in any case, when it stands there as a word of its own.
    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let Some((head, tail)) = self.rest().split_at_checked(keyword.len()) else { return false };
        let ends = tail.chars().next().is_none_or(|c| c.is_whitespace() || "()[]{}\"|,!".contains(c));
        let found = ends && head.eq_ignore_ascii_case(keyword);
        if found {
            self.at += keyword.len();
        }
        found
    }

    /// Takes characters up to white space or one that `stops`; a backslash makes any character part of the word.
    pub(super) fn word(&mut self, stops: impl Fn(&str) -> bool) -> Result<Word, Fault> {
        let mut word = Word { at: self.at, symbols: Vec::new() };
        while let Some(c) = self.peek() {
            if c.is_whitespace() || stops(self.rest()) {
                break;
            }
            let at = self.at;
            self.bump();
            let symbol = match (c, self.peek()) {
                ('\\', None) => return Err(Fault::new(at, "expected a character after \"\\\"")),
                ('\\', Some(escaped)) => {
                    self.bump();
                    (escaped, true)
                }
                _ => (c, false),
            };
            word.symbols.push(symbol);
        }
        Ok(word)
    }

    /// Takes a quoted text, of which the first quote is next. `\"` is a quote in it, `\\` a backslash.
    pub(super) fn quoted(&mut self) -> Result<String, Fault> {
        let open = self.at;
        self.bump();
        let mut text = String::new();
        while let Some(c) = self.bump() {
            match (c, self.peek()) {
                ('"', _) => return Ok(text),
                ('\\', Some(escaped @ ('"' | '\\'))) => {
                    self.bump();
                    text.push(escaped);
                }
                _ => text.push(c),
            }
        }
        Err(Fault::new(open, "the quote is never closed"))
    }

    /// Takes `/regex/` or `/regex/i`, if one stands here: without white space, and with nothing after it.
    ///
    /// `/api/v1/pods` is none, so that paths need no quotes.
    pub(super) fn regex(&mut self, ends: impl Fn(Option<char>) -> bool) -> Option<(String, bool)> {
        let body = self.rest().strip_prefix('/')?;
        let mut escaped = false;
        let length = body.find(|c: char| {
            let stop = !escaped && (c == '/' || c.is_whitespace());
            escaped = !escaped && c == '\\';
            stop
        })?;
        let source = &body[..length];
        let tail = body[length..].strip_prefix('/')?;
        let after = tail.strip_prefix('i').filter(|after| ends(after.chars().next()));
        let (ignores_case, after) = after.map_or((false, tail), |after| (true, after));
        if source.is_empty() || !ends(after.chars().next()) {
            return None;
        }
        self.at = self.text.len() - after.len();
        Some((source.to_owned(), ignores_case))
    }
}

impl Word {
    pub(super) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The characters without their backslashes.
    pub(super) fn text(&self) -> String {
        self.symbols.iter().map(|(c, _)| c).collect()
    }

    /// Whether this is `word`, in any case and without backslashes.
    pub(super) fn is(&self, word: &str) -> bool {
        self.symbols.iter().all(|(_, escaped)| !escaped) && self.text().eq_ignore_ascii_case(word)
    }

    pub(super) fn has_wildcards(&self) -> bool {
        self.symbols.iter().any(|symbol| matches!(symbol, ('*' | '?', false)))
    }

    /// The keys of a dotted path; a dot after a backslash is part of its key.
    pub(super) fn keys(&self) -> Vec<String> {
        let split = self.symbols.split(|symbol| *symbol == ('.', false));
        split.map(|key| key.iter().map(|(c, _)| c).collect()).collect()
    }

    /// The word as literals and wildcards.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for symbol in &self.symbols {
            match (symbol, pieces.last_mut()) {
                (('*', false), Some(Piece::Many)) => {}
                (('*', false), _) => pieces.push(Piece::Many),
                (('?', false), _) => pieces.push(Piece::One),
                ((c, _), Some(Piece::Literal(literal))) => literal.push(*c),
                ((c, _), _) => pieces.push(Piece::Literal((*c).into())),
            }
        }
        pieces
    }
}
