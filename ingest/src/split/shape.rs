//! Follows the structure of one JSON value through pieces: enough to find its end and to notice early that it is broken.

use crate::json::{Flaw, JsonError, MAX_DEPTH, string_stop};

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    /// Within a string.
    Text {
        name: bool,
    },
    /// After a backslash within a string.
    Escaped {
        name: bool,
    },
    /// Within a number, `true`, `false` or `null`.
    Scalar,
}

/// What following the bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The bytes are used up.
    More,
    /// The value is complete and ends here.
    Done,
    /// A member's name at depth 1 ends here; it began at `from`.
    Name { from: usize },
    /// The value is broken.
    Failed(JsonError),
}

/// Where within a value the bytes so far lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    next: Next,
    depth: usize,
    /// One bit for each open container, the innermost lowest: set for an object.
    open: u128,
    name_from: usize,
}

impl Shape {
    /// Before a value.
    pub(super) const fn new() -> Self {
        Self { next: Next::Value, depth: 0, open: 0, name_from: 0 }
    }

    /// Within an object at depth 1, after a member.
    pub(super) const fn after_member() -> Self {
        Self { next: Next::CommaOrEnd, depth: 1, open: 1, name_from: 0 }
    }

    /// Follows `bytes` from `at` on. With `names` it stops after each name at depth 1.
    pub(super) fn run(&mut self, bytes: &[u8], at: &mut usize, names: bool) -> Step {
        while *at < bytes.len() {
            match self.next {
                Next::Text { name } => {
                    *at = string_stop(bytes, *at);
                    match bytes.get(*at) {
                        None => return Step::More,
                        Some(b'"') => {
                            *at += 1;
                            self.next = if name { Next::Colon } else { Next::CommaOrEnd };
                            if name && names && self.depth == 1 {
                                return Step::Name { from: self.name_from };
                            }
                            if !name && self.depth == 0 {
                                return Step::Done;
                            }
                        }
                        Some(b'\\') => {
                            *at += 1;
                            self.next = Next::Escaped { name };
                        }
                        Some(_) => return fail(*at, Flaw::ControlCharacter),
                    }
                }
                Next::Escaped { name } => {
                    if bytes[*at] < 0x20 {
                        return fail(*at, Flaw::ControlCharacter);
                    }
                    *at += 1;
                    self.next = Next::Text { name };
                }
                Next::Scalar => {
                    while matches!(
                        bytes.get(*at),
                        Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'.' | b'+' | b'-')
                    ) {
                        *at += 1;
                    }
                    if *at < bytes.len() {
                        self.next = Next::CommaOrEnd;
                        if self.depth == 0 {
                            return Step::Done;
                        }
                    }
                }
                _ => match bytes[*at] {
                    b' ' | b'\n' | b'\r' | b'\t' => *at += 1,
                    byte => {
                        if let Err(flaw) = self.structure(byte, *at) {
                            return fail(*at, flaw);
                        }
                        *at += 1;
                        if self.depth == 0 && self.next == Next::CommaOrEnd {
                            return Step::Done;
                        }
                    }
                },
            }
        }
        Step::More
    }

    /// One byte outside of strings and scalars.
    #[inline]
    fn structure(&mut self, byte: u8, at: usize) -> Result<(), Flaw> {
        let object = self.open & 1 == 1;
        match (self.next, byte) {
            (Next::CommaOrEnd, b',') => self.next = if object { Next::Name } else { Next::Value },
            (Next::CommaOrEnd | Next::NameOrEnd, b'}') if object => self.close(),
            (Next::CommaOrEnd | Next::ValueOrEnd, b']') if !object => self.close(),
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::Name | Next::NameOrEnd, b'"') => {
                self.name_from = at;
                self.next = Next::Text { name: true };
            }
            (Next::Value | Next::ValueOrEnd, _) => return self.value(byte),
            (Next::Colon, _) => return Err(Flaw::ExpectedColon),
            (Next::Name | Next::NameOrEnd, _) => return Err(Flaw::ExpectedName),
            _ => return Err(Flaw::ExpectedCommaOrEnd),
        }
        Ok(())
    }

    fn value(&mut self, byte: u8) -> Result<(), Flaw> {
        match byte {
            b'"' => self.next = Next::Text { name: false },
            b'{' | b'[' => {
                // One more than an item may have, so that the item's own reader names the flaw of what is just too deep.
                if self.depth > MAX_DEPTH {
                    return Err(Flaw::TooDeep);
                }
                self.depth += 1;
                self.open = self.open << 1 | u128::from(byte == b'{');
                self.next = if byte == b'{' { Next::NameOrEnd } else { Next::ValueOrEnd };
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.next = Next::Scalar,
            _ => return Err(Flaw::ExpectedValue),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.open >>= 1;
        self.next = Next::CommaOrEnd;
    }
}

fn fail(at: usize, flaw: Flaw) -> Step {
    Step::Failed(JsonError { at, flaw })
}
