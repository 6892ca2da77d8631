//! What a stricter label means for the Pods that run already: warnings, never a refusal.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{evaluate::evaluate, level::LevelVersion};
use crate::{pod::Pod, quote::Quoted};

/// Pods that are looked at for one label: more would hold up the request.
const MAX_PODS: usize = 3000;

/// Time that is spent on them at most.
pub(super) const MAX_TIME: Duration = Duration::from_secs(1);

/// Pods that are looked at before others get their turn on the thread.
const TURN: usize = 64;

/// The Pods with one set of violations.
struct Alike<'a> {
    first: &'a str,
    count: usize,
}

/// The warnings for the Pods of a namespace, before a point in time.
pub(super) async fn warnings(
    namespace: &str,
    pods: &[Arc<Value>],
    enforce: LevelVersion,
    is_exempt: impl Fn(&str) -> bool,
    until: Instant,
) -> Vec<String> {
    let pods = in_order(pods, is_exempt);
    let mut checked = 0;
    let mut alike: BTreeMap<String, Alike<'_>> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        checked += 1;
        note(&mut alike, pod, enforce);
        if Instant::now() >= until {
            break;
        }
        if checked % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut warnings = Vec::new();
    if checked < pods.len() {
        let all = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
        ));
    }
    if !alike.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level \"{enforce}\"",
            Quoted(namespace)
        ));
    }
    let mut lines: Vec<_> = alike.iter().map(|(reasons, alike)| line(reasons, alike)).collect();
    lines.sort_unstable();
    warnings.append(&mut lines);
    warnings
}

fn note<'a>(alike: &mut BTreeMap<String, Alike<'a>>, pod: &'a Value, enforce: LevelVersion) {
    // What is stored was valid when it came: only a kind of Pod that is newer than this program is passed by.
    let Ok(view) = Pod::of(pod) else { return };
    let evaluation = evaluate(enforce, &view);
    if evaluation.is_allowed() {
        return;
    }
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let entry = alike.entry(evaluation.reasons()).or_insert(Alike { first: name, count: 0 });
    entry.first = entry.first.min(name);
    entry.count += 1;
}

fn line(reasons: &str, alike: &Alike<'_>) -> String {
    let first = alike.first;
    match alike.count {
        1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        n => format!("{first} (and {} other pods): {reasons}", n - 1),
    }
}

/// One Pod of each controller before the others of it: they are alike.
fn in_order(pods: &[Arc<Value>], is_exempt: impl Fn(&str) -> bool) -> Vec<&Value> {
    let mut controllers = HashSet::new();
    let mut others = Vec::new();
    let mut first = Vec::new();
    for pod in pods {
        let class = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str);
        if class.is_some_and(&is_exempt) {
            continue;
        }
        if controller(pod).is_none_or(|uid| controllers.insert(uid)) {
            first.push(&**pod);
        } else {
            others.push(&**pod);
        }
    }
    first.append(&mut others);
    first
}

fn controller(pod: &Value) -> Option<&str> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}
