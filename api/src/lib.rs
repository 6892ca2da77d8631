//! The HTTP surface: intake, queries, tokens, health, metrics. It knows which backends are behind the traits of
//! `ingest` as little as its callers do.

pub mod access;
mod asked;
pub mod audit_webhook;
pub mod bodies;
pub mod cluster;
pub mod completeness;
mod connections;
mod early;
pub mod errors;
pub mod events;
mod fetched;
pub mod gateway;
pub mod health;
pub mod histogram;
pub mod intake;
pub mod keys;
pub mod kubeconfig;
pub mod later;
pub mod metrics;
pub mod prometheus;
pub mod rebuild;
pub mod reviews;
pub mod routes;
pub mod search;
pub mod server;
pub mod tail;
pub mod tls;
pub mod token_routes;
pub mod tokens;
mod when;

#[cfg(test)]
#[path = "../../tests/support/skipped.rs"]
mod skipped;
