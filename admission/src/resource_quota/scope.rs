//! Which Pods a quota is for.

use serde_json::Value;

/// One condition of a quota's scopes.
pub(super) struct Term<'a> {
    scope: &'a str,
    operator: &'a str,
    values: Vec<&'a str>,
}

/// The conditions, all of which must hold.
pub(super) fn terms(spec: &Value) -> impl Iterator<Item = Term<'_>> {
    let plain = spec["scopes"].as_array().into_iter().flatten();
    let plain = plain.filter_map(Value::as_str);
    let plain = plain.map(|scope| Term { scope, operator: "Exists", values: Vec::new() });
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    plain.chain(selected.map(|term| Term {
        scope: term["scopeName"].as_str().unwrap_or_default(),
        operator: term["operator"].as_str().unwrap_or_default(),
        values: term["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    }))
}

impl Term<'_> {
    /// Whether it holds for a Pod. A scope that is unknown holds for none.
    pub(super) fn holds(&self, pod: &Value) -> bool {
        let ends = pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.scope {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => is_best_effort(pod),
            "NotBestEffort" => !is_best_effort(pod),
            "PriorityClass" => self.selects(pod["spec"]["priorityClassName"].as_str().unwrap_or_default()),
            "CrossNamespacePodAffinity" => reaches_out(pod),
            _ => false,
        }
    }

    fn selects(&self, class: &str) -> bool {
        match self.operator {
            "In" => self.values.contains(&class),
            "NotIn" => !self.values.contains(&class),
            "Exists" => !class.is_empty(),
            "DoesNotExist" => class.is_empty(),
            _ => false,
        }
    }
}

/// Whether no container asks for or limits CPU or memory, nor the Pod as a whole.
fn is_best_effort(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let lists = ["containers", "initContainers"].into_iter().flat_map(|list| spec[list].as_array());
    let holders = lists.flatten().chain(std::iter::once(spec));
    let mut sides = holders.flat_map(|holder| ["requests", "limits"].map(|side| &holder["resources"][side]));
    !sides.any(|side| ["cpu", "memory"].iter().any(|name| is_something(&side[*name])))
}

fn is_something(amount: &Value) -> bool {
    crate::quantity::Quantity::of(amount).is_ok_and(|amount| !amount.is_zero())
}

/// Whether an affinity looks at Pods of other namespaces.
fn reaches_out(pod: &Value) -> bool {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let affinity = &pod["spec"]["affinity"];
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let required = affinity[*kind][REQUIRED].as_array().into_iter().flatten();
        let preferred = affinity[*kind][PREFERRED].as_array().into_iter().flatten();
        let mut terms = required.chain(preferred.map(|term| &term["podAffinityTerm"]));
        terms.any(|term| {
            let names = term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
            names || !term["namespaceSelector"].is_null()
        })
    })
}
