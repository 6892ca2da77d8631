//! Cells of what runs pods, and of what counts and scales them.

use serde_json::Value;

use super::{
    age,
    cells::{self, NONE, UNKNOWN, UNSET, View},
};

const CONTAINERS: &str = "/spec/template/spec/containers";
const JOB_CONTAINERS: &str = "/spec/jobTemplate/spec/template/spec/containers";

/// Metrics of an autoscaler that are shown.
const MAX_METRICS: usize = 2;

pub(super) fn containers(view: &View<'_>) -> String {
    view.texts(CONTAINERS, "/name")
}

pub(super) fn images(view: &View<'_>) -> String {
    view.texts(CONTAINERS, "/image")
}

pub(super) fn job_containers(view: &View<'_>) -> String {
    view.texts(JOB_CONTAINERS, "/name")
}

pub(super) fn job_images(view: &View<'_>) -> String {
    view.texts(JOB_CONTAINERS, "/image")
}

pub(super) fn template_containers(view: &View<'_>) -> String {
    view.texts("/template/spec/containers", "/name")
}

pub(super) fn template_images(view: &View<'_>) -> String {
    view.texts("/template/spec/containers", "/image")
}

pub(super) fn template_labels(view: &View<'_>) -> String {
    cells::labels(view.at("/template/metadata/labels"))
}

pub(super) fn selector(view: &View<'_>) -> String {
    cells::selector(view.at("/spec/selector"))
}

pub(super) fn selector_or_none(view: &View<'_>) -> String {
    cells::selector_or_none(view.at("/spec/selector"))
}

pub(super) fn job_selector(view: &View<'_>) -> String {
    cells::selector_or_none(view.at("/spec/jobTemplate/spec/selector"))
}

/// A selector that is labels and nothing else.
pub(super) fn plain_selector(view: &View<'_>) -> String {
    cells::labels(view.at("/spec/selector"))
}

pub(super) fn node_selector(view: &View<'_>) -> String {
    cells::labels(view.at("/spec/template/spec/nodeSelector"))
}

pub(super) fn ready(view: &View<'_>) -> String {
    format!("{}/{}", view.int("/status/readyReplicas"), view.int("/spec/replicas"))
}

/// The owner that controls it.
pub(super) fn controller(view: &View<'_>) -> String {
    let mut owners = view.each("/metadata/ownerReferences");
    let Some(owner) = owners.find(|owner| owner.flag("/controller")) else { return NONE.to_owned() };
    let kind = owner.text("/kind").to_lowercase();
    let group = owner.text("/apiVersion").split_once('/').map_or("", |(group, _)| group).to_lowercase();
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", owner.text("/name"))
}

pub(super) fn job_status(view: &View<'_>) -> String {
    let is = |condition: &str| view.condition(condition) == "True";
    let status = match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if view.is_deleting() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    status.to_owned()
}

pub(super) fn completions(view: &View<'_>) -> String {
    let done = view.int("/status/succeeded");
    match (view.at("/spec/completions").as_i64(), view.int("/spec/parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, 0 | 1) => format!("{done}/1"),
        (None, at_once) => format!("{done}/1 of {at_once}"),
    }
}

pub(super) fn duration(view: &View<'_>) -> String {
    let at = |pointer| age::micros(view.text(pointer));
    let Some(begun) = at("/status/startTime") else { return String::new() };
    age::span(at("/status/completionTime").unwrap_or(view.now.micros()) - begun)
}

pub(super) fn is_suspended(view: &View<'_>) -> String {
    let word = match view.at("/spec/suspend") {
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        _ => UNSET,
    };
    word.to_owned()
}

pub(super) fn last_schedule(view: &View<'_>) -> String {
    if view.has("/status/lastScheduleTime") {
        view.since("/status/lastScheduleTime")
    } else {
        NONE.to_owned()
    }
}

pub(super) fn min_available(view: &View<'_>) -> String {
    int_or_text(view.at("/spec/minAvailable"), "N/A")
}

pub(super) fn max_unavailable(view: &View<'_>) -> String {
    int_or_text(view.at("/spec/maxUnavailable"), "N/A")
}

fn int_or_text(value: &Value, nothing: &str) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => nothing.to_owned(),
        number => number.to_string(),
    }
}

pub(super) fn scale_target(view: &View<'_>) -> String {
    format!("{}/{}", view.text("/spec/scaleTargetRef/kind"), view.text("/spec/scaleTargetRef/name"))
}

pub(super) fn min_pods(view: &View<'_>) -> String {
    int_or_text(view.at("/spec/minReplicas"), UNSET)
}

pub(super) fn metrics(view: &View<'_>) -> String {
    let specs = view.list("/spec/metrics");
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let statuses = view.list("/status/currentMetrics");
    let mut texts: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(n, spec)| metric(spec, statuses.get(n).unwrap_or(&Value::Null)))
        .collect();
    let more = texts.len().saturating_sub(MAX_METRICS);
    texts.truncate(MAX_METRICS);
    let shown = texts.join(", ");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}

/// What is measured and what is wanted of one metric.
fn metric(spec: &Value, status: &Value) -> String {
    let ty = spec["type"].as_str().unwrap_or_default();
    let member = match ty {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[member]["target"], &status[member]["current"]);
    let measured = |key: &str| match &current[key] {
        Value::Null if current.is_null() || key == "averageUtilization" => UNKNOWN.to_owned(),
        value => int_or_text(value, "0"),
    };
    match ty {
        "External" | "Object" if target["averageValue"].is_null() => {
            format!("{}/{}", measured("value"), cells::quantity(&target["value"]))
        }
        "External" | "Object" => {
            let measured =
                if current["averageValue"].is_null() { UNKNOWN.to_owned() } else { measured("averageValue") };
            format!("{measured}/{} (avg)", cells::quantity(&target["averageValue"]))
        }
        "Pods" => format!("{}/{}", measured("averageValue"), cells::quantity(&target["averageValue"])),
        _ => {
            let name = spec[member]["name"].as_str().unwrap_or_default();
            if !target["averageValue"].is_null() {
                let wanted = cells::quantity(&target["averageValue"]);
                return format!("{name}: {}/{wanted}", measured("averageValue"));
            }
            let percent = |value: &Value, nothing: &str| {
                value.as_i64().map_or_else(|| nothing.to_owned(), |n| format!("{n}%"))
            };
            let measured = percent(&current["averageUtilization"], UNKNOWN);
            format!("{name}: {measured}/{}", percent(&target["averageUtilization"], "<auto>"))
        }
    }
}
