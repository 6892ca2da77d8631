//! `cargo fuzz run query`: see `entry/query.rs`.
#![no_main]

#[path = "../entry/query.rs"]
mod query;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| query::run(bytes));
