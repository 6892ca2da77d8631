//! How the values of an event are written as terms of the inverted index.
//!
//! There is one indexed text field. A term is a place and a value: the keys of the JSON path, each but the last
//! followed by [`SEP`], then [`END`], then the value. So the number of distinct paths has no bound, a path may
//! hold a number here and a string there, and every test of a path reads one contiguous part of the dictionary.
//!
//! | value | what stands after [`END`] |
//! |---|---|
//! | a string that folding leaves alone | the string |
//! | any other string of up to [`MAX_SHORT`] bytes | two terms: [`FOLDED`] and the folded one, [`RAW`] and itself |
//! | a longer string, or one of a path of texts | [`LONG`] and itself; past [`MAX_VALUE`] bytes cut, with [`CUT`] behind |
//! | a word of a text path | [`WORD`] and the word, besides the whole |
//! | a number, a truth value, null, `{}` or `[]` | [`NUMBER`], [`TRUTH`], [`NULL`], [`EMPTY`] |
//!
//! A term that begins with [`WORD`] is a word of the free text. What is no part of the event's JSON stands under
//! [`SYNTHETIC`]. Control characters of the event itself are replaced, so that none of these can be forged.

use std::{borrow::Cow, cmp::Ordering};

use crate::query::Number;

/// Between two keys of a path.
pub(crate) const SEP: char = '\x1f';
/// After a path.
pub(crate) const END: char = '\0';
/// Before a string as it is, where folding changes it.
pub(crate) const RAW: char = '\x01';
/// Before a folded string.
pub(crate) const FOLDED: char = '\x02';
/// Before a word.
pub(crate) const WORD: char = '\x03';
/// Before a string as it is, without a folded term beside it.
pub(crate) const LONG: char = '\x04';
/// Before a number.
pub(crate) const NUMBER: char = '\x05';
/// After a string that was cut.
pub(crate) const CUT: char = '\x06';
/// Before `t` or `f`.
pub(crate) const TRUTH: char = '\x07';
/// For null.
pub(crate) const NULL: char = '\x08';
/// For an object or an array without elements.
pub(crate) const EMPTY: char = '\x0b';
/// The first key of what the JSON does not hold itself.
pub(crate) const SYNTHETIC: char = '\x0e';
/// Between terms that are handed over ready-made.
pub(crate) const READY: char = '\x1e';

/// The longest string that has a folded term beside it, in bytes. Names have at most 253 bytes and mostly far
/// fewer; longer strings are prose and documents, which are not compared for equality.
pub(crate) const MAX_SHORT: usize = 128;

/// The longest string that is kept whole, in bytes. The dictionary cannot hold terms above 65 530.
pub(crate) const MAX_VALUE: usize = 8 * 1024;

/// The longest word, in bytes. What is longer is no word but encoded data, and is found by its beginning.
pub(crate) const MAX_WORD: usize = 255;

/// Paths whose words are indexed beside their value.
pub(crate) const TEXT_PATHS: [&str; 4] =
    ["requestURI", "userAgent", "responseStatus\x1fmessage", "annotations\x1fauthorization.k8s.io/reason"];

/// Where the free text is read from: these paths and what is below them, those with few values first.
/// `message` is what a fact about the pipeline says; events of an API server have none there.
pub(crate) const FREE_TEXT: [&str; 6] =
    ["message", "annotations", "responseStatus\x1fmessage", "requestURI", "requestObject", "responseObject"];

/// Where values stand that are of another type than their column, which the free text reads too.
pub(crate) const MISFIT: &str = "\x0emisfit";

/// Takes the characters out of `text` that have a meaning in terms.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let special = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if text.bytes().any(|b| special(b as char)) {
        Cow::Owned(text.replace(special, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// What two strings have in common that differ in case alone.
///
/// Lower case; but upper case for RFC 3339 times, which bodies are full of, so that these need one term each.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if is_time(text) {
        return if text.bytes().any(|b| b.is_ascii_lowercase()) {
            Cow::Owned(text.to_ascii_uppercase())
        } else {
            Cow::Borrowed(text)
        };
    }
    lower(text)
}

/// `text` in lower case.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        }
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

fn is_time(text: &str) -> bool {
    let b = text.as_bytes();
    (20..=30).contains(&b.len())
        && b[4] == b'-'
        && b[7] == b'-'
        && b[10].eq_ignore_ascii_case(&b't')
        && b[b.len() - 1].eq_ignore_ascii_case(&b'z')
        && b[11..b.len() - 1].iter().all(|c| c.is_ascii_digit() || matches!(c, b':' | b'.'))
}

/// The longest beginning of `text` with at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The words of `text` as they are indexed: lower case, at most [`MAX_WORD`] bytes.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| match lower(word) {
        Cow::Borrowed(word) => Cow::Borrowed(cut(word, MAX_WORD)),
        Cow::Owned(word) => Cow::Owned(cut(&word, MAX_WORD).to_owned()),
    })
}

/// Joins keys to the path that terms begin with, without [`END`].
pub(crate) fn path<K: AsRef<str>>(keys: &[K]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| clean(key.as_ref())).collect();
    keys.join("\x1f")
}

/// Writes the terms of a clean string that stands at `place` (a path with its [`END`]) by `emit`.
pub(crate) fn string(place: &str, text: &str, whole_only: bool, mut emit: impl FnMut(&[&str])) {
    if whole_only || text.len() > MAX_SHORT {
        let (kept, end) = if text.len() > MAX_VALUE { (cut(text, MAX_VALUE), "\x06") } else { (text, "") };
        return emit(&[place, "\x04", kept, end]);
    }
    let folded = fold(text);
    if folded == text {
        emit(&[place, text]);
    } else {
        emit(&[place, "\x02", &folded]);
        emit(&[place, "\x01", text]);
    }
}

/// The string that a term's value part stands for, and whether it was cut; nothing for what is no string, and
/// for folded ones, beside which the raw ones stand.
pub(crate) fn read_string(value: &str) -> Option<(&str, bool)> {
    match value.chars().next() {
        Some(RAW | LONG) => {
            let text = &value[1..];
            Some(text.strip_suffix(CUT).map_or((text, false), |text| (text, true)))
        }
        Some(FOLDED | WORD | NUMBER | TRUTH | NULL | EMPTY) => None,
        _ => Some((value, false)),
    }
}

/// A number as a term's value: 16 hexadecimal digits that sort as the numbers do, then, where a float does not
/// hold the integer exactly, `:` and its digits.
pub(crate) fn number(n: Stored) -> String {
    let bits = n.as_f64().to_bits();
    let sortable = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    match n {
        Stored::Int(i) if i.unsigned_abs() > 1 << 53 => format!("{NUMBER}{sortable:016x}:{i}"),
        _ => format!("{NUMBER}{sortable:016x}"),
    }
}

/// Reads what [`number`] wrote.
pub(crate) fn read_number(value: &str) -> Option<Stored> {
    let digits = value.strip_prefix(NUMBER)?;
    if let Some((_, exact)) = digits.split_once(':') {
        return exact.parse().ok().map(Stored::Int);
    }
    let sortable = u64::from_str_radix(digits, 16).ok()?;
    let bits = if sortable >> 63 == 1 { sortable & !(1 << 63) } else { !sortable };
    Some(Stored::Float(f64::from_bits(bits)))
}

/// A number of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored {
    Int(i128),
    Float(f64),
}

impl Stored {
    fn as_f64(self) -> f64 {
        match self {
            // -0.0 is 0.
            Self::Float(f) => f + 0.0,
            Self::Int(i) => i as f64,
        }
    }

    /// Compares exactly, also where a float is not exact.
    pub(crate) fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Self::Int(a), Number::Int(b)) => a.cmp(&i128::from(b)),
            (Self::Float(a), Number::Int(b)) => exact(a).map_or_else(
                || a.total_cmp(&(b as f64)),
                |(whole, rest)| whole.cmp(&i128::from(b)).then(rest),
            ),
            (Self::Int(a), Number::Float(b)) => exact(b)
                .map_or_else(|| (a as f64).total_cmp(&b), |(whole, rest)| a.cmp(&whole).then(rest.reverse())),
            (a, Number::Float(b)) => a.as_f64().total_cmp(&(b + 0.0)),
        }
    }
}

/// The whole number below `f`, and whether there is something above it.
fn exact(f: f64) -> Option<(i128, Ordering)> {
    (f.abs() < 1e30)
        .then(|| (f.floor() as i128, if f.fract() == 0.0 { Ordering::Equal } else { Ordering::Greater }))
}

impl From<Number> for Stored {
    fn from(n: Number) -> Self {
        match n {
            Number::Int(i) => Self::Int(i.into()),
            Number::Float(f) => Self::Float(f),
        }
    }
}
