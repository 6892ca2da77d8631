//! Cuts what arrives into items: EventList, Event, arrays of events, JSON lines and concatenated JSON, in pieces of any size.
//!
//! Nothing needs to be announced: the first byte and, for an object, its members tell the form. Memory is bounded by
//! one item. Only the structure is followed here; whether an item is an event is [`crate::accept`]'s part.
//!
//! After a broken item the splitter goes on where an item plausibly begins: at the next line that opens an object or
//! array, or, within a list or a line, at the next object whose first member is one that events begin with. What
//! lies between belongs to the error that was given.

mod resync;
mod shape;

use shape::{Shape, Step};

use crate::{
    accept::{Place, Reason, Rejection},
    json::{Flaw, Json, JsonError, skip_space},
    record::MAX_EVENT_BYTES,
};

/// How much of a pushed chunk is taken up at a time: what the buffer may hold beyond one item.
const PIECE_BYTES: usize = 256 * 1024;

/// How often the bytes received may be looked at again after broken items, and how many bytes at least.
/// More would let a hostile input cost the square of its length.
const AGAIN_TIMES: u64 = 8;
const AGAIN_BYTES: u64 = 64 * 1024;

/// Where the splitter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Between top-level values.
    Top,
    /// Within a top-level object.
    Object,
    /// After the name `items` of a list's object.
    Items,
    /// Between elements; whether an element, a comma or the end may follow.
    Between { element: bool, comma: bool, end: bool },
    /// Within an element.
    Element,
    /// Within an item that is too large; its bytes are dropped as they come.
    Discard { element: bool },
    /// Looking for the next item after a broken one.
    Resync { list: bool },
}

/// An incremental splitter. Push bytes as they come, then [`Splitter::finish`].
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Where the current item, or what is still to be looked at, begins in `buffer`.
    head: usize,
    /// How far after `head` the shape was followed.
    at: usize,
    /// Byte and line of `head` in the whole input.
    offset: u64,
    line: u64,
    item: u64,
    mode: Mode,
    shape: Shape,
    /// The current top-level object is a list whose items were given one by one.
    list: bool,
    /// The current array is a list's `items`, so an object goes on after it.
    within_object: bool,
    /// The current top-level object is a list of something else.
    foreign: bool,
    /// Bytes that were looked at again after broken items.
    again: u64,
    received: u64,
    finishing: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// A splitter at the start of its input.
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            head: 0,
            at: 0,
            offset: 0,
            line: 1,
            item: 0,
            mode: Mode::Top,
            shape: Shape::new(),
            list: false,
            within_object: false,
            foreign: false,
            again: 0,
            received: 0,
            finishing: false,
        }
    }

    /// Takes the next bytes and gives every item that they complete, in order, with where it begins.
    pub fn push(&mut self, chunk: &[u8], mut give: impl FnMut(Place, Result<&[u8], Rejection>)) {
        for piece in chunk.chunks(PIECE_BYTES) {
            self.received += piece.len() as u64;
            self.buffer.extend_from_slice(piece);
            self.run(&mut give);
            self.buffer.drain(..self.head);
            self.head = 0;
        }
    }

    /// Ends the input and gives what is left: an error where something was not complete.
    pub fn finish(mut self, mut give: impl FnMut(Place, Result<&[u8], Rejection>)) {
        self.finishing = true;
        loop {
            self.run(&mut give);
            match self.mode {
                Mode::Object | Mode::Items | Mode::Element => {
                    let at = self.rest().len();
                    self.fail(JsonError { at, flaw: Flaw::UnexpectedEnd }, &mut give);
                }
                Mode::Between { .. } | Mode::Discard { .. } => {
                    let what = "the input ends within a list or an item";
                    self.reject(Rejection::new(Reason::Truncated, what), &mut give);
                    return;
                }
                Mode::Top | Mode::Resync { .. } => return,
            }
        }
    }

    /// Bytes of memory that it holds.
    pub fn buffered(&self) -> usize {
        self.buffer.capacity()
    }

    /// How many items were given, good and bad.
    pub const fn items(&self) -> u64 {
        self.item
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.head..]
    }

    /// Moves on for as long as the bytes suffice.
    fn run(&mut self, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) {
        loop {
            let moved = match self.mode {
                Mode::Top => self.top(give),
                Mode::Object => self.object(give),
                Mode::Items => self.items_value(),
                Mode::Between { element, comma, end } => self.between(element, comma, end, give),
                Mode::Element => self.element(give),
                Mode::Discard { element } => self.discard(element),
                Mode::Resync { list } => self.resync(list),
            };
            if !moved {
                return;
            }
        }
    }

    fn top(&mut self, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) -> bool {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if self.offset == 0 && self.rest().starts_with(BYTE_ORDER_MARK) {
            self.consume(BYTE_ORDER_MARK.len());
        }
        let Some(byte) = self.next_byte() else { return false };
        self.shape = Shape::new();
        self.at = 0;
        (self.list, self.foreign) = (false, false);
        match byte {
            b'{' => self.mode = Mode::Object,
            b'[' => {
                self.consume(1);
                self.within_object = false;
                self.mode = Mode::Between { element: true, comma: false, end: true };
            }
            _ if self.offset == 0 && !self.finishing && self.rest().len() < BYTE_ORDER_MARK.len() => {
                return false;
            }
            _ => {
                let what = "an object or array of events is expected here";
                self.reject(Rejection::new(Reason::NotAnObject, what), give);
                self.start_resync(false);
            }
        }
        true
    }

    /// Drops space and tells the byte after it.
    fn next_byte(&mut self) -> Option<u8> {
        let space = skip_space(&self.buffer, self.head) - self.head;
        self.consume(space);
        self.rest().first().copied()
    }

    fn object(&mut self, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) -> bool {
        match self.shape.run(&self.buffer[self.head..], &mut self.at, true) {
            Step::More => self.more(false, give),
            Step::Failed(error) => self.fail(error, give),
            Step::Name { from } => {
                if &self.rest()[from..self.at] == b"\"items\"" {
                    self.items_name(from);
                }
                true
            }
            Step::Done => {
                if self.foreign {
                    self.reject(
                        Rejection::new(Reason::WrongKind, "a list of something else than audit events"),
                        give,
                    );
                } else if !self.list && !is_list_without_items(&self.rest()[..self.at]) {
                    self.emit(give);
                }
                self.consume(self.at);
                self.mode = Mode::Top;
                true
            }
        }
    }

    /// A top-level object has `items`: it is a list of events, a list of something else, or an event with a member of that name.
    fn items_name(&mut self, from: usize) {
        if self.list {
            self.mode = Mode::Items;
            return;
        }
        let head = self.rest()[..from].trim_ascii_end();
        let mut head = head.strip_suffix(b",").unwrap_or(head).to_vec();
        head.push(b'}');
        let Ok(head) = Json::parse(&head) else { return };
        if ["level", "auditID", "stage", "verb"].iter().any(|name| head.get(name).is_some()) {
            return;
        }
        let text = |name| head.get(name).and_then(Json::as_str);
        let kind = text("kind").is_none_or(|kind| kind == "EventList");
        let version = text("apiVersion").is_none_or(|version| version.starts_with("audit.k8s.io/v1"));
        self.foreign = !(kind && version);
        if !self.foreign {
            self.list = true;
            self.mode = Mode::Items;
        }
    }

    /// The value of a list's `items`: its elements are given one by one; `null` is what Go writes for none.
    fn items_value(&mut self) -> bool {
        let bytes = &self.buffer[self.head..];
        let colon = skip_space(bytes, self.at);
        let value = if bytes.get(colon) == Some(&b':') { skip_space(bytes, colon + 1) } else { colon };
        match bytes.get(value) {
            None => return false,
            Some(b'[') if value > colon => {
                self.consume(value + 1);
                self.within_object = true;
                self.mode = Mode::Between { element: true, comma: false, end: true };
            }
            Some(other) => {
                self.foreign = *other != b'n';
                self.mode = Mode::Object;
            }
        }
        true
    }

    fn between(
        &mut self,
        element: bool,
        comma: bool,
        end: bool,
        give: &mut impl FnMut(Place, Result<&[u8], Rejection>),
    ) -> bool {
        let Some(byte) = self.next_byte() else { return false };
        match byte {
            b',' if comma => {
                self.consume(1);
                self.mode = Mode::Between { element: true, comma: false, end: false };
            }
            b']' if end => {
                self.consume(1);
                self.at = 0;
                self.mode = if self.within_object { Mode::Object } else { Mode::Top };
                self.shape = Shape::after_member();
            }
            b',' | b']' | b'}' | b':' => {
                self.reject(JsonError { at: 0, flaw: Flaw::ExpectedValue }.into(), give);
                self.start_resync(true);
            }
            _ if element => {
                self.shape = Shape::new();
                self.at = 0;
                self.mode = Mode::Element;
            }
            // No comma: what stands here may be the next good item.
            _ => {
                self.reject(JsonError { at: 0, flaw: Flaw::ExpectedCommaOrEnd }.into(), give);
                self.mode = Mode::Resync { list: true };
            }
        }
        true
    }

    fn element(&mut self, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) -> bool {
        match self.shape.run(&self.buffer[self.head..], &mut self.at, false) {
            Step::More | Step::Name { .. } => self.more(true, give),
            Step::Failed(error) => self.fail(error, give),
            Step::Done => {
                self.emit(give);
                self.consume(self.at);
                self.mode = AFTER_ELEMENT;
                true
            }
        }
    }

    /// The item is not complete. One that is too large already is refused here, so that no more of it is held.
    fn more(&mut self, element: bool, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) -> bool {
        if self.rest().len() <= MAX_EVENT_BYTES {
            return false;
        }
        self.reject(too_large(), give);
        self.mode = Mode::Discard { element };
        true
    }

    fn discard(&mut self, element: bool) -> bool {
        let step = self.shape.run(&self.buffer[self.head..], &mut self.at, false);
        self.consume(self.at);
        match step {
            Step::More | Step::Name { .. } => return false,
            Step::Done => self.mode = if element { AFTER_ELEMENT } else { Mode::Top },
            Step::Failed(_) => self.start_resync(element),
        }
        true
    }

    /// The item is broken. Looks for the next from the item's second byte on, while that stays linear, else from the flaw on.
    fn fail(&mut self, error: JsonError, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) -> bool {
        let list = self.mode == Mode::Element;
        self.reject(error.into(), give);
        let looked_at = error.at as u64;
        if self.again + looked_at <= AGAIN_BYTES + AGAIN_TIMES * self.received {
            self.again += looked_at;
        } else {
            self.consume(error.at.saturating_sub(1));
        }
        self.start_resync(list);
        true
    }

    fn start_resync(&mut self, list: bool) {
        // The byte that begins the broken item must not be found again. A line end is left for the search.
        if self.rest().first().is_some_and(|&b| b != b'\n') {
            self.consume(1);
        }
        self.at = 0;
        self.mode = Mode::Resync { list };
    }

    fn emit(&mut self, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) {
        if self.at > MAX_EVENT_BYTES {
            return self.reject(too_large(), give);
        }
        let place = self.place();
        give(place, Ok(&self.buffer[self.head..self.head + self.at]));
        self.item += 1;
    }

    fn reject(&mut self, rejection: Rejection, give: &mut impl FnMut(Place, Result<&[u8], Rejection>)) {
        give(self.place(), Err(rejection));
        self.item += 1;
    }

    const fn place(&self) -> Place {
        Place { item: self.item, line: self.line, offset: self.offset }
    }

    /// Moves `head` on; what was followed of the current item ends with it.
    fn consume(&mut self, bytes: usize) {
        let gone = &self.buffer[self.head..self.head + bytes];
        self.line += memchr::memchr_iter(b'\n', gone).count() as u64;
        self.offset += bytes as u64;
        self.head += bytes;
        self.at = 0;
    }
}

/// After an element a comma or the end follows.
const AFTER_ELEMENT: Mode = Mode::Between { element: false, comma: true, end: true };

fn too_large() -> Rejection {
    Rejection::new(Reason::TooLarge, format!("more than the {MAX_EVENT_BYTES} bytes that an event may have"))
}

/// An EventList may come without `items`.
fn is_list_without_items(object: &[u8]) -> bool {
    /// A list without items holds kind, version and a little metadata.
    const MAX_BYTES: usize = 512;
    object.len() <= MAX_BYTES
        && memchr::memmem::find(object, b"EventList").is_some()
        && Json::parse(object).is_ok_and(|json| {
            json.get("kind").and_then(Json::as_str).is_some_and(|kind| kind == "EventList")
                && json.get("level").is_none()
        })
}

#[cfg(test)]
mod tests;
