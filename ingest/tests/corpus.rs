//! Replays the fuzzers' corpora through the functions that the fuzzers call.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../../fuzz/entry/event.rs"]
mod event;
#[path = "../../fuzz/entry/policy.rs"]
mod policy;
#[path = "../../fuzz/entry/redaction.rs"]
mod redaction;

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        run(&bytes);
        // A cut input is one more, for nothing.
        run(&bytes[..bytes.len() / 2]);
        files += 1;
    }
    assert!(files > 0, "{} holds no corpus", folder.display());
}

#[test]
fn every_input_of_the_event_corpus_holds() {
    replay("event", event::run);
}

#[test]
fn every_input_of_the_redaction_corpus_holds() {
    replay("redaction", redaction::run);
}

#[test]
fn every_input_of_the_policy_corpus_holds() {
    replay("policy", policy::run);
}
