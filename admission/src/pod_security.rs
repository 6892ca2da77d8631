//! Pod Security: the Pod Security Standards, held to by the labels of namespaces.
//!
//! Rules, names and messages are those of Kubernetes 1.37.

mod checks;
pub(crate) mod configuration;
mod controller;
mod evaluate;
mod existing;
mod level;
mod policy;
#[cfg(test)]
mod tests;
mod update;
mod violation;

pub use configuration::{Exemptions, PodSecurityConfiguration};
pub use controller::PodSecurity;
pub use evaluate::{Evaluation, evaluate};
pub use level::{Level, LevelVersion, ParseError, Version};
pub use policy::{LABEL_PREFIX, LabelError, Policy};
pub use violation::Violation;
