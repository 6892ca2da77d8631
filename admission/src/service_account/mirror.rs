//! Mirror Pods, which a node reports: they are left as they are, and may use nothing of an account.

use serde_json::Value;

use super::{account_name, secrets};
use crate::Denial;

/// Whether a node reports the Pod.
pub(super) fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null()
}

/// Refuses what a mirror Pod may not use.
pub(super) fn check(pod: &Value) -> Result<(), Denial> {
    if !account_name(pod).is_empty() {
        return Err("a mirror pod may not reference service accounts".into());
    }
    if secrets::uses_any(pod) {
        return Err("a mirror pod may not reference secrets".into());
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    if sources.into_iter().any(|source| !source["serviceAccountToken"].is_null()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections".into());
    }
    Ok(())
}
