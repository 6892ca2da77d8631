//! Label and field selectors of lists, watches and bulk deletes.

mod fields;
mod labels;

use serde_json::Value;

pub use self::{
    fields::{FieldSelector, FieldSelectorError},
    labels::{LabelSelector, LabelSelectorError},
};
use super::{request::parameter, status::Status};

/// Which objects are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// By their labels.
    pub labels: LabelSelector,
    /// By the few fields that a resource can be selected by.
    pub fields: FieldSelector,
}

impl Selectors {
    /// Reads `labelSelector` and `fieldSelector` of a query about a resource.
    ///
    /// # Errors
    /// A 400 that says what was not understood.
    pub fn from_query(query: Option<&str>, group: &str, resource: &str) -> Result<Self, Status> {
        let labels = parameter(query, "labelSelector").unwrap_or_default();
        let fields = parameter(query, "fieldSelector").unwrap_or_default();
        Ok(Self {
            labels: labels.parse().map_err(|e: LabelSelectorError| {
                Status::bad_request(format!("unable to parse requirement: {e}"))
            })?,
            fields: FieldSelector::parse(&fields, group, resource)
                .map_err(|e| Status::bad_request(e.to_string()))?,
        })
    }

    /// Whether every object is meant.
    pub fn is_all(&self) -> bool {
        self.labels.is_all() && self.fields.is_all()
    }

    /// Whether this object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object.pointer("/metadata/labels")) && self.fields.matches(object)
    }
}
