//! Policies in CEL, as `admissionregistration.k8s.io/v1` has them.

mod apart;
mod condition;
mod configuration;
mod decide;
mod params;
mod subject;
#[cfg(test)]
mod tests;
mod validating;

pub use configuration::{Configuration, Configured};

#[cfg(test)]
pub(crate) use apart::STACK_BYTES;
pub(crate) use validating::ValidatingAdmissionPolicy;
