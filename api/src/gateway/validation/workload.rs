//! What makes Pods from a template.

use serde_json::Value;

use super::{At, fault::Faults, names, pod};
use crate::gateway::{object::Object, selectors::LabelSelector, tables};

pub(super) fn check(plural: &str, spec: At<'_>, faults: &mut Faults) {
    faults.not_negative("spec.replicas", spec.int("replicas"));
    let selector = spec.get("selector");
    let kind = plural.trim_end_matches('s');
    if !selector.is_there() {
        // Upstream takes a DaemonSet's for an empty one.
        if plural != "daemonsets" {
            faults.required("spec.selector", "");
        }
    } else {
        check_selector(selector, "spec.selector", faults);
        if selector.value.as_object().is_some_and(serde_json::Map::is_empty) {
            faults.invalid("spec.selector", selector.value, &format!("empty selector is invalid for {kind}"));
        }
    }
    check_match(selector, spec, faults);
    let template = spec.get("template").get("spec");
    pod::check(template, "spec.template.spec", faults);
    if !template.text("restartPolicy").is_empty() {
        faults.one_of("spec.template.spec.restartPolicy", template.text("restartPolicy"), &["Always"]);
    }
    if plural == "deployments" {
        let strategy = spec.get("strategy");
        let ty = strategy.text("type");
        if !matches!(ty, "Recreate" | "RollingUpdate") {
            faults.strategy("spec.strategy", ty);
        }
    }
    for key in ["minReadySeconds", "revisionHistoryLimit"] {
        faults.not_negative(&format!("spec.{key}"), spec.int(key));
    }
}

/// The selector must select the Pods that the template makes.
fn check_match(selector: At<'_>, spec: At<'_>, faults: &mut Faults) {
    let labels = pod::template_labels(spec);
    let is_empty = selector.value.as_object().is_some_and(serde_json::Map::is_empty);
    let read: Result<LabelSelector, _> = tables::selector(selector.value, false).parse();
    let is_meant = selector.is_there() && read.is_ok_and(|s| s.matches(Some(labels)));
    if !is_meant && !is_empty && !has_faults(selector) {
        let why = "`selector` does not match template `labels`";
        faults.invalid("spec.template.metadata.labels", labels, why);
    }
}

fn has_faults(selector: At<'_>) -> bool {
    let mut faults = Faults::default();
    check_selector(selector, "", &mut faults);
    !faults.into_causes().is_empty()
}

/// A label selector.
pub(super) fn check_selector(selector: At<'_>, path: &str, faults: &mut Faults) {
    names::labels(&format!("{path}.matchLabels"), selector.get("matchLabels").value, faults);
    for (n, value) in selector.list("matchExpressions").iter().enumerate() {
        let (term, at) = (At::of(value), format!("{path}.matchExpressions[{n}]"));
        let has_values = !term.list("values").is_empty();
        match term.text("operator") {
            "In" | "NotIn" if !has_values => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                faults.required(&format!("{at}.values"), why);
            }
            "Exists" | "DoesNotExist" if has_values => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                faults.forbidden(&format!("{at}.values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => faults.invalid_text(&format!("{at}.operator"), other, "not a valid selector operator"),
        }
        for why in names::qualified(term.text("key")) {
            faults.invalid_text(&format!("{at}.key"), term.text("key"), &why);
        }
    }
}

pub(super) fn job(spec: At<'_>, path: &str, faults: &mut Faults) {
    for key in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        faults.not_negative(&format!("{path}.{key}"), spec.int(key));
    }
    let template = spec.get("template").get("spec");
    let field = format!("{path}.template.spec");
    pod::check(template, &field, faults);
    if matches!(template.text("restartPolicy"), "" | "Always") {
        faults.required(&format!("{field}.restartPolicy"), "valid values: \"OnFailure\", \"Never\"");
    }
}

pub(super) fn cron_job(spec: At<'_>, faults: &mut Faults) {
    if spec.text("schedule").is_empty() {
        faults.required("spec.schedule", "");
    }
    faults.one_of("spec.concurrencyPolicy", spec.text("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    for key in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        faults.not_negative(&format!("spec.{key}"), spec.int(key));
    }
    job(spec.get("jobTemplate").get("spec"), "spec.jobTemplate.spec", faults);
}

/// What may change of a StatefulSet.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn unchanged_set(new: &Object, old: &Object, faults: &mut Faults) {
    let rest = |object: &Object| {
        let mut spec = object.at("/spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|key, _| !CHANGEABLE.contains(&key.as_str()));
        spec
    };
    if rest(new) != rest(old) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        faults.forbidden("spec", why);
    }
}
