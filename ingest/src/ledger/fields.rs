//! The typed columns of a record: what people filter by in SQL.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    event::EventView,
    record::{Kind, Record},
};

/// A client chooses these values and their length; a column holds this much of each, in bytes. The event is whole.
const MAX_FIELD_BYTES: usize = 256;

/// Marks an audit id that is kept as the 16 bytes of a UUID, less than half of its text.
const AUDIT_ID_UUID: u8 = 1;
/// Marks an audit id that is kept as text: clients may choose any.
const AUDIT_ID_TEXT: u8 = 0;

/// Absent values are empty or 0: a row without NULL needs no bitmap, which would cost 8 bytes in each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) audit_id: Vec<u8>,
    pub(crate) verb: Cow<'a, str>,
    pub(crate) username: Cow<'a, str>,
    pub(crate) resource: Cow<'a, str>,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    pub(crate) code: i16,
}

impl<'a> Fields<'a> {
    /// The columns of `record`. Those of an event that does not parse are empty: it was taken in, so it is kept.
    pub(crate) fn of(record: &'a Record) -> Self {
        if record.envelope.kind == Kind::Pipeline {
            return Self::default();
        }
        EventView::parse(&record.event).map(|event| Self::read(&event)).unwrap_or_default()
    }

    fn read(event: &EventView<'a>) -> Self {
        let object = event.object_ref().unwrap_or_default();
        let code = event.response_status().and_then(|status| status.code).unwrap_or(0);
        Self {
            audit_id: audit_id(&event.audit_id().unwrap_or_default()),
            verb: column(event.verb()),
            username: column(event.user().and_then(|user| user.username)),
            resource: column(object.resource),
            namespace: column(object.namespace),
            name: column(object.name),
            code: code.try_into().unwrap_or(0),
        }
    }
}

fn audit_id(text: &str) -> Vec<u8> {
    let canonical = |uuid: &Uuid| uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
    let (mark, bytes) = match Uuid::try_parse(text).ok().filter(canonical) {
        Some(uuid) => (AUDIT_ID_UUID, &uuid.into_bytes()[..]),
        None => (AUDIT_ID_TEXT, cut(text).as_bytes()),
    };
    let mut stored = Vec::with_capacity(1 + bytes.len());
    stored.push(mark);
    stored.extend_from_slice(bytes);
    stored
}

/// What a text column can hold of `text`: Postgres takes no NUL.
fn column(text: Option<Cow<'_, str>>) -> Cow<'_, str> {
    let text = text.unwrap_or_default();
    let text = if text.len() > MAX_FIELD_BYTES { cut(&text).to_owned().into() } else { text };
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD_BYTES)]
}
