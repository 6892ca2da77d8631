//! Manifests before Pod Security, as `kubectl apply` would bring them before a cluster.

use std::{fmt::Write, sync::Arc};

use admission::{
    AdmissionChain, AdmissionRequest, BUILT_IN, GroupVersionResource, MemoryCluster, Outcome, Settings,
    pod::{fill_defaults, pod_template},
    pod_security::{PodSecurityConfiguration, Policy},
};
use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::manifest::Manifest;

/// Namespaces with labels, and the chain that holds objects to them.
pub(super) struct Check {
    labels: Vec<(String, String)>,
    namespace: String,
    settings: Settings,
}

/// What is to be printed.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) warnings: String,
    pub(super) passed: String,
    pub(super) refused: String,
}

impl Check {
    /// # Errors
    /// When a label of Pod Security has a value that it cannot have.
    pub(super) fn new(
        labels: Vec<(String, String)>,
        namespace: String,
        pod_security: PodSecurityConfiguration,
    ) -> Result<Self> {
        let find = |name: &str| labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let (_, errors) = Policy::from_labels(find, Policy::default());
        if let Some(error) = errors.first() {
            bail!("--namespace-labels: {error}");
        }
        let settings = Settings { pod_security, ..Settings::default() };
        Ok(Self { labels, namespace, settings })
    }

    /// Checks objects in their order.
    pub(super) async fn all(&self, manifests: &[Manifest]) -> Report {
        let mut report = Report::default();
        let chain = self.chain(manifests);
        for manifest in manifests {
            self.one(&chain, manifest, &mut report).await;
        }
        report
    }

    /// A chain with Pod Security alone: the other controllers look at what only a cluster has.
    fn chain(&self, manifests: &[Manifest]) -> AdmissionChain {
        let cluster = MemoryCluster::new();
        for manifest in manifests {
            let namespace = self.namespace_of(&manifest.object);
            let given = self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let own = manifests.iter().filter(|other| is_namespace(&other.object, namespace));
            let own = own.filter_map(|other| other.object["metadata"]["labels"].as_object()).flatten();
            let own = own.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
            // Of two labels of one name the later one stays.
            let labels: Vec<_> = own.chain(given).collect();
            cluster.add_namespace(namespace, &labels);
        }
        let others = BUILT_IN.iter().filter(|name| **name != "PodSecurity");
        let others: Vec<_> = others.map(|name| (*name).to_owned()).collect();
        let chain = AdmissionChain::before(Arc::new(cluster)).with_settings(self.settings.clone());
        // The names are the chain's own, so none of them is unknown to it.
        chain.with_plugins(&[], &others).unwrap_or_default()
    }

    fn namespace_of<'a>(&'a self, object: &'a Value) -> &'a str {
        let name = if object["kind"] == "Namespace" { "name" } else { "namespace" };
        object["metadata"][name].as_str().filter(|name| !name.is_empty()).unwrap_or(&self.namespace)
    }

    async fn one(&self, chain: &AdmissionChain, manifest: &Manifest, report: &mut Report) {
        let object = &manifest.object;
        let Some(resource) = resource(object) else {
            let _ = writeln!(report.passed, "{} has no pods", shown(object));
            return;
        };
        let outcome = self.ask(chain, &resource, object.clone()).await;
        for warning in &outcome.warnings {
            let _ = writeln!(report.warnings, "Warning: {warning}");
        }
        let refused = match outcome.denial {
            None => self.template(chain, &resource, object).await,
            denial => denial,
        };
        match refused {
            None => {
                let _ = writeln!(report.passed, "{} passes", shown(object));
            }
            Some(denial) => {
                let (reason, file) = (&denial.reason, &manifest.file);
                let _ = writeln!(
                    report.refused,
                    "Error from server ({reason}): error when creating {file:?}: {denial}"
                );
            }
        }
    }

    /// What becomes of the Pods that an object makes: the object itself is never refused.
    async fn template(
        &self,
        chain: &AdmissionChain,
        resource: &GroupVersionResource,
        object: &Value,
    ) -> Option<admission::Denial> {
        let pods = GroupVersionResource::new("", "v1", "pods");
        if *resource == pods {
            return None;
        }
        let template = pod_template(resource, object)?;
        let mut pod = template.clone();
        let fields = pod.as_object_mut()?;
        fields.insert("apiVersion".to_owned(), json!("v1"));
        fields.insert("kind".to_owned(), json!("Pod"));
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            let owner = object["metadata"]["name"].as_str().unwrap_or_default();
            metadata.insert("name".to_owned(), json!(format!("{owner}-")));
            metadata.insert("namespace".to_owned(), json!(self.namespace_of(object)));
        }
        self.ask(chain, &pods, pod).await.denial
    }

    async fn ask(
        &self,
        chain: &AdmissionChain,
        resource: &GroupVersionResource,
        mut object: Value,
    ) -> Outcome {
        fill_defaults(resource, &mut object);
        let namespace = self.namespace_of(&object).to_owned();
        let mut request = AdmissionRequest::create(resource.clone(), object);
        if request.name.is_empty() {
            request.name = request.display_name().to_owned();
        }
        request.namespace = namespace;
        chain.admit(&request).await
    }
}

/// The resource of an object that Pod Security looks at.
fn resource(object: &Value) -> Option<GroupVersionResource> {
    let (group, version) = match object["apiVersion"].as_str()?.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str()?),
    };
    let resource = match (group, object["kind"].as_str()?) {
        ("", "Pod") => "pods",
        ("", "Namespace") => "namespaces",
        ("", "PodTemplate") => "podtemplates",
        ("", "ReplicationController") => "replicationcontrollers",
        ("apps", "ReplicaSet") => "replicasets",
        ("apps", "Deployment") => "deployments",
        ("apps", "StatefulSet") => "statefulsets",
        ("apps", "DaemonSet") => "daemonsets",
        ("batch", "Job") => "jobs",
        ("batch", "CronJob") => "cronjobs",
        _ => return None,
    };
    Some(GroupVersionResource::new(group, version, resource))
}

fn is_namespace(object: &Value, name: &str) -> bool {
    object["kind"] == "Namespace" && object["metadata"]["name"] == name
}

fn shown(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let name = Some(text(&metadata["name"])).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| text(&metadata["generateName"]));
    format!("{}/{name}", text(&object["kind"]).to_lowercase())
}

#[cfg(test)]
mod tests {
    use admission::pod_security::Level;

    use super::*;

    async fn checked(labels: &[(&str, &str)], objects: &[Value]) -> Report {
        checked_by(Level::Privileged, labels, objects).await
    }

    async fn checked_by(level: Level, labels: &[(&str, &str)], objects: &[Value]) -> Report {
        let prefix = admission::pod_security::LABEL_PREFIX;
        let labels =
            labels.iter().map(|(key, value)| (format!("{prefix}{key}"), (*value).to_owned())).collect();
        let pod_security = PodSecurityConfiguration::without_file(level);
        let check = Check::new(labels, "default".to_owned(), pod_security).unwrap();
        let manifest = |object: &Value| Manifest { file: "x.yaml".to_owned(), object: object.clone() };
        check.all(&objects.iter().map(manifest).collect::<Vec<_>>()).await
    }

    fn spec() -> Value {
        json!({"containers": [{"name": "app", "securityContext": {"privileged": true}}]})
    }

    fn pod() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec()})
    }

    const VIOLATES: &str = "violates PodSecurity \"baseline:latest\": privileged (container \"app\" must not set securityContext.privileged=true)\n";

    #[tokio::test]
    async fn a_pod_that_is_refused_is_refused_in_kubectls_words() {
        let report = checked(&[("enforce", "baseline")], &[pod()]).await;
        let expected = format!(
            "Error from server (Forbidden): error when creating \"x.yaml\": pods \"web\" is forbidden: {VIOLATES}"
        );
        assert_eq!((report.refused, report.passed.as_str()), (expected, ""));
        let report = checked(&[], &[pod()]).await;
        assert_eq!((report.refused.as_str(), report.passed.as_str()), ("", "pod/web passes\n"));
    }

    #[tokio::test]
    async fn without_labels_the_default_decides() {
        let report = checked_by(Level::Baseline, &[], &[pod()]).await;
        assert!(report.refused.ends_with(VIOLATES), "{report:?}");
        let mut system = pod();
        system["metadata"]["namespace"] = json!("kube-system");
        let report =
            checked_by(Level::Baseline, &[("enforce", "privileged")], &[pod(), system.clone()]).await;
        assert_eq!(report.refused, "");
        let report = checked_by(Level::Restricted, &[], &[system]).await;
        assert_eq!((report.refused.as_str(), report.passed.as_str()), ("", "pod/web passes\n"));
    }

    #[tokio::test]
    async fn a_deployment_is_warned_of_and_its_pods_are_refused() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"template": {"spec": spec()}}});
        let report = checked(&[("enforce", "baseline")], std::slice::from_ref(&deployment)).await;
        assert_eq!(report.warnings, format!("Warning: would {}", VIOLATES.replace("violates", "violate")));
        assert!(report.refused.contains("pods \"web-\" is forbidden: violates"), "{report:?}");
        let report = checked(&[("warn", "baseline")], &[deployment]).await;
        assert_eq!((report.refused.as_str(), report.passed.as_str()), ("", "deployment/web passes\n"));
        assert!(report.warnings.starts_with("Warning: would violate"));
    }

    #[tokio::test]
    async fn a_namespace_among_the_manifests_brings_its_labels() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
        let mut inside = pod();
        inside["metadata"]["namespace"] = json!("shop");
        let objects = [namespace, inside, pod()];
        let report = checked(&[], &objects).await;
        assert_eq!(report.refused.lines().count(), 1, "{report:?}");
        assert_eq!(report.passed, "namespace/shop passes\npod/web passes\n");
        let report = checked(&[("enforce", "privileged")], &objects).await;
        assert_eq!(report.refused, "");
    }

    #[tokio::test]
    async fn what_makes_no_pods_passes() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
        let report = checked(&[("enforce", "restricted")], &[service]).await;
        assert_eq!((report.refused.as_str(), report.passed.as_str()), ("", "service/s has no pods\n"));
    }

    #[test]
    fn labels_that_cannot_be_followed_are_named() {
        let labels = vec![("pod-security.kubernetes.io/enforce".to_owned(), "strict".to_owned())];
        let error =
            Check::new(labels, String::new(), PodSecurityConfiguration::default()).err().unwrap().to_string();
        assert!(error.contains("must be one of privileged, baseline, restricted"), "{error}");
    }
}
