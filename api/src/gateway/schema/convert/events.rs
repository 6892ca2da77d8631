//! Events of the core group and of `events.k8s.io`: the same members under other names.

use serde_json::{Map, Value};

/// The names in `events.k8s.io` and in the core group.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

pub(super) fn to_core(event: &mut Map<String, Value>) {
    for (theirs, core) in NAMES {
        rename(event, theirs, core);
    }
}

pub(super) fn from_core(event: &mut Map<String, Value>) {
    for (theirs, core) in NAMES {
        rename(event, core, theirs);
    }
}

fn rename(event: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = event.shift_remove(from) {
        event.insert(to.to_owned(), value);
    }
}
