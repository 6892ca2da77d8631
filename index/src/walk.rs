//! Walks through an event's JSON and writes its terms.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::terms::{self, END, FREE_TEXT, SEP, Stored, TEXT_PATHS};

/// Terms of one document, one after another in one piece of memory that is used again for the next document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    text: String,
    ends: Vec<usize>,
    place: String,
}

impl Terms {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.place.clear();
    }

    /// The term number `i`.
    pub(crate) fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        self.text.get(start..end)
    }

    fn push(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.text.push_str(part));
        self.ends.push(self.text.len());
    }

    /// Adds terms that are ready, separated by [`terms::READY`].
    pub(crate) fn add_ready(&mut self, ready: &str) {
        ready.split(terms::READY).filter(|term| !term.is_empty()).for_each(|term| self.push(&[term]));
    }

    /// Adds every term of an event. What follows a fault in the JSON is left out: intake let none pass.
    pub(crate) fn add_event(&mut self, json: &str) {
        let mut reader = serde_json::Deserializer::from_str(json);
        let walked = Place { terms: self, depth: 0, free: false }.deserialize(&mut reader);
        if let Err(fault) = walked {
            tracing::debug!(%fault, "an event is indexed up to a fault in its JSON");
        }
    }

    fn add_string(&mut self, text: &str, free: bool) {
        let text = terms::clean(text);
        let mut place = std::mem::take(&mut self.place);
        let is_text = TEXT_PATHS.contains(&place.as_str());
        if place == "requestURI" {
            self.add_uri(&text);
        }
        let length = place.len();
        place.push(END);
        // The reason is an annotation too, and annotations are keywords.
        let whole_only = is_text && !place.starts_with("annotations");
        terms::string(&place, &text, whole_only, |parts| self.push(parts));
        if is_text || free {
            for word in terms::words(&text) {
                if is_text {
                    self.push(&[&place, "\x03", &word]);
                }
                if free {
                    self.push(&["\x03", &word]);
                }
            }
        }
        place.truncate(length);
        self.place = place;
    }

    fn add_uri(&mut self, uri: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        terms::string("\x0epath\0", path, false, |parts| self.push(parts));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = format!("\x0eparam\x1f{}\0", terms::clean(&decoded(key)));
            terms::string(&place, &terms::clean(&decoded(value)), false, |parts| self.push(parts));
        }
    }

    fn add_number(&mut self, n: Stored, free: bool) {
        let term = terms::number(n);
        let place = std::mem::take(&mut self.place);
        self.push(&[&place, "\0", &term]);
        self.place = place;
        if let (true, Stored::Int(i)) = (free, n) {
            self.push(&["\x03", &i.unsigned_abs().to_string()]);
        }
    }

    fn add_mark(&mut self, mark: &str) {
        let place = std::mem::take(&mut self.place);
        self.push(&[&place, "\0", mark]);
        self.place = place;
    }
}

/// A form-encoded name or value, decoded; as it is where it does not decode.
pub(crate) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = || u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok();
        let (decoded, after) = match byte {
            b'%' => hex().map_or((b'%', after), |byte| (byte, &after[2..])),
            b'+' => (b' ', after),
            other => (*other, after),
        };
        out.push(decoded);
        rest = after;
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The value at the place that `terms` stands at.
struct Place<'t> {
    terms: &'t mut Terms,
    depth: usize,
    /// Whether this is part of the free text.
    free: bool,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.terms.add_string(text, self.free);
        Ok(())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.terms.add_mark(if truth { "\x07t" } else { "\x07f" });
        if self.free {
            self.terms.push(&["\x03", if truth { "true" } else { "false" }]);
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.terms.add_number(Stored::Int(n.into()), self.free);
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.terms.add_number(Stored::Int(n.into()), self.free);
        Ok(())
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<(), E> {
        self.terms.add_number(Stored::Float(n), self.free);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.terms.add_mark("\x08");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { terms, depth, free } = self;
        let mut empty = true;
        while seq.next_element_seed(Place { terms, depth, free })?.is_some() {
            empty = false;
        }
        if empty {
            terms.add_mark("\x0b");
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { terms, depth, free } = self;
        let length = terms.place.len();
        let mut empty = true;
        while map.next_key_seed(Key { terms, depth })?.is_some() {
            empty = false;
            if is_left_out(&terms.place) {
                map.next_value::<serde::de::IgnoredAny>()?;
            } else {
                let free = free || depth < 2 && FREE_TEXT.contains(&terms.place.as_str());
                map.next_value_seed(Place { terms, depth: depth + 1, free })?;
            }
            terms.place.truncate(length);
        }
        if empty && depth > 0 {
            terms.add_mark("\x0b");
        }
        Ok(())
    }
}

/// Times that have fields of their own.
fn is_left_out(place: &str) -> bool {
    matches!(place, "requestReceivedTimestamp" | "stageTimestamp")
}

/// A key: appended to the place.
struct Key<'t> {
    terms: &'t mut Terms,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.depth > 0 {
            self.terms.place.push(SEP);
        }
        self.terms.place.push_str(&terms::clean(key));
        Ok(())
    }
}
