//! Finding the next item after a broken one.

use super::{Mode, Splitter};
use crate::json::skip_space;

/// How many bytes after an opening brace tell whether an event begins there.
const MARGIN_BYTES: usize = 128;

impl Splitter {
    /// Drops bytes up to where an item plausibly begins.
    pub(super) fn resync(&mut self, list: bool) -> bool {
        let mut from = 0;
        loop {
            let rest = &self.buffer[self.head..];
            let Some(at) = memchr::memchr2(b'{', b'\n', &rest[from..]).map(|n| from + n) else {
                self.consume(rest.len());
                return false;
            };
            let found =
                if rest[at] == b'{' { event_start(&rest[at..], list) } else { line_start(&rest[at..], list) };
            match found {
                Found::Begins { after, mode } => {
                    self.consume(at + after);
                    self.begin(mode);
                    return true;
                }
                Found::Unknown if !self.finishing => {
                    self.consume(at);
                    return false;
                }
                Found::Unknown | Found::Nothing => from = at + 1,
            }
        }
    }

    fn begin(&mut self, mode: Mode) {
        self.shape = super::Shape::new();
        self.at = 0;
        self.mode = mode;
    }
}

/// What a brace or a line end came to.
enum Found {
    /// An item begins so many bytes after it.
    Begins {
        after: usize,
        mode: Mode,
    },
    /// More bytes will tell.
    Unknown,
    Nothing,
}

/// An object that begins as events do.
fn event_start(bytes: &[u8], list: bool) -> Found {
    if begins_like_an_event(bytes) {
        return Found::Begins { after: 0, mode: if list { Mode::Element } else { Mode::Top } };
    }
    if bytes.len() < MARGIN_BYTES { Found::Unknown } else { Found::Nothing }
}

/// A line that opens an object or array. Within a list only one without indentation leaves the list.
fn line_start(bytes: &[u8], list: bool) -> Found {
    let after = if list { 1 } else { skip_space(bytes, 1) };
    match bytes.get(after) {
        None => Found::Unknown,
        Some(b'{') => Found::Begins { after, mode: Mode::Top },
        Some(b'[') if !list => Found::Begins { after, mode: Mode::Top },
        Some(_) => Found::Nothing,
    }
}

fn begins_like_an_event(bytes: &[u8]) -> bool {
    let Some(rest) = word(bytes, b"{") else { return false };
    if word(rest, b"\"level\"").or_else(|| word(rest, b"\"auditID\"")).is_some() {
        return true;
    }
    let words: [&[u8]; 7] =
        [b"\"kind\"", b":", b"\"Event\"", b",", b"\"apiVersion\"", b":", b"\"audit.k8s.io/"];
    words.iter().try_fold(rest, |rest, expected| word(rest, expected)).is_some()
}

/// What follows `expected` and space, if that is next.
fn word<'a>(bytes: &'a [u8], expected: &[u8]) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(expected)?;
    Some(&rest[skip_space(rest, 0)..])
}
