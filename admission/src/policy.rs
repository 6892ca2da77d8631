//! Policies in CEL, as `admissionregistration.k8s.io/v1` has them.

mod apart;
mod condition;
mod configuration;
mod decide;
mod meant;
mod mutating;
mod params;
mod rules;
mod subject;
#[cfg(test)]
mod tests;
mod validating;

pub use configuration::{Configuration, Configured};

#[cfg(test)]
pub(crate) use apart::STACK_BYTES;
pub(crate) use apart::apart;
pub(crate) use condition::{Compiled, StoredCondition, all_hold, compiled};
pub(crate) use configuration::failure_policy;
pub(crate) use mutating::MutatingAdmissionPolicy;
pub(crate) use subject::{converted, subject, user};
pub(crate) use validating::ValidatingAdmissionPolicy;
