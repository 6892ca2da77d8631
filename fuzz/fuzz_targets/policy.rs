//! `cargo fuzz run policy`: see `entry/policy.rs`.
#![no_main]

#[path = "../entry/policy.rs"]
mod policy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| policy::run(bytes));
