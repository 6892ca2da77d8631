//! The scanner under [`super::Json`]: one pass, no recursion, the place of the first flaw.

use super::{Json, Member};

/// How many objects and arrays may lie within each other.
///
/// serde_json's readers stop at 128; what is taken in must be readable by every later stage.
pub const MAX_DEPTH: usize = 100;

/// What is wrong with a text that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// It ends within a value.
    #[error("the text ends within a value")]
    UnexpectedEnd,
    /// No value where one must stand.
    #[error("expected a value")]
    ExpectedValue,
    /// No quoted name where one must stand.
    #[error("expected a quoted name")]
    ExpectedName,
    /// No colon after a name.
    #[error("expected a colon")]
    ExpectedColon,
    /// Neither a comma nor the end of the object or array.
    #[error("expected a comma or the end of the object or array")]
    ExpectedCommaOrEnd,
    /// A control character within a string.
    #[error("a control character within a string")]
    ControlCharacter,
    /// An escape that stands for nothing: unknown, cut, or half of a surrogate pair.
    #[error("an invalid escape within a string")]
    Escape,
    /// A number that is malformed or beyond a double.
    #[error("an invalid number")]
    Number,
    /// More nesting than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Something follows the value.
    #[error("something follows the value")]
    TrailingBytes,
}

/// A flaw and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flaw} at byte {at}")]
pub struct JsonError {
    /// Byte offset of the flaw.
    pub at: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// Checks that `bytes` are UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(bytes).map_err(|e| JsonError { at: e.valid_up_to(), flaw: Flaw::Utf8 })
}

/// The first place at or after `at` that is not space.
#[inline]
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// True for the bytes that end a plain run within a string: quote, backslash, control characters.
const STRING_STOP: [bool; 256] = {
    let mut stop = [false; 256];
    let mut i = 0;
    while i < 0x20 {
        stop[i] = true;
        i += 1;
    }
    stop[b'"' as usize] = true;
    stop[b'\\' as usize] = true;
    stop
};

/// The first place at or after `at` of a quote, backslash or control character, eight bytes at a time.
#[inline]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let zero = |w: u64| w.wrapping_sub(ONES) & !w;
        let quote = zero(word ^ (ONES * b'"' as u64));
        let slash = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | slash | control) & HIGHS;
        if found != 0 {
            // The lowest marked byte is exact; a borrow can only mark bytes above a true one.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && !STRING_STOP[bytes[at] as usize] {
        at += 1;
    }
    at
}

/// Where the valid value that begins at `at` ends.
pub(super) fn end_of(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => end_of_string(bytes, at),
        Some(b'{' | b'[') => end_of_container(bytes, at),
        _ => {
            let is_end = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            bytes[at..].iter().position(is_end).map_or(bytes.len(), |n| at + n)
        }
    }
}

fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = string_stop(bytes, at + 1);
    while at < bytes.len() && bytes[at] != b'"' {
        at = string_stop(bytes, at + 2);
    }
    (at + 1).min(bytes.len())
}

fn end_of_container(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}

/// A strict reader of one JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn fail<T>(&self, flaw: Flaw) -> Result<T, JsonError> {
        let flaw = if self.at >= self.bytes.len() { Flaw::UnexpectedEnd } else { flaw };
        Err(JsonError { at: self.at, flaw })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn space(&mut self) {
        self.at = skip_space(self.bytes, self.at);
    }

    /// Takes `byte` if it is next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    /// Takes `byte` or fails with `flaw`.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, flaw: Flaw) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { self.fail(flaw) }
    }

    /// One value with space around it and nothing else; returns where the value ends.
    pub(super) fn document(&mut self) -> Result<usize, JsonError> {
        self.space();
        self.value(0)?;
        let end = self.at;
        self.end()?;
        Ok(end)
    }

    /// Only space may follow.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.bytes.len() {
            return Ok(());
        }
        Err(JsonError { at: self.at, flaw: Flaw::TrailingBytes })
    }

    /// One value, which may lie `outer` levels deep already.
    pub(crate) fn value(&mut self, outer: usize) -> Result<(), JsonError> {
        // One bit for each open container, the innermost lowest: set for an object.
        let mut open: u128 = 0;
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(byte @ (b'{' | b'[')) => {
                    if outer + depth == MAX_DEPTH {
                        return self.fail(Flaw::TooDeep);
                    }
                    depth += 1;
                    self.at += 1;
                    self.space();
                    let object = byte == b'{';
                    open = open << 1 | u128::from(object);
                    if !matches!((object, self.peek()), (true, Some(b'}')) | (false, Some(b']'))) {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return self.fail(Flaw::ExpectedValue),
            }
            // A value is complete, or a container that was just opened is empty.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.space();
                let object = open & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return self.fail(Flaw::ExpectedCommaOrEnd),
                }
                self.at += 1;
                depth -= 1;
                open >>= 1;
            }
        }
    }

    /// One member of an object that lies at depth 1, and where its name begins. `text` is what is scanned.
    pub(crate) fn member<'t>(&mut self, text: &'t str) -> Result<(usize, Member<'t>), JsonError> {
        let at = self.at;
        if self.peek() != Some(b'"') {
            return self.fail(Flaw::ExpectedName);
        }
        self.string()?;
        let key = Json::validated(&text[at..self.at]);
        self.space();
        self.expect(b':', Flaw::ExpectedColon)?;
        self.space();
        let start = self.at;
        self.value(1)?;
        Ok((at, Member { key, value: Json::validated(&text[start..self.at]) }))
    }

    /// A quoted name, its colon and the space after it.
    #[inline]
    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return self.fail(Flaw::ExpectedName);
        }
        self.string()?;
        self.space();
        self.expect(b':', Flaw::ExpectedColon)?;
        self.space();
        Ok(())
    }

    /// A string; its opening quote is next.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            self.at = string_stop(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return self.fail(Flaw::ControlCharacter),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let Some(unit) = self.hex(self.at) else { return self.fail(Flaw::Escape) };
                let pair = match unit {
                    0xd800..0xdc00 => matches!(self.hex(self.at + 6), Some(0xdc00..0xe000)),
                    0xdc00..0xe000 => return self.fail(Flaw::Escape),
                    _ => {
                        self.at += 6;
                        return Ok(());
                    }
                };
                if !pair {
                    return self.fail(Flaw::Escape);
                }
                self.at += 12;
            }
            Some(_) => return self.fail(Flaw::Escape),
            None => {
                self.at = self.bytes.len();
                return self.fail(Flaw::UnexpectedEnd);
            }
        }
        Ok(())
    }

    /// The unit of the `\uXXXX` at `at`.
    fn hex(&self, at: usize) -> Option<u16> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit: u16, &digit| {
            let value = (digit as char).to_digit(16)?;
            Some(unit << 4 | value as u16)
        })
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let _ = self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return self.fail(Flaw::Number);
        }
        if self.take(b'.') && self.digits() == 0 {
            return self.fail(Flaw::Number);
        }
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return self.fail(Flaw::Number);
            }
        }
        // Only these can leave the range of a double, which later readers would refuse.
        if (exponent || self.at - start > 300) && !self.is_finite(start) {
            self.at = start;
            return self.fail(Flaw::Number);
        }
        Ok(())
    }

    fn is_finite(&self, start: usize) -> bool {
        let text = std::str::from_utf8(&self.bytes[start..self.at]);
        text.ok().and_then(|t| t.parse::<f64>().ok()).is_some_and(f64::is_finite)
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.fail(Flaw::ExpectedValue);
        }
        self.at += word.len();
        Ok(())
    }
}
