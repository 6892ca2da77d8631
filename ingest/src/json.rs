//! JSON as it was received: strict validation and a walk over borrowed slices, without building a tree.
//!
//! Audit events are kept byte for byte, so nothing here copies or normalises. A [`Json`] is a slice that was
//! validated once; its members and elements are slices of it.

mod scan;

use std::borrow::Cow;

pub use scan::{Flaw, JsonError, MAX_DEPTH};
pub(crate) use scan::{Scanner, skip_space, string_stop, utf8};

/// One valid JSON value, without space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

impl<'a> Json<'a> {
    /// Validates `bytes` as exactly one JSON value in UTF-8.
    ///
    /// Stricter than RFC 8259 where a later reader would fail: surrogates must pair, numbers must fit a double,
    /// and nesting ends at [`MAX_DEPTH`].
    ///
    /// # Errors
    /// With the place of the first flaw.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_text(utf8(bytes)?)
    }

    /// Like [`Json::parse`], for text.
    ///
    /// # Errors
    /// With the place of the first flaw.
    pub fn parse_text(text: &'a str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(text.as_bytes());
        let start = skip_space(text.as_bytes(), 0);
        let end = scanner.document()?;
        Ok(Self(&text[start..end]))
    }

    /// A slice that a [`Scanner`] has validated.
    pub(crate) const fn validated(raw: &'a str) -> Self {
        Self(raw)
    }

    /// The bytes as received.
    pub const fn raw(self) -> &'a str {
        self.0
    }

    /// What the value is.
    pub fn kind(self) -> JsonKind {
        match self.0.as_bytes().first() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::String,
            _ => JsonKind::Scalar,
        }
    }

    /// True for `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The decoded text of a string; nothing for other values.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(decode(inner))
    }

    /// The number, where it is a whole one.
    pub fn as_i64(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The members of an object, in order, duplicates included; nothing for other values.
    pub fn members(self) -> Members<'a> {
        Members { raw: self.0, at: if self.kind() == JsonKind::Object { 1 } else { self.0.len() } }
    }

    /// The last member with this name.
    pub fn get(self, name: &str) -> Option<Self> {
        self.members().filter(|m| m.is(name)).last().map(|m| m.value)
    }

    /// The elements of an array, in order; nothing for other values.
    pub fn elements(self) -> Elements<'a> {
        Elements { raw: self.0, at: if self.kind() == JsonKind::Array { 1 } else { self.0.len() } }
    }
}

/// Decodes the inside of a valid JSON string.
fn decode(inner: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    // The slice was validated, surrogates included, so this cannot fail; the raw text is the safe answer if it did.
    serde_json::from_str(&format!("\"{inner}\"")).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// One member of an object.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name as received, quotes and escapes included.
    pub key: Json<'a>,
    /// The value.
    pub value: Json<'a>,
}

impl<'a> Member<'a> {
    /// The decoded name.
    pub fn name(&self) -> Cow<'a, str> {
        self.key.as_str().unwrap_or_default()
    }

    /// True when the decoded name is `name`.
    pub fn is(&self, name: &str) -> bool {
        let inner = &self.key.0[1..self.key.0.len() - 1];
        inner == name || (inner.contains('\\') && decode(inner) == name)
    }
}

/// See [`Json::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    raw: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let bytes = self.raw.as_bytes();
        let start = next_item(bytes, self.at)?;
        let end = scan::end_of(bytes, start);
        let key = Json(&self.raw[start..end]);
        let colon = skip_space(bytes, end);
        let start = skip_space(bytes, colon + 1);
        self.at = scan::end_of(bytes, start);
        Some(Member { key, value: Json(&self.raw[start..self.at]) })
    }
}

/// See [`Json::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    raw: &'a str,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        let start = next_item(self.raw.as_bytes(), self.at)?;
        self.at = scan::end_of(self.raw.as_bytes(), start);
        Some(Json(&self.raw[start..self.at]))
    }
}

/// Where the next member or element of a valid container begins, past a comma; nothing at its end.
fn next_item(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = skip_space(bytes, at);
    if bytes.get(at) == Some(&b',') {
        at = skip_space(bytes, at + 1);
    }
    match bytes.get(at) {
        None | Some(b'}' | b']') => None,
        Some(_) => Some(at),
    }
}

/// Appends `text` to `out` as the inside of a JSON string, without quotes.
pub(crate) fn escape_into(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any JSON value of serde_json's, a few levels deep.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn rebuild(json: Json<'_>) -> serde_json::Value {
        match json.kind() {
            JsonKind::Object => json
                .members()
                .map(|m| (m.name().into_owned(), rebuild(m.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            JsonKind::Array => json.elements().map(rebuild).collect::<Vec<_>>().into(),
            JsonKind::String => json.as_str().unwrap().into_owned().into(),
            JsonKind::Scalar => serde_json::from_str(json.raw()).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn a_walk_sees_what_a_tree_holds(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            // Compared with another reader of the same text: serde_json's floats do not survive a round trip to the last bit.
            let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(rebuild(Json::parse(text.as_bytes()).unwrap()), tree);
        }

        #[test]
        fn what_is_accepted_parses_elsewhere(bytes in prop::collection::vec(prop::sample::select(
            &b"{}[]\",:\\/u0aFdD8e+-.1nulltrfse \n\xc3\xa9"[..]), 0..24)) {
            let ours = Json::parse(&bytes).is_ok();
            prop_assert_eq!(ours, serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "{:?}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn an_escaped_text_reads_back(text: String) {
            let mut out = vec![b'"'];
            escape_into(&text, &mut out);
            out.push(b'"');
            prop_assert_eq!(Json::parse(&out).unwrap().as_str().unwrap(), text);
        }
    }

    #[test]
    fn flaws_are_named_with_their_place() {
        for (text, at, flaw) in [
            (&b"{\"a\":}"[..], 5, Flaw::ExpectedValue),
            (b"{\"a\":1 2}", 7, Flaw::ExpectedCommaOrEnd),
            (b"[1,]", 3, Flaw::ExpectedValue),
            (b"{\"a\" 1}", 5, Flaw::ExpectedColon),
            (b"{1:2}", 1, Flaw::ExpectedName),
            (b"\"a\nb\"", 2, Flaw::ControlCharacter),
            (b"\"\\ud800\"", 1, Flaw::Escape),
            (b"01", 1, Flaw::TrailingBytes),
            (b"1e999", 0, Flaw::Number),
            (b"\"abc", 4, Flaw::UnexpectedEnd),
            (b"\"a\xff\"", 2, Flaw::Utf8),
        ] {
            let error = Json::parse(text).unwrap_err();
            assert_eq!((error.at, error.flaw), (at, flaw), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nest = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(Json::parse(nest(MAX_DEPTH + 1).as_bytes()).unwrap_err().flaw, Flaw::TooDeep);
        assert_eq!(Json::parse("[".repeat(1_000_000).as_bytes()).unwrap_err().flaw, Flaw::TooDeep);
    }

    #[test]
    fn escaped_names_are_found() {
        let json = Json::parse(br#"{"\u006bind":"Secret"}"#).unwrap();
        assert_eq!(json.get("kind").unwrap().as_str().unwrap(), "Secret");
    }
}
