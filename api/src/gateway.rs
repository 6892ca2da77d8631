//! The gateway: a Kubernetes API that authenticates, authorizes, limits, stores and audits what clients ask for.

pub mod authz;
pub mod negotiate;
pub mod object;
pub mod request;
pub mod resources;
pub mod schema;
pub mod selectors;
pub mod status;
pub mod store;
pub mod stored;
pub mod user;
