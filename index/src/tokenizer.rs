//! Hands the terms of an event to tantivy, as the tokenizer of its one text field.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::{terms::READY, walk::Terms};

/// Its name in the schema.
pub(crate) const NAME: &str = "muniment-event";

/// Turns an event's JSON into its terms, and passes on terms that come ready-made (they begin with [`READY`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct EventTokenizer {
    terms: Terms,
    token: Token,
}

impl Tokenizer for EventTokenizer {
    type TokenStream<'a> = EventTokens<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> EventTokens<'a> {
        self.terms.clear();
        if text.starts_with(READY) {
            self.terms.add_ready(text);
        } else {
            self.terms.add_event(text);
        }
        self.token.reset();
        EventTokens { terms: &self.terms, token: &mut self.token, next: 0 }
    }
}

/// See [`EventTokenizer`].
#[derive(Debug)]
pub(crate) struct EventTokens<'a> {
    terms: &'a Terms,
    token: &'a mut Token,
    next: usize,
}

impl TokenStream for EventTokens<'_> {
    fn advance(&mut self) -> bool {
        let Some(term) = self.terms.get(self.next) else { return false };
        self.next += 1;
        self.token.text.clear();
        self.token.text.push_str(term);
        self.token.position = self.token.position.wrapping_add(1);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}
