//! Encryption at rest, byte-compatible with kube-apiserver.
//!
//! A configuration in kube-apiserver's format says which resources are encrypted, by which providers and under which
//! keys. [`EncryptionTransformer`] turns values into what is stored and back:
//!
//! ```
//! use crypto::{EncryptionConfig, EncryptionTransformer};
//!
//! let config = EncryptionConfig::from_bytes(
//!     br#"
//! apiVersion: apiserver.config.k8s.io/v1
//! kind: EncryptionConfiguration
//! resources:
//! - resources: [secrets]
//!   providers:
//!   - aesgcm:
//!       keys:
//!       - {name: key2, secret: MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGY=}
//!       - {name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}
//!   - identity: {}
//! "#,
//!     false,
//! )?;
//! let transformer = EncryptionTransformer::from_config(config)?;
//!
//! let stored = transformer.encrypt_for_resource("secrets", b"password")?;
//! assert!(stored.starts_with(b"k8s:enc:aesgcm:v1:key2:"));
//! let value = transformer.decrypt_for_resource("secrets", &stored)?;
//! assert_eq!(*value.bytes, *b"password");
//! assert!(!value.stale);
//!
//! // A value in the clear is read by the second provider; it is stale, for the first one would write another.
//! assert!(transformer.decrypt_for_resource("secrets", b"password")?.stale);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A store binds each value to its place: what lies under another key of etcd is refused by the providers that can
//! tell (aesgcm and kms).
//!
//! ```
//! # let config = crypto::EncryptionConfig::from_bytes(
//! #     b"{apiVersion: v1, kind: EncryptionConfig, resources: [{resources: [secrets], providers: [
//! #       {aesgcm: {keys: [{name: key1, secret: c2VjcmV0IGlzIHNlY3VyZQ==}]}}]}]}", false)?;
//! # let transformer = crypto::EncryptionTransformer::from_config(config)?;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let stored = transformer.transform_to_storage("secrets", "/registry/secrets/default/a", b"password")?;
//! let value = transformer.transform_from_storage("secrets", "/registry/secrets/default/a", &stored).await?;
//! assert_eq!(*value.bytes, *b"password");
//! assert!(transformer.transform_from_storage("secrets", "/registry/secrets/default/b", &stored).await.is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! There is no fallback: what a configuration asks for and cannot be had is an error, when the transformer is made
//! or when a value is written. Keys are cleared when dropped, never shown, and compared in constant time.
//!
//! The crate knows nothing of HTTP or of a store. Its only I/O is the calls to a KMS ([`Kms`]), and it starts no tasks.

pub mod config;
mod kms;
mod label;
mod provider;
pub mod resource;
mod secret;
mod seed;
mod tag;
mod transformer;

pub use config::{EncryptionConfig, LoadError, Readers};
pub use kms::{
    Kms, KmsError, Status, Wrapped,
    aws::{AwsError, AwsKms, AwsOptions},
    envelope::{EnvelopeError, Source},
    key_file::{KeyFile, KeyFileError},
    plugin::Plugin,
    provider::{KmsProvider, ProbeError, WriteError},
    serve::serve,
};
pub use label::{Label, label};
pub use provider::{Attempt, Reason};
pub use secret::{KeyBytes, RandomError};
pub use seed::Seed;
pub use tag::KeyTag;
pub use transformer::{BODIES, BuildError, DecryptError, EncryptError, EncryptionTransformer, Plain};
