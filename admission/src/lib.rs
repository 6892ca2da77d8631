//! Decides what enters a cluster, with Kubernetes' semantics and messages.
//!
//! A request goes through a chain of controllers. The built-in ones are those of kube-apiserver; yours implement the
//! same trait:
//!
//! ```
//! use std::sync::Arc;
//!
//! use admission::{
//!     AdmissionChain, AdmissionController, AdmissionRequest, AdmissionResponse, GroupVersionResource, Operation,
//!     PatchOp, PatchOperation,
//! };
//! use async_trait::async_trait;
//! use serde_json::json;
//!
//! struct Admitted;
//!
//! fn missing_owner(request: &AdmissionRequest) -> bool {
//!     request.object().is_some_and(|object| object.pointer("/metadata/labels/owner").is_none())
//! }
//!
//! #[async_trait]
//! impl AdmissionController for Admitted {
//!     fn name(&self) -> &str { "Admitted" }
//!     fn supports_operation(&self, op: &Operation) -> bool { matches!(op, Operation::Create | Operation::Update) }
//!     async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
//!         if missing_owner(request) { return AdmissionResponse::Deny("label owner is required".into()); }
//!         AdmissionResponse::AllowWithPatch(vec![PatchOperation { op: PatchOp::Add, path: "/metadata/labels/admitted".into(), value: Some(json!("true")), from: None }])
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let create = |labels: serde_json::Value| AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), json!({
//! #     "apiVersion": "v1", "kind": "Pod",
//! #     "metadata": {"name": "web", "namespace": "default", "labels": labels},
//! #     "spec": {"containers": [{"name": "app", "image": "app:1"}]},
//! # }));
//! # let request = create(json!({}));
//! let chain = AdmissionChain::new().with_built_in_controllers().with_controller(Arc::new(Admitted));
//! let response = chain.admit(&request).await;
//! if !response.is_allowed() { println!("denied: {}", response.deny_reason().unwrap()); }
//! # assert_eq!(response.deny_reason(), Some("pods \"web\" is forbidden: label owner is required"));
//! # let response = chain.admit(&create(json!({"owner": "shop"}))).await;
//! # assert_eq!(response.object.unwrap()["metadata"]["labels"], json!({"owner": "shop", "admitted": "true"}));
//! # }
//! ```
//!
//! The crate knows neither HTTP nor storage: it reads the cluster and charges quotas through [`ClusterState`].

mod built_in;
pub mod cel;
mod chain;
mod cluster;
mod configuration;
mod controller;
mod default_toleration_seconds;
mod denial;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod patch;
pub mod pod;
pub mod pod_security;
mod policy;
mod priority;
mod quantity;
mod quote;
mod request;
mod resource_quota;
mod response;
mod service_account;
mod webhook;

pub use built_in::{BUILT_IN, Settings};
pub use chain::{
    AdmissionChain, ControllerStatus, Decision, LONGEST_ADMISSION, Outcome, PluginError, Validation, Verdict,
};
pub use cluster::{Charge, Charged, ClusterState, Freshness, Kind, MemoryCluster, Scope, StateError};
pub use configuration::{AdmissionConfiguration, ConfigurationError};
pub use controller::{AdmissionController, COMPUTING, FailurePolicy, Phase, Phases, Reinvocation};
pub use denial::{Cause, Denial, Subject};
pub use patch::{PatchError, PatchOp, PatchOperation, apply};
pub use policy::{Configuration, Configured};
pub use quantity::{Quantity, QuantityError};
pub use request::{AdmissionRequest, GroupVersionKind, GroupVersionResource, Operation, UserInfo};
pub use resource_quota::Tally;
pub use response::{AdmissionResponse, Notes, PATCH_ANNOTATION};
pub use webhook::{CallError, Memory, ServiceReference, WebhookClient, WebhookTarget};
