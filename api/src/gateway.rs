//! The gateway: a Kubernetes API that authenticates, authorizes, limits, stores and audits what clients ask for.

pub mod answer;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod discovery;
pub(crate) mod entry;
pub mod impersonation;
pub mod limits;
pub mod negotiate;
pub mod object;
pub mod registry;
pub mod request;
pub mod resources;
pub mod schema;
pub mod selectors;
pub mod serve;
pub mod status;
pub mod store;
pub mod stored;
pub mod strategy;
pub mod tables;
pub mod user;
pub mod verbs;
