//! Replacing parts of a text while every other byte stays as it is, through a JSON string's escapes as well.

/// One replacement: the bytes `start..end` of a text become `with`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) with: Vec<u8>,
}

/// The text with its splices, which are in order and do not overlap.
pub(crate) fn apply(text: &str, splices: &[Splice]) -> Vec<u8> {
    debug_assert!(splices.windows(2).all(|w| w[0].end <= w[1].start), "splices are in order");
    let grown: usize = splices.iter().map(|s| s.with.len()).sum();
    let mut out = Vec::with_capacity(text.len() + grown);
    let mut at = 0;
    for splice in splices {
        out.extend_from_slice(&text.as_bytes()[at..splice.start]);
        out.extend_from_slice(&splice.with);
        at = splice.end;
    }
    out.extend_from_slice(&text.as_bytes()[at..]);
    out
}

/// Turns places within a decoded JSON string into places within its raw inside; ask in ascending order.
#[derive(Debug)]
pub(crate) struct RawPlaces<'a> {
    raw: &'a [u8],
    at: usize,
    decoded: usize,
}

impl<'a> RawPlaces<'a> {
    /// `raw` is the inside of a valid JSON string, without its quotes.
    pub(crate) const fn new(raw: &'a str) -> Self {
        Self { raw: raw.as_bytes(), at: 0, decoded: 0 }
    }

    /// Where the decoded byte `place` stands in the raw text.
    pub(crate) fn find(&mut self, place: usize) -> usize {
        while self.decoded < place && self.at < self.raw.len() {
            let (raw, decoded) = unit(&self.raw[self.at..]);
            self.at += raw;
            self.decoded += decoded;
        }
        self.at
    }
}

/// How long the next character is: raw, and decoded.
fn unit(raw: &[u8]) -> (usize, usize) {
    match raw {
        [b'\\', b'u', digits @ ..] => {
            let digits = digits.first_chunk::<4>().and_then(|d| std::str::from_utf8(d).ok());
            match digits.and_then(|d| u32::from_str_radix(d, 16).ok()).unwrap_or(0) {
                0..0x80 => (6, 1),
                0x80..0x800 => (6, 2),
                0xd800..0xe000 => (12, 4),
                _ => (6, 3),
            }
        }
        [b'\\', ..] => (2, 1),
        _ => (1, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Json;

    proptest! {
        #[test]
        fn places_agree_with_the_decoder(text in "[a-c\"\\\\\n&é€😀]{0,20}", escaped: bool) {
            let raw: String = if escaped {
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
            } else {
                let quoted = serde_json::to_string(&text).unwrap();
                quoted[1..quoted.len() - 1].to_owned()
            };
            let mut places = RawPlaces::new(&raw);
            for (place, _) in text.char_indices().chain([(text.len(), 'x')]) {
                let head = format!("\"{}\"", &raw[..places.find(place)]);
                prop_assert_eq!(Json::parse(head.as_bytes()).unwrap().as_str().unwrap(), &text[..place]);
            }
        }
    }
}
