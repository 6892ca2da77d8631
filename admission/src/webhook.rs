//! Webhooks that a cluster asks before it stores something, as `admissionregistration.k8s.io/v1` has them.

mod client;
mod configuration;
mod hearing;
mod mutating;
mod review;
mod validating;

pub use client::{CallError, ServiceReference, WebhookClient, WebhookTarget};
pub use review::Memory;

pub(crate) use configuration::{Webhook, webhooks};
pub(crate) use mutating::MutatingAdmissionWebhook;
pub(crate) use validating::ValidatingAdmissionWebhook;
