//! Kubernetes' protobuf: bodies of kubectl, frames of watches, and what kube-apiserver keeps in etcd.

pub mod decode;
pub mod encode;
pub mod envelope;
#[cfg(test)]
mod samples;
mod tail;
mod wire;
