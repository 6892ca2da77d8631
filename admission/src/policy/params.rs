//! The parameters of a policy, as a binding names them.

use std::sync::Arc;

use serde_json::Value;

use super::configuration::ParamRef;
use crate::{
    cluster::{ClusterState, Scope},
    request::GroupVersionKind,
};

/// That there is no such kind of parameters.
pub(super) fn unknown(kind: &GroupVersionKind) -> String {
    let GroupVersionKind { group, version, kind } = kind;
    format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")
}

/// What a policy is evaluated with, once for each; none is an evaluation without parameters. An empty list is none at
/// all.
///
/// # Errors
/// A sentence about what cannot be had.
pub(super) async fn params(
    kind: Option<&GroupVersionKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    state: &dyn ClusterState,
) -> Result<Vec<Option<Arc<Value>>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let scope = state.scope(kind).ok_or_else(|| unknown(kind))?;
    let namespace = match (scope, reference.namespace.as_str()) {
        (Scope::Cluster, "") => "",
        (Scope::Cluster, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (Scope::Namespaced, "") if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (Scope::Namespaced, "") => namespace,
        (Scope::Namespaced, named) => named,
    };
    let name = Some(reference.name.as_str()).filter(|name| !name.is_empty());
    let found = state.objects(kind, namespace, name).await.map_err(|error| error.to_string())?;
    let selector = reference.selector.as_ref().filter(|_| name.is_none());
    let is_meant =
        |object: &Value| selector.is_none_or(|selector| selector.matches(&object["metadata"]["labels"]));
    let found: Vec<_> = found.into_iter().filter(|object| is_meant(object)).map(Some).collect();
    if found.is_empty() && reference.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}
