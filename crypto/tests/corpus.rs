//! Replays the fuzzer's corpus of configurations and stored values, and the beginnings of every one.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

#[path = "../../fuzz/entry/encryption.rs"]
mod encryption;

use std::{fs, path::Path};

#[test]
fn every_input_of_the_corpus_and_every_beginning_of_it_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/encryption");
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        for len in 0..=bytes.len() {
            encryption::run(&bytes[..len]);
        }
        files += 1;
    }
    assert!(files > 0, "{} holds no corpus", folder.display());
}
