//! Objects from one version to another, where two versions of a kind share what is stored.

use serde_json::{Map, Value};

use super::{TypeId, decode, decode::DecodeError, schema};

mod autoscaling;
mod events;

/// An object that has the form of one version, in the form of another, under its kind and apiVersion. A kind whose
/// versions have the same members, or the same version, only changes its apiVersion.
///
/// # Errors
/// A version that the kind does not have, or members that it does not take.
pub fn convert(object: &Map<String, Value>, to: (&str, &str)) -> Result<Map<String, Value>, DecodeError> {
    let text = |member: &str| object.get(member).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let from = api_version.split_once('/').unwrap_or(("", api_version));
    let ty = target(to, kind)?;
    if from == to {
        return Ok(object.clone());
    }
    let mut next = object.clone();
    match (from, to, kind) {
        (("events.k8s.io", _), ("", _), "Event") => events::to_core(&mut next),
        (("", _), ("events.k8s.io", _), "Event") => events::from_core(&mut next),
        ((_, "v1"), ("autoscaling", "v2"), "HorizontalPodAutoscaler") => autoscaling::to_v2(&mut next),
        ((_, "v2"), ("autoscaling", "v1"), "HorizontalPodAutoscaler") => autoscaling::to_v1(&mut next),
        _ => {}
    }
    let api_version = if to.0.is_empty() { to.1.to_owned() } else { format!("{}/{}", to.0, to.1) };
    next.insert("apiVersion".to_owned(), Value::String(api_version));
    Ok(decode::value(ty, &next)?.object)
}

fn target((group, version): (&str, &str), kind: &str) -> Result<TypeId, DecodeError> {
    let unknown =
        || DecodeError::Type(format!("no kind {kind:?} is registered for version {group}/{version}"));
    schema().kind(group, version, kind).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both_ways(stored: (&str, &str), other: (&str, &str), theirs: &Value, expected: &Value) {
        let converted = convert(theirs.as_object().unwrap(), stored).unwrap();
        assert_eq!(&Value::Object(converted.clone()), expected);
        let back = convert(&converted, other).unwrap();
        assert_eq!(&Value::Object(back), theirs);
    }

    #[test]
    fn an_event_is_one_event_in_both_groups() {
        let theirs = json!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e"},
            "eventTime": "2026-11-24T00:00:00.000000Z", "reportingController": "a/b", "reportingInstance": "i",
            "action": "x", "reason": "R", "regarding": {"kind": "Pod", "name": "p"}, "note": "n", "type": "Normal",
            "series": {"count": 2, "lastObservedTime": "2026-11-24T00:00:00.000000Z"},
            "deprecatedSource": {"component": "c"}, "deprecatedCount": 3,
            "deprecatedFirstTimestamp": "2026-11-24T00:00:00Z", "deprecatedLastTimestamp": null,
        });
        let expected = json!({
            "kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "message": "n",
            "source": {"component": "c"}, "firstTimestamp": "2026-11-24T00:00:00Z", "lastTimestamp": null, "count": 3,
            "type": "Normal", "eventTime": "2026-11-24T00:00:00.000000Z",
            "series": {"count": 2, "lastObservedTime": "2026-11-24T00:00:00.000000Z"},
            "action": "x", "reportingComponent": "a/b", "reportingInstance": "i",
        });
        both_ways(("", "v1"), ("events.k8s.io", "v1"), &theirs, &expected);
    }

    #[test]
    fn an_autoscaler_by_cpu_is_the_same_in_both_versions() {
        let theirs = json!({
            "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "D", "name": "n"}, "minReplicas": 1, "maxReplicas": 3,
                "targetCPUUtilizationPercentage": 50},
            "status": {"currentReplicas": 0, "desiredReplicas": 0, "currentCPUUtilizationPercentage": 7},
        });
        let expected = json!({
            "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "D", "name": "n"}, "minReplicas": 1, "maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            ]},
            "status": {"desiredReplicas": 0, "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}},
            ]},
        });
        both_ways(("autoscaling", "v2"), ("autoscaling", "v1"), &theirs, &expected);
    }

    #[test]
    fn an_autoscaler_loses_nothing_in_the_version_that_cannot_say_it() {
        let stored = json!({
            "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "D", "name": "n"}, "maxReplicas": 3, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            ], "behavior": {"scaleUp": {"selectPolicy": "Min"}}},
            "status": {"desiredReplicas": 0, "currentMetrics": null,
                "conditions": [{"type": "ScalingActive", "status": "True"}]},
        });
        let v1 = convert(stored.as_object().unwrap(), ("autoscaling", "v1")).unwrap();
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        let back = convert(&v1, ("autoscaling", "v2")).unwrap();
        let mut expected = stored.clone();
        expected["status"]["conditions"][0]["lastTransitionTime"] = Value::Null;
        assert_eq!(Value::Object(back), expected);
        // A new target wins over the kept one, and the rest stays.
        let mut changed = v1;
        changed["spec"]["targetCPUUtilizationPercentage"] = json!(60);
        let next = convert(&changed, ("autoscaling", "v2")).unwrap();
        expected["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"] = json!(60);
        assert_eq!(next["spec"], expected["spec"]);
    }
}
