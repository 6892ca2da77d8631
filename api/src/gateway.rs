//! The gateway: a Kubernetes API that authenticates, authorizes, limits, stores and audits what clients ask for.

pub mod request;
pub mod selectors;
pub mod status;
