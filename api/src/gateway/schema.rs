//! What Kubernetes' own kinds look like: one table of types that protobuf, JSON decoding and patches go by.

pub mod canonical;
pub mod convert;
pub mod decode;
pub mod defaults;
pub mod patch;
pub mod protobuf;
pub mod scalar;
pub mod table;

pub use table::{Field, ListType, Schema, Shape, Type, TypeId, schema};
