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
    let other = column(Some(text.into()));
    let (mark, bytes) = match Uuid::try_parse(text).ok().filter(canonical) {
        Some(uuid) => (AUDIT_ID_UUID, &uuid.into_bytes()[..]),
        None => (AUDIT_ID_TEXT, other.as_bytes()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::laws::record;

    fn with_event(event: &str) -> Record {
        Record { event: event.to_owned().into(), ..record(1, 1, "2026-11-23T12:00:00.000001Z") }
    }

    #[test]
    fn columns_hold_what_is_filtered_by() {
        let record = with_event(
            r#"{"auditID":"b0f21d44-2ff0-4c89-98df-bd20286ab0bb","verb":"get","user":{"username":"jane"},"objectRef":{"resource":"secrets","namespace":"prod","name":"db"},"responseStatus":{"code":403}}"#,
        );
        let fields = Fields::of(&record);
        assert_eq!(
            (fields.audit_id.len(), fields.audit_id[0], fields.audit_id[1]),
            (17, AUDIT_ID_UUID, 0xb0)
        );
        assert_eq!((&*fields.verb, &*fields.username, fields.code), ("get", "jane", 403));
        assert_eq!((&*fields.resource, &*fields.namespace, &*fields.name), ("secrets", "prod", "db"));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_nul_is_replaced() {
        let record = with_event(&format!(
            r#"{{"auditID":"a\u0000b","verb":"x{}","user":{{"username":"\u0000"}}}}"#,
            "ü".repeat(200)
        ));
        let fields = Fields::of(&record);
        assert_eq!(fields.audit_id, [&[AUDIT_ID_TEXT], "a\u{fffd}b".as_bytes()].concat());
        assert_eq!(fields.verb.len(), 255);
        assert_eq!(fields.username, "\u{fffd}");
    }

    #[test]
    fn an_audit_id_that_only_looks_like_a_uuid_stays_text() {
        let record = with_event(r#"{"auditID":"B0F21D44-2FF0-4C89-98DF-BD20286AB0BB"}"#);
        assert_eq!(Fields::of(&record).audit_id[0], AUDIT_ID_TEXT);
    }

    #[test]
    fn an_event_that_does_not_parse_has_empty_columns() {
        assert_eq!(Fields::of(&with_event("no JSON")), Fields::default());
    }
}
