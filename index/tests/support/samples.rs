//! Events for tests: records made of JSON, and the recorded events of a real API server.
#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../../../tests/support/skipped.rs"]
mod skipped;

use std::{fs, path::PathBuf};

use ingest::{
    record::{Boot, Envelope, Kind, Record, RecordId, Seq},
    time::Timestamp,
};
use serde_json::Value;
use skipped::skipped;
use uuid::Uuid;

/// A record as the pipeline would make it of this event; `n` tells records of one millisecond apart.
pub(crate) fn record(event: &str, n: u64) -> Record {
    let at: Timestamp = serde_json::from_str::<Value>(event)
        .ok()
        .and_then(|event| event["stageTimestamp"].as_str()?.parse().ok())
        .unwrap_or_default();
    let id =
        RecordId(Uuid::from_u128(RecordId::floor(at).0.as_u128() | 0x8000 << 64 | 1 << 63 | u128::from(n)));
    Record {
        envelope: Envelope {
            v: 1,
            id,
            cluster: if n.is_multiple_of(3) { "Prod".into() } else { "demo".into() },
            source: "host-a".into(),
            boot: Boot(Uuid::from_u128(1)),
            seq: Seq(n),
            received_at: Timestamp::from_micros(at.micros() + 1_500),
            kind: Kind::Audit,
            at,
            rules: "".into(),
            redactions: 0,
        },
        event: event.as_bytes().to_vec().into(),
    }
}

/// Every recorded event of `../shared`, or nothing, said aloud, where that folder is absent.
pub(crate) fn recorded() -> Option<Vec<Record>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples/kube-apiserver-1.36/run1.jsonl");
    let Ok(lines) = fs::read_to_string(path) else {
        skipped("../shared is absent");
        return None;
    };
    Some(lines.lines().enumerate().map(|(n, line)| record(line, n as u64)).collect())
}
