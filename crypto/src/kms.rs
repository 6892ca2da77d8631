//! Keys that never leave a KMS: it wraps data keys, under which the values lie.

pub(crate) mod aws;
mod cache;
pub(crate) mod envelope;
pub(crate) mod key_file;
pub(crate) mod plugin;
pub(crate) mod plugin_v1;
pub(crate) mod provider;
pub(crate) mod serve;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::secret::KeyBytes;

/// The messages of the protocol and of what is stored.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the .proto files"
)]
pub(crate) mod wire {
    tonic::include_proto!("v2");
}

/// The messages of version 1.
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the .proto files; its server is for tests"
)]
pub(crate) mod wire_v1 {
    tonic::include_proto!("v1beta1");
}

/// A key management service, as version 2 of the KMS protocol has it.
///
/// Laws: what [`Kms::encrypt`] wrapped, [`Kms::decrypt`] gives back as long as the service knows the key, after any
/// restart and on any instance; changed bytes, key ids or annotations are refused. [`Kms::status`] names the key that
/// `encrypt` uses from then on. Calls may come at once from several tasks. A bound on their time is the caller's.
#[async_trait]
pub trait Kms: Send + Sync {
    /// How the service is, and under which key it wraps.
    ///
    /// # Errors
    /// When the service does not answer.
    async fn status(&self) -> Result<Status, KmsError>;

    /// Wraps a data key. `uid` names the call in the logs of both sides.
    ///
    /// # Errors
    /// When the service does not answer, or refuses.
    async fn encrypt(&self, uid: &str, key: &KeyBytes) -> Result<Wrapped, KmsError>;

    /// Unwraps a data key.
    ///
    /// # Errors
    /// When the service does not answer, or refuses.
    async fn decrypt(&self, uid: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError>;
}

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The protocol: `v2`, or `v2beta1`, which is the same.
    pub version: String,
    /// `ok`, or what is wrong.
    pub healthz: String,
    /// The key that wraps now.
    pub key_id: String,
}

/// A data key that only the service can unwrap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrapped {
    /// The wrapped key, 1 to 1024 bytes.
    pub ciphertext: Vec<u8>,
    /// The service's key, 1 to 1024 bytes.
    pub key_id: String,
    /// What else the service wants to see again.
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The service is not there.
    #[error("the KMS is not reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("the KMS did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// It answered with an error.
    #[error("the KMS refused: {0}")]
    Refused(String),
}
