//! What containers ask for and may take where they say nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::items;
use crate::{PatchOperation, patch::annotation, pod::resources::Side};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The changes of a Pod. Ranges fill what is missing one after another; the annotation tells of the last that did.
pub(super) fn patch(pod: &Value, ranges: &[Arc<Value>]) -> Vec<PatchOperation> {
    let mut filled = Filled::default();
    let mut told = None;
    for range in ranges {
        let defaults = Defaults::of(range);
        let mut words = Vec::new();
        for (list, called) in [("containers", "container"), ("initContainers", "init container")] {
            for (at, container) in pod["spec"][list].as_array().into_iter().flatten().enumerate() {
                let resources = filled.entry((list, at)).or_insert_with(|| Resources::of(container));
                let name = container["name"].as_str().unwrap_or_default();
                resources.fill(&defaults, &format!("{called} {name}"), &mut words);
            }
        }
        if !words.is_empty() {
            told = Some(format!("LimitRanger plugin set: {}", words.join("; ")));
        }
    }
    let Some(told) = told else { return Vec::new() };
    let changed = filled.into_iter().filter(|(_, resources)| resources.changed);
    let mut patch: Vec<_> = changed
        .map(|((list, at), resources)| {
            PatchOperation::add(format!("/spec/{list}/{at}/resources"), Value::Object(resources.value))
        })
        .collect();
    patch.push(annotation(pod, ANNOTATION, &told));
    patch
}

type Filled = BTreeMap<(&'static str, usize), Resources>;

struct Resources {
    value: Map<String, Value>,
    changed: bool,
}

impl Resources {
    fn of(container: &Value) -> Self {
        Self { value: container["resources"].as_object().cloned().unwrap_or_default(), changed: false }
    }

    /// Fills in what is missing, and says what that was: requests are told before limits.
    fn fill(&mut self, defaults: &Defaults, whose: &str, words: &mut Vec<String>) {
        for (side, word, defaults) in
            [(Side::Requests, "request", &defaults.requests), (Side::Limits, "limit", &defaults.limits)]
        {
            let missing: Vec<_> = defaults.iter().filter(|(name, _)| !self.has(side, name)).collect();
            if missing.is_empty() {
                continue;
            }
            let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
            words.push(format!("{} {word} for {whose}", names.join(", ")));
            let amounts = self.value.entry(side.field()).or_insert_with(|| json!({}));
            for (name, amount) in missing {
                amounts[name.as_str()] = amount.clone();
            }
            self.changed = true;
        }
    }

    fn has(&self, side: Side, name: &str) -> bool {
        self.value.get(side.field()).is_some_and(|amounts| amounts.get(name).is_some())
    }
}

/// The defaults of one range, by the name of the resource.
#[derive(Default)]
struct Defaults {
    requests: BTreeMap<String, Value>,
    limits: BTreeMap<String, Value>,
}

impl Defaults {
    /// Of several items for containers the later one counts. What an item leaves out follows from the rest of it: the
    /// limit from the most, the request from the limit, else from the least.
    fn of(range: &Value) -> Self {
        let mut all = Self::default();
        for item in items(range, "Container") {
            let set = |field: &str| item[field].as_object().cloned().unwrap_or_default();
            let or = |mut first: Map<String, Value>, second: &Map<String, Value>| {
                for (name, amount) in second {
                    first.entry(name.clone()).or_insert_with(|| amount.clone());
                }
                first
            };
            let limits = or(set("default"), &set("max"));
            let requests = or(or(set("defaultRequest"), &limits), &set("min"));
            all.limits.extend(limits);
            all.requests.extend(requests);
        }
        all
    }
}
