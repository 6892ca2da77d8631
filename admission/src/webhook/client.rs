//! How webhooks are reached: the one thing that this crate leaves to whoever has a network.

use std::{fmt, time::Duration};

use async_trait::async_trait;

/// A service of the cluster, and a place on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port, 443 where nothing is said.
    pub port: u16,
    /// Where on it; `/` at least.
    pub path: String,
}

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WebhookTarget {
    /// At an address of its own, `https`.
    Url {
        /// The address.
        url: String,
        /// The certificates in PEM that it is known by; none are those of the system.
        authority: Option<String>,
    },
    /// At a service of the cluster, which is known as `NAME.NAMESPACE.svc`.
    Service {
        /// The service.
        service: ServiceReference,
        /// The certificates in PEM that it is known by; none are those of the system.
        authority: Option<String>,
    },
}

/// Why a webhook gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// Calls webhooks.
///
/// Laws: the answer is the body of a 200; it comes within the time, or is an error; it is no longer than a bound.
#[async_trait]
pub trait WebhookClient: fmt::Debug + Send + Sync + 'static {
    /// Posts a review, as JSON, and takes the answer.
    ///
    /// # Errors
    /// When there is no answer in time, or none that can be taken.
    async fn call(
        &self,
        target: &WebhookTarget,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError>;
}
