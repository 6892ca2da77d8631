//! From received bytes to kept records: event model, audit policy, redaction, journal, relay, log, ledger, recorder.
//!
//! Data flows one way: [`record::Draft`] → journal → [`log::Log`] → recorder → [`ledger::Ledger`].

pub mod accept;
pub mod event;
pub mod failing;
pub mod from_file;
pub mod identity;
pub mod journal;
pub mod json;
pub mod lag;
pub mod ledger;
pub mod log;
pub mod logger;
pub mod metrics;
pub mod output;
pub mod pipeline;
pub mod policy;
pub mod ranges;
pub mod record;
pub mod recorder;
pub mod redact;
pub mod relay;
mod replace;
pub mod retry;
pub mod sealed;
mod splice;
pub mod split;
pub mod time;
pub mod watched;

#[cfg(test)]
#[path = "../../tests/support/mounted.rs"]
mod mounted;
#[cfg(test)]
#[path = "../../tests/support/skipped.rs"]
mod skipped;
