//! `status.phase=Running,spec.nodeName!=a`: the few fields that a resource can be selected by (Kubernetes 1.36).

use std::borrow::Cow;

use serde_json::Value;

/// All of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    is_equal: bool,
    value: String,
}

/// Why a field selector is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// Neither `=`, `==` nor `!=` stands in it.
    #[error("invalid selector: {selector:?}; can't understand {term:?}")]
    NoOperator {
        /// The whole selector.
        selector: String,
        /// The part.
        term: String,
    },
    /// The resource cannot be selected by it.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

/// Fields besides `metadata.name` and `metadata.namespace`.
fn selectable(group: &str, resource: &str) -> &'static [&'static str] {
    match (group, resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads a selector for a resource.
    ///
    /// # Errors
    /// When it is not understood, or the resource cannot be selected by a field of it.
    pub fn parse(selector: &str, group: &str, resource: &str) -> Result<Self, FieldSelectorError> {
        let known = selectable(group, resource);
        let mut terms = Vec::new();
        for term in split(selector) {
            let (field, is_equal, value) = operator(term).ok_or_else(|| FieldSelectorError::NoOperator {
                selector: selector.to_owned(),
                term: term.to_owned(),
            })?;
            if !matches!(field, "metadata.name" | "metadata.namespace") && !known.contains(&field) {
                return Err(FieldSelectorError::Unsupported(field.to_owned()));
            }
            terms.push(Term { field: field.to_owned(), is_equal, value: unescape(value) });
        }
        Ok(Self(terms))
    }

    /// Whether nothing must hold.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object is as this says. A field that is not there is empty.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| (value_of(object, &term.field) == term.value) == term.is_equal)
    }
}

/// Commas separate, unless a backslash stands before them.
fn split(selector: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    selector
        .split(move |c| {
            let separates = c == ',' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            separates
        })
        .filter(|term| !term.is_empty())
}

fn operator(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find('=')?;
    if let Some(field) = term[..at].strip_suffix('!') {
        return Some((field, false, &term[at + 1..]));
    }
    let value = &term[at + 1..];
    Some((&term[..at], true, value.strip_prefix('=').unwrap_or(value)))
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

fn value_of<'o>(object: &'o Value, field: &str) -> Cow<'o, str> {
    let at = |pointer: &str| match object.pointer(pointer) {
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Value::Bool(b)) => Cow::Owned(b.to_string()),
        Some(Value::Number(n)) => Cow::Owned(n.to_string()),
        _ => Cow::Borrowed(""),
    };
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => match at(&pointer(field)) {
            value if value.is_empty() => Cow::Borrowed("false"),
            value => value,
        },
        "status.replicas" | "status.successful" => {
            let field = if field == "status.successful" { "status.succeeded" } else { field };
            match at(&pointer(field)) {
                value if value.is_empty() => Cow::Borrowed("0"),
                value => value,
            }
        }
        "status.podIPs" => at("/status/podIPs/0/ip"),
        "source" => match at("/source/component") {
            value if value.is_empty() => at("/reportingComponent"),
            value => value,
        },
        _ => at(&pointer(field)),
    }
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str) -> bool {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "shop" },
            "spec": { "nodeName": "n1" },
            "status": { "phase": "Running" },
        });
        FieldSelector::parse(selector, "", "pods").unwrap().matches(&pod)
    }

    #[test]
    fn fields_are_compared_and_absent_ones_are_empty() {
        for yes in [
            "",
            "metadata.name=p",
            "metadata.name==p,spec.nodeName=n1",
            "status.phase!=Failed",
            "spec.schedulerName=",
            "spec.hostNetwork=false",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "metadata.name=q",
            "status.phase!=Running",
            "spec.schedulerName=x",
            "metadata.name=p,metadata.namespace=other",
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn a_field_that_nothing_is_selected_by_is_an_error() {
        let error = FieldSelector::parse("spec.replicas=1", "apps", "deployments").unwrap_err();
        assert_eq!(error.to_string(), "field label not supported: spec.replicas");
        assert!(FieldSelector::parse("metadata.name", "", "pods").is_err());
    }

    #[test]
    fn escaped_commas_belong_to_the_value() {
        let event = json!({ "reason": "a,b" });
        assert!(FieldSelector::parse(r"reason=a\,b", "", "events").unwrap().matches(&event));
    }
}
