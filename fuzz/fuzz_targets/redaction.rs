//! `cargo fuzz run redaction`: see `entry/redaction.rs`.
#![no_main]

#[path = "../entry/redaction.rs"]
mod redaction;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| redaction::run(bytes));
