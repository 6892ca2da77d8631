//! `cargo fuzz run event`: see `entry/event.rs`.
#![no_main]

#[path = "../entry/event.rs"]
mod event;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| event::run(bytes));
