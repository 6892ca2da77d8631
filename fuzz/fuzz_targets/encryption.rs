//! `cargo fuzz run encryption`: see `entry/encryption.rs`.
#![no_main]

#[path = "../entry/encryption.rs"]
mod encryption;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| encryption::run(bytes));
