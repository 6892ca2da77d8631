//! What must hold for any bytes that arrive as events. Called by the fuzzer and by the test that replays its corpus.

use ingest::{event::EventView, json::Json, split::Splitter};

/// Splits and parses the bytes; panics when something that must hold does not.
pub(crate) fn run(bytes: &[u8]) {
    let whole = split(bytes, bytes.len().max(1));
    for piece in [1, 5] {
        assert_eq!(split(bytes, piece), whole, "pieces of {piece} give what the whole gives");
    }
    for item in whole.into_iter().flatten() {
        parse(&item);
    }
    parse(bytes);
}

fn split(bytes: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let mut items = Vec::new();
    let mut splitter = Splitter::new();
    for chunk in bytes.chunks(piece) {
        splitter.push(chunk, |_, item| items.push(item.ok().map(<[u8]>::to_vec)));
    }
    splitter.finish(|_, item| items.push(item.ok().map(<[u8]>::to_vec)));
    items
}

fn parse(item: &[u8]) {
    if Json::parse(item).is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(item).is_ok(), "what we read others read");
    }
    let Ok(view) = EventView::parse(item) else { return };
    assert_eq!(view.json().raw().as_bytes(), item.trim_ascii());
    let _ = (view.level(), view.stage(), view.audit_id(), view.request_uri(), view.verb(), view.message());
    let _ = (view.user().map(|u| u.groups().count()), view.object_ref(), view.stage_timestamp());
    let _ = (view.annotations().count(), view.source_ips().count(), view.members().count());
}
