//! What must hold for the redaction of any event. Called by the fuzzer and by the test that replays its corpus.

use std::sync::LazyLock;

use ingest::{
    event::EventView,
    identity::DeploymentKey,
    redact::{Redactor, RuleSet},
};

static REDACTOR: LazyLock<Redactor> =
    LazyLock::new(|| Redactor::new(&RuleSet::builtin(), &DeploymentKey::from_bytes([7; 32])));

/// Redacts the bytes if they are an event; panics when something that must hold does not.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(event) = EventView::parse(bytes) else { return };
    let once = REDACTOR.redact(&event);
    let view = EventView::parse(&once.bytes).expect("a redacted event is an event");
    assert_eq!(view.members().count(), event.members().count(), "no member appears or goes");
    if once.count == 0 {
        assert_eq!(&*once.bytes, event.json().raw().as_bytes(), "nothing removed, nothing changed");
    }
    let twice = REDACTOR.redact(&view);
    assert_eq!((twice.count, &twice.bytes), (0, &once.bytes), "a second pass changes nothing");
}
