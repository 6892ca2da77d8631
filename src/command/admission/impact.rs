//! What holding every namespace to a level would refuse of what a cluster has already.

use std::{collections::BTreeMap, fmt::Write};

use admission::{
    GroupVersionResource,
    pod::{Pod, pod_template},
    pod_security::{Evaluation, LevelVersion, evaluate},
};
use anyhow::{Context, Result, anyhow};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use crate::{client::Client, table};

/// Objects that are read at once.
const PAGE: usize = 500;

/// What has Pods or makes them, with the word that users know it by.
const WORKLOADS: [(&str, &str, &str, &str); 9] = [
    ("", "pods", "Pod", "pod"),
    ("", "podtemplates", "PodTemplate", "podtemplate"),
    ("", "replicationcontrollers", "ReplicationController", "replicationcontroller"),
    ("apps", "deployments", "Deployment", "deployment"),
    ("apps", "statefulsets", "StatefulSet", "statefulset"),
    ("apps", "daemonsets", "DaemonSet", "daemonset"),
    ("apps", "replicasets", "ReplicaSet", "replicaset"),
    ("batch", "cronjobs", "CronJob", "cronjob"),
    ("batch", "jobs", "Job", "job"),
];

/// What would be refused.
#[derive(Debug, Serialize)]
pub(super) struct Impact {
    /// The level and version that everything is held to.
    policy: String,
    /// Workloads that were looked at.
    workloads: usize,
    /// Those that would be refused.
    refused: usize,
    /// Each namespace that has workloads.
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Serialize)]
struct Namespace {
    namespace: String,
    workloads: usize,
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    /// `deployment/web`.
    workload: String,
    violations: Vec<Violation>,
}

#[derive(Debug, Serialize)]
struct Violation {
    reason: String,
    detail: String,
}

impl Impact {
    /// Asks a server for everything that has Pods or makes them, in one namespace or in all.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, or an object cannot be understood.
    pub(super) async fn ask(client: &Client, policy: LevelVersion, namespace: Option<&str>) -> Result<Self> {
        let mut impact = Collected::default();
        for (group, plural, _, word) in WORKLOADS {
            let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
            let place = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
            let path = format!("{root}{place}/{plural}");
            let resource = GroupVersionResource::new(group, "v1", plural);
            let mut token = String::new();
            loop {
                let request = client.request(Method::GET, &path).query(&[("limit", PAGE)]);
                let page = client.json(request.query(&[("continue", &token)])).await;
                let page = page.with_context(|| format!("cannot list {plural}"))?;
                for object in page["items"].as_array().into_iter().flatten() {
                    impact.add(&resource, word, object, policy)?;
                }
                token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
                if token.is_empty() {
                    break;
                }
            }
        }
        Ok(impact.into_impact(policy))
    }

    /// Whether anything would be refused.
    pub(super) fn is_any(&self) -> bool {
        self.refused > 0
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        if self.is_any() {
            let rows = self.namespaces.iter().flat_map(|namespace| {
                namespace.refused.iter().map(|refused| {
                    let reasons: Vec<_> = refused.violations.iter().map(|v| v.reason.as_str()).collect();
                    vec![namespace.namespace.clone(), refused.workload.clone(), reasons.join(", ")]
                })
            });
            out = table::layout(&["NAMESPACE", "WORKLOAD", "VIOLATES"], &rows.collect::<Vec<_>>());
            out.push('\n');
        }
        let hit = self.namespaces.iter().filter(|namespace| !namespace.refused.is_empty()).count();
        let (all, refused, policy) = (self.workloads, self.refused, &self.policy);
        let _ = writeln!(
            out,
            "{refused} of {all} workloads in {hit} of {} namespaces would be refused by {policy}",
            self.namespaces.len()
        );
        out
    }
}

#[derive(Default)]
struct Collected(BTreeMap<String, Namespace>);

impl Collected {
    /// Looks at an object, unless something else that is looked at made it.
    fn add(
        &mut self,
        resource: &GroupVersionResource,
        word: &str,
        object: &Value,
        policy: LevelVersion,
    ) -> Result<()> {
        if is_made_by_another(object) {
            return Ok(());
        }
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        let workload = format!("{word}/{}", text("name"));
        let namespace = self.0.entry(text("namespace").to_owned()).or_default();
        namespace.workloads += 1;
        let Some(template) = pod_template(resource, object) else { return Ok(()) };
        let pod = Pod::of(template)
            .map_err(|why| anyhow!("{workload} in {:?} cannot be understood: {why}", text("namespace")))?;
        let Evaluation { violations } = evaluate(policy, &pod);
        if !violations.is_empty() {
            let violations = violations.into_iter();
            let violations = violations.map(|v| Violation { reason: v.reason, detail: v.detail }).collect();
            namespace.refused.push(Refused { workload, violations });
        }
        Ok(())
    }

    fn into_impact(self, policy: LevelVersion) -> Impact {
        let namespaces: Vec<_> =
            self.0.into_iter().map(|(namespace, found)| Namespace { namespace, ..found }).collect();
        Impact {
            policy: policy.to_string(),
            workloads: namespaces.iter().map(|namespace| namespace.workloads).sum(),
            refused: namespaces.iter().map(|namespace| namespace.refused.len()).sum(),
            namespaces,
        }
    }
}

/// A ReplicaSet's Pods are like the ReplicaSet, and that is like its Deployment: the first of them stands for all.
fn is_made_by_another(object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    let is_workload = |kind: &Value| WORKLOADS.iter().any(|(_, _, known, _)| *kind == *known);
    owners.into_iter().flatten().any(|owner| owner["controller"] == true && is_workload(&owner["kind"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn impact(objects: &[(&str, &str, Value)]) -> Impact {
        let mut collected = Collected::default();
        let policy = LevelVersion::new("baseline".parse().unwrap(), "latest".parse().unwrap());
        for (group, plural, object) in objects {
            let word = WORKLOADS.iter().find(|known| known.1 == *plural).unwrap().3;
            let resource = GroupVersionResource::new(group, "v1", plural);
            collected.add(&resource, word, object, policy).unwrap();
        }
        collected.into_impact(policy)
    }

    fn named(namespace: &str, name: &str) -> Value {
        json!({"namespace": namespace, "name": name})
    }

    #[test]
    fn what_would_be_refused_is_told_by_namespace_and_by_who_made_it() {
        let bad = json!({"hostPID": true, "containers": []});
        let mut owned = named("shop", "web-1");
        owned["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "web", "controller": true}]);
        let impact = impact(&[
            ("", "pods", json!({"metadata": named("shop", "shell"), "spec": bad})),
            ("", "pods", json!({"metadata": owned, "spec": bad})),
            ("", "pods", json!({"metadata": named("bank", "fine"), "spec": {"containers": []}})),
            (
                "apps",
                "deployments",
                json!({"metadata": named("shop", "web"), "spec": {"template": {"spec": bad}}}),
            ),
            ("batch", "cronjobs", json!({"metadata": named("bank", "tick"), "spec": {}})),
        ]);
        assert_eq!(
            impact.table(),
            "NAMESPACE  WORKLOAD        VIOLATES\n\
             shop       pod/shell       host namespaces\n\
             shop       deployment/web  host namespaces\n\
             \n\
             2 of 4 workloads in 1 of 2 namespaces would be refused by baseline:latest\n"
        );
        let json = serde_json::to_value(&impact).unwrap();
        let refused = &json["namespaces"][1]["refused"][0];
        assert_eq!(refused["violations"][0], json!({"reason": "host namespaces", "detail": "hostPID=true"}));
    }

    #[test]
    fn nothing_to_refuse_is_one_line() {
        let impact = impact(&[]);
        assert!(!impact.is_any());
        assert_eq!(
            impact.table(),
            "0 of 0 workloads in 0 of 0 namespaces would be refused by baseline:latest\n"
        );
    }
}
