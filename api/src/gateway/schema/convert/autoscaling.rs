//! HorizontalPodAutoscalers of v1 and v2. What v1 cannot say is kept in an annotation while an object has that form.

use serde_json::{Map, Value, json};

/// Holds what only v2 has. Upstream has four annotations of its own for it, in the form of an older version.
const KEPT: &str = "muniment.io/autoscaling-v2";

type Object = Map<String, Value>;

pub(super) fn to_v2(autoscaler: &mut Object) {
    let kept = take_kept(autoscaler);
    let part = |name: &str| kept.get(name).cloned().unwrap_or(Value::Null);
    if let Some(spec) = inner(autoscaler, "spec") {
        let mut metrics = part("metrics").as_array().cloned().unwrap_or_default();
        if let Some(percent) = spec.shift_remove("targetCPUUtilizationPercentage") {
            match metrics.iter_mut().find(|metric| target(metric).is_some()) {
                Some(metric) => metric["resource"]["target"]["averageUtilization"] = percent,
                None => metrics.push(json!({
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
                })),
            }
        } else {
            metrics.retain(|metric| target(metric).is_none());
        }
        spec.insert("metrics".to_owned(), Value::Array(metrics));
        spec.insert("behavior".to_owned(), part("behavior"));
    }
    if let Some(status) = inner(autoscaler, "status") {
        let percent = status.shift_remove("currentCPUUtilizationPercentage");
        let current = percent.map(|percent| {
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}])
        });
        let kept = part("currentMetrics");
        status.insert(
            "currentMetrics".to_owned(),
            if kept.is_null() { current.unwrap_or_default() } else { kept },
        );
        status.insert("conditions".to_owned(), part("conditions"));
    }
}

pub(super) fn to_v1(autoscaler: &mut Object) {
    take_kept(autoscaler);
    let mut kept = Map::new();
    if let Some(spec) = inner(autoscaler, "spec") {
        let metrics = spec.shift_remove("metrics").unwrap_or_default();
        let list = metrics.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(percent) = list.iter().find_map(target) {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent.clone());
        }
        if list.len() > 1 || list.iter().any(|metric| target(metric).is_none()) {
            kept.insert("metrics".to_owned(), metrics);
        }
        keep(spec, "behavior", &mut kept);
    }
    if let Some(status) = inner(autoscaler, "status") {
        let metrics = status.get("currentMetrics").and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(percent) = metrics.iter().find_map(current) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent.clone());
        }
        match metrics.as_slice() {
            [metric] if plain_current(metric) => drop(status.shift_remove("currentMetrics")),
            _ => keep(status, "currentMetrics", &mut kept),
        }
        keep(status, "conditions", &mut kept);
    }
    if !kept.is_empty()
        && let Some(metadata) = inner(autoscaler, "metadata")
        && let Value::Object(annotations) = metadata.entry("annotations").or_insert_with(|| json!({}))
    {
        annotations.insert(KEPT.to_owned(), Value::String(Value::Object(kept).to_string()));
    }
}

fn inner<'o>(object: &'o mut Object, member: &str) -> Option<&'o mut Object> {
    object.get_mut(member).and_then(Value::as_object_mut)
}

fn take_kept(autoscaler: &mut Object) -> Object {
    let Some(metadata) = inner(autoscaler, "metadata") else { return Object::new() };
    let Some(annotations) = inner(metadata, "annotations") else { return Object::new() };
    let kept = annotations.shift_remove(KEPT);
    if annotations.is_empty() {
        metadata.shift_remove("annotations");
    }
    kept.as_ref().and_then(Value::as_str).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn keep(object: &mut Object, member: &str, kept: &mut Object) {
    if let Some(value) = object.shift_remove(member).filter(|value| !value.is_null()) {
        kept.insert(member.to_owned(), value);
    }
}

/// The percentage of a metric that v1 knows.
fn target(metric: &Value) -> Option<&Value> {
    (metric["type"] == "Resource" && metric["resource"]["name"] == "cpu")
        .then(|| &metric["resource"]["target"]["averageUtilization"])
        .filter(|percent| !percent.is_null())
}

fn current(metric: &Value) -> Option<&Value> {
    (metric["type"] == "Resource" && metric["resource"]["name"] == "cpu")
        .then(|| &metric["resource"]["current"]["averageUtilization"])
        .filter(|percent| !percent.is_null())
}

/// Whether v1 says all that this metric does.
fn plain_current(metric: &Value) -> bool {
    current(metric).is_some()
        && metric["resource"]["current"].as_object().is_some_and(|current| current.len() == 1)
}
