//! Charges that are made and whose objects may not be there yet, kept in an annotation of their quota: what the sums
//! hold beyond the objects that are stored.

use std::{collections::BTreeMap, sync::Arc};

use ::admission::{Charge, Quantity};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::gateway::object::Object;

/// Where they are kept. Only who keeps `status` may change it.
pub const ANNOTATION: &str = "muniment.io/quota-charges";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The start of a process that made it.
    pub boot: Arc<str>,
    /// The uid of the object that it was made for; none where it was made for a change of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What was added to the sums.
    pub used: BTreeMap<String, String>,
}

impl Pending {
    /// What is kept of a charge.
    pub(super) fn of(charge: &Charge, boot: &Arc<str>) -> Self {
        Self { boot: boot.clone(), object: charge.object.clone(), used: charge.delta.clone() }
    }
}

/// Those of a quota, by the request that each was made for. What cannot be read is none of ours.
pub fn read(quota: &Object) -> BTreeMap<String, Pending> {
    quota.annotation(ANNOTATION).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Writes them into a quota.
pub fn write(quota: &mut Object, pending: &BTreeMap<String, Pending>) {
    let metadata = quota.metadata_mut();
    if pending.is_empty() {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.shift_remove(ANNOTATION);
            if annotations.is_empty() {
                metadata.shift_remove("annotations");
            }
        }
        return;
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations[ANNOTATION] = serde_json::to_string(pending).unwrap_or_default().into();
}

/// Leaves them as they are in the stored quota, whatever a client sent.
pub fn retain(new: &mut Object, old: Option<&Object>) {
    if let Some(kept) = old.and_then(|old| old.annotation(ANNOTATION)) {
        let annotations = new.metadata_mut().entry("annotations").or_insert_with(|| json!({}));
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = kept.into();
    } else {
        write(new, &BTreeMap::new());
    }
}

/// Takes what was charged off the sums. An amount that cannot be read stays until the next count.
pub(super) fn take_off(quota: &mut Object, charged: &BTreeMap<String, String>) {
    let Some(used) = quota.members_mut().get_mut("status").and_then(|status| status["used"].as_object_mut())
    else {
        return;
    };
    for (name, amount) in charged {
        let (Some(before), Ok(amount)) = (used.get(name), amount.parse::<Quantity>()) else { continue };
        if let Ok(before) = Quantity::of(before) {
            used.insert(name.clone(), before.minus(amount).to_string().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_kept_beside_other_annotations_and_leave_no_trace() {
        let bare = json!({"metadata": {"name": "q"}});
        let mut quota = Object::new(bare.clone()).unwrap();
        let used = BTreeMap::from([("pods".to_owned(), "1".to_owned())]);
        let one = Pending { boot: "b".into(), object: Some("u".into()), used };
        let all = BTreeMap::from([("r".to_owned(), one)]);
        write(&mut quota, &all);
        assert_eq!(read(&quota), all);
        let mut sent =
            Object::new(json!({"metadata": {"name": "q", "annotations": {"a": "b", ANNOTATION: "{}"}}}));
        let sent = sent.as_mut().unwrap();
        retain(sent, Some(&quota));
        assert_eq!((read(sent), sent.annotation("a")), (all, Some("b")));
        write(&mut quota, &BTreeMap::new());
        assert_eq!(quota.into_value(), bare);
        retain(sent, None);
        assert_eq!((sent.annotation(ANNOTATION), sent.annotation("a")), (None, Some("b")));
    }

    #[test]
    fn what_was_charged_is_taken_off() {
        let mut quota =
            Object::new(json!({"metadata": {}, "status": {"used": {"pods": "3", "requests.cpu": "1500m"}}}));
        let quota = quota.as_mut().unwrap();
        let charged = [("pods", "1"), ("requests.cpu", "1"), ("gone", "1")];
        take_off(quota, &charged.map(|(name, amount)| (name.to_owned(), amount.to_owned())).into());
        assert_eq!(quota.at("/status/used"), Some(&json!({"pods": "2", "requests.cpu": "500m"})));
    }
}
