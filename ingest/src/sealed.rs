//! Bodies that are sealed before the journal: how they stand in an event, and who seals and opens them.
//!
//! A sealed body is `{"$sealed":{"key":…,"data":…}}` in the place of the request's or the response's object: the id of
//! the day's key, and base64 of what was sealed. Everything else of the event stays as it was, so that whoever reads
//! events reads these too. Without `data` it is a body that came after its day's key was gone: nothing of it was kept.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    event::EventView,
    json::{Json, JsonKind},
    record::{Draft, Record},
    splice::{Splice, apply},
};

const MEMBER: &str = "$sealed";

/// The key that seals the bodies of a day cannot be had now. Trying again later is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key that seals the bodies of this day cannot be had now")]
pub struct NoKey;

/// Seals bodies on their way into the journal.
///
/// Laws: what is sealed has the id of the draft that it came in; a key is durable, and every instance has it, before
/// anything is sealed under it.
#[async_trait]
pub trait Seal: Send + Sync + fmt::Debug {
    /// Whether bodies are sealed now.
    fn is_on(&self) -> bool;

    /// The draft with its bodies sealed, where they are to be.
    ///
    /// # Errors
    /// When there is no key to seal under: nothing may be journaled then.
    async fn seal(&self, draft: Draft) -> Result<Draft, NoKey>;
}

/// Opens bodies for a reader that cannot wait while it reads.
#[async_trait]
pub trait Open: Send + Sync + fmt::Debug {
    /// Gets the keys that the records need, as far as there are any.
    ///
    /// # Errors
    /// When a key is there and cannot be had now.
    async fn prepare(&self, records: &[Record]) -> Result<(), NoKey>;

    /// The event with the bodies open whose keys are at hand; nothing when there is none.
    fn open(&self, record: &Record) -> Option<Bytes>;
}

/// A sealed body as it stands in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The id of its day's key.
    pub key: Uuid,
    /// What was sealed; nothing where nothing was kept.
    pub data: Option<Vec<u8>>,
}

impl Sealed {
    /// Reads one; nothing for any other value.
    pub fn read(json: Json<'_>) -> Option<Self> {
        let facts = only_member(json)?;
        let key = facts.get("key")?.as_str()?.parse().ok()?;
        let data = match facts.get("data") {
            Some(data) => Some(STANDARD.decode(data.as_str()?.as_bytes()).ok()?),
            None => None,
        };
        Some(Self { key, data })
    }

    /// As it is written.
    pub fn write(&self) -> Vec<u8> {
        let data = self
            .data
            .as_ref()
            .map_or_else(String::new, |data| format!(r#","data":"{}""#, STANDARD.encode(data)));
        format!(r#"{{"{MEMBER}":{{"key":"{}"{data}}}}}"#, self.key).into_bytes()
    }
}

fn only_member(json: Json<'_>) -> Option<Json<'_>> {
    if json.kind() != JsonKind::Object || !json.raw().contains(MEMBER) {
        return None;
    }
    let mut members = json.members();
    let (only, None) = (members.next()?, members.next()) else { return None };
    only.is(MEMBER).then_some(only.value)
}

/// The largest event that fits an event of `bytes` bytes when its bodies are sealed.
pub const fn before_sealing(bytes: usize) -> usize {
    // Base64 makes four bytes of three; each of two bodies has a marker, nonces and a tag around it.
    (bytes.saturating_sub(OVERHEAD)) / 4 * 3
}

/// What an event of `bytes` bytes may grow to when its bodies are sealed.
pub const fn after_sealing(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4 + OVERHEAD
}

/// What sealing may add besides base64: markers, nonces, tags, and the frame of what does not get smaller by packing.
const OVERHEAD: usize = 1024;

/// Whether an event may hold a sealed body, at the price of a look at its bytes.
pub fn may_be_sealed(event: &[u8]) -> bool {
    memchr::memmem::find(event, MEMBER.as_bytes()).is_some()
}

/// The bodies of an event with their names.
pub fn bodies<'e>(event: &EventView<'e>) -> impl Iterator<Item = (&'static str, Json<'e>)> + use<'e> {
    let both = [("requestObject", event.request_object()), ("responseObject", event.response_object())];
    both.into_iter().filter_map(|(name, body)| Some((name, body?))).filter(|(_, body)| !body.is_null())
}

/// The event with other bodies where `with` gives one; nothing when it gives none, or this is no event.
pub fn replace(
    event: &[u8],
    mut with: impl FnMut(&'static str, Json<'_>) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let view = EventView::parse(event).ok()?;
    let text = view.json().raw();
    let mut splices: Vec<_> = bodies(&view)
        .filter_map(|(name, body)| {
            let start = body.raw().as_ptr() as usize - text.as_ptr() as usize;
            Some(Splice { start, end: start + body.raw().len(), with: with(name, body)? })
        })
        .collect();
    splices.sort_by_key(|splice| splice.start);
    (!splices.is_empty()).then(|| apply(text, &splices))
}

/// The record as the index takes it: with its bodies open where `open` can, and without what is sealed.
pub(crate) fn for_index(record: &Record, open: Option<&dyn Open>) -> Option<Record> {
    if !may_be_sealed(&record.event) {
        return None;
    }
    let opened = open.and_then(|open| open.open(record));
    let event = opened.unwrap_or_else(|| record.event.clone());
    let closed = replace(&event, |_, body| Some(Sealed { data: None, ..Sealed::read(body)? }.write()));
    Some(Record { envelope: record.envelope.clone(), event: closed.map_or(event, Bytes::from) })
}

/// The records as the index takes them; nothing when all are as they are.
pub fn all_for_index(records: &[Record], open: Option<&dyn Open>) -> Option<Vec<Record>> {
    if !records.iter().any(|record| may_be_sealed(&record.event)) {
        return None;
    }
    Some(records.iter().map(|record| for_index(record, open).unwrap_or_else(|| record.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[u8] =
        br#"{"verb":"create", "responseObject": {"b": [1,2]} ,"requestObject":{"a":"x"},"z":{"$sealed":1}}"#;

    #[test]
    fn a_body_is_replaced_and_nothing_else_changes() {
        let sealed = Sealed { key: Uuid::from_u128(7), data: Some(b"data".to_vec()) };
        let mut seen = Vec::new();
        let event = replace(EVENT, |name, body| {
            seen.push((name, body.raw().to_owned()));
            (name == "requestObject").then(|| sealed.write())
        })
        .unwrap();
        seen.sort();
        assert_eq!(
            seen,
            [("requestObject", r#"{"a":"x"}"#.to_owned()), ("responseObject", r#"{"b": [1,2]}"#.to_owned())]
        );
        let marker = r#"{"$sealed":{"key":"00000000-0000-0000-0000-000000000007","data":"ZGF0YQ=="}}"#;
        let expected = String::from_utf8_lossy(EVENT).replace(r#"{"a":"x"}"#, marker);
        assert_eq!(String::from_utf8_lossy(&event), expected);
        let back =
            replace(&event, |_, body| (Sealed::read(body)? == sealed).then(|| br#"{"a":"x"}"#.to_vec()));
        assert_eq!(back.unwrap(), EVENT);
    }

    #[test]
    fn only_the_marker_alone_is_one() {
        let read = |text: &str| Sealed::read(Json::parse_text(text).unwrap());
        let id = Uuid::from_u128(7);
        assert_eq!(read(&format!(r#"{{"$sealed":{{"key":"{id}"}}}}"#)), Some(Sealed { key: id, data: None }));
        for other in [
            "7".to_owned(),
            r#"{"$sealed":7}"#.to_owned(),
            r#"{"$sealed":{"key":"x"}}"#.to_owned(),
            format!(r#"{{"$sealed":{{"key":"{id}","data":"*"}}}}"#),
            format!(r#"{{"$sealed":{{"key":"{id}"}},"more":1}}"#),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
    }

    #[test]
    fn what_fits_before_sealing_fits_after_it() {
        for bytes in [2_000, 100_000, crate::record::MAX_EVENT_BYTES] {
            assert!(after_sealing(before_sealing(bytes)) <= bytes, "{bytes}");
        }
    }
}
