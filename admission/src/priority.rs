//! The built-in controller `Priority`: the number behind a Pod's priority class.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, ClusterState, Denial, Freshness, Kind,
    Operation, PatchOperation, Phases,
};

/// The controller.
pub(crate) struct Priority {
    state: Arc<dyn ClusterState>,
}

#[async_trait]
impl AdmissionController for Priority {
    fn name(&self) -> &str {
        "Priority"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, request: &AdmissionRequest) -> AdmissionResponse {
        let spec = request.object().and_then(|object| object.get("spec")).filter(|spec| spec.is_object());
        match (request.is_for("", "pods"), spec) {
            (true, Some(spec)) if request.operation == Operation::Create => self.set(spec).await.into(),
            (true, Some(spec)) => keep(spec, request.old_object()),
            _ => AdmissionResponse::Allow,
        }
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        if !request.is_for("scheduling.k8s.io", "priorityclasses") {
            return AdmissionResponse::Allow;
        }
        self.only_default(request).await.into()
    }

    fn phases(&self) -> Phases {
        Phases::Both
    }
}

/// What a priority class gives a Pod.
struct Given {
    class: String,
    priority: i64,
    preemption: Option<String>,
}

impl Given {
    fn by(class: &Value) -> Self {
        Self {
            class: class["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            priority: class["value"].as_i64().unwrap_or_default(),
            preemption: class["preemptionPolicy"].as_str().map(str::to_owned),
        }
    }
}

impl Priority {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        Self { state }
    }

    async fn set(&self, spec: &Value) -> Result<AdmissionResponse, Denial> {
        let class = spec["priorityClassName"].as_str().unwrap_or_default();
        let given = self.given(class).await?;
        if let Some(own) = spec["priority"].as_i64().filter(|own| *own != given.priority) {
            return Err(format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                given.priority
            )
            .into());
        }
        let mut fields = vec![("priority", json!(given.priority))];
        if given.class != class {
            fields.push(("priorityClassName", json!(given.class)));
        }
        if let Some(preemption) = given.preemption {
            if let Some(own) = spec["preemptionPolicy"].as_str().filter(|own| *own != preemption) {
                return Err(format!(
                    "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority \
                     admission controller computed {preemption} from the given PriorityClass name"
                )
                .into());
            }
            fields.push(("preemptionPolicy", json!(preemption)));
        }
        Ok(patched(spec, fields))
    }

    async fn given(&self, class: &str) -> Result<Given, Denial> {
        if class.is_empty() {
            let default = self.default_class().await?;
            return Ok(default.as_deref().map_or_else(
                || Given {
                    class: String::new(),
                    priority: 0,
                    preemption: Some("PreemptLowerPriority".to_owned()),
                },
                Given::by,
            ));
        }
        let found = self.state.get(Kind::PriorityClass, "", class, Freshness::Cached).await;
        let found = found.map_err(|why| {
            Denial::internal(format!("failed to resolve PriorityClass with name {class}: {why}"))
        })?;
        let found = found.ok_or_else(|| format!("no PriorityClass with name {class} was found"))?;
        Ok(Given::by(&found))
    }

    /// Where several classes are the default one, the lowest is.
    async fn default_class(&self) -> Result<Option<Arc<Value>>, Denial> {
        let classes = self.state.list(Kind::PriorityClass, "", Freshness::Cached).await;
        let classes = classes
            .map_err(|why| Denial::internal(format!("failed to get default priority class: {why}")))?;
        let defaults = classes.into_iter().filter(|class| class["globalDefault"] == true);
        Ok(defaults.min_by_key(|class| class["value"].as_i64()))
    }

    async fn only_default(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        let object = request.object();
        if !object.is_some_and(|object| object["globalDefault"] == true) {
            return Ok(AdmissionResponse::Allow);
        }
        let default = self.default_class().await?;
        let name = default.as_ref().map(|class| class["metadata"]["name"].as_str().unwrap_or_default());
        match name {
            Some(name) if request.operation == Operation::Create || name != request.display_name() => {
                Err(format!("PriorityClass {name} is already marked as default. Only one default can exist")
                    .into())
            }
            _ => Ok(AdmissionResponse::Allow),
        }
    }
}

/// An update that leaves the priority out leaves it as it is.
fn keep(spec: &Value, old: Option<&Value>) -> AdmissionResponse {
    let old = old.map_or(&Value::Null, |old| &old["spec"]);
    let lost = ["priority", "preemptionPolicy"].into_iter().filter(|field| spec[*field].is_null());
    let fields = lost.map(|field| (field, old[field].clone())).filter(|(_, value)| !value.is_null());
    patched(spec, fields)
}

fn patched(spec: &Value, fields: impl IntoIterator<Item = (&'static str, Value)>) -> AdmissionResponse {
    let changed = fields.into_iter().filter(|(field, value)| spec[*field] != *value);
    let patch: Vec<_> =
        changed.map(|(field, value)| PatchOperation::add(format!("/spec/{field}"), value)).collect();
    if patch.is_empty() { AdmissionResponse::Allow } else { AdmissionResponse::AllowWithPatch(patch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupVersionResource, MemoryCluster, apply};

    fn controller() -> (Priority, Arc<MemoryCluster>) {
        let cluster = Arc::new(MemoryCluster::new());
        cluster.put(
            Kind::PriorityClass,
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
        );
        (Priority::new(cluster.clone()), cluster)
    }

    async fn admitted(controller: &Priority, spec: Value) -> Result<Value, String> {
        let mut pod = json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": spec});
        let request = AdmissionRequest::create(GroupVersionResource::new("", "v1", "pods"), pod.clone());
        match controller.admit(&request).await {
            AdmissionResponse::AllowWithPatch(patch) => apply(&mut pod, &patch).unwrap(),
            AdmissionResponse::Deny(denial) => return Err(denial.message),
            _ => {}
        }
        Ok(pod["spec"].take())
    }

    #[tokio::test]
    async fn a_pod_gets_the_number_of_its_class() {
        let (controller, cluster) = controller();
        let high = json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"});
        assert_eq!(admitted(&controller, json!({"priorityClassName": "high"})).await.unwrap(), high);
        assert_eq!(admitted(&controller, high.clone()).await.unwrap(), high);
        let none = json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"});
        assert_eq!(admitted(&controller, json!({})).await.unwrap(), none);
        let default = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
        cluster.put(Kind::PriorityClass, default);
        let usual = json!({"priority": 7, "priorityClassName": "usual"});
        assert_eq!(admitted(&controller, json!({})).await.unwrap(), usual);
    }

    #[tokio::test]
    async fn another_number_or_an_unknown_class_is_refused() {
        let (controller, _) = controller();
        let error = admitted(&controller, json!({"priorityClassName": "none"})).await.unwrap_err();
        assert_eq!(error, "no PriorityClass with name none was found");
        let error = admitted(&controller, json!({"priority": 5})).await.unwrap_err();
        assert!(
            error.starts_with("the integer value of priority (5) must not be provided in pod spec; "),
            "{error}"
        );
        let spec = json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"});
        let error = admitted(&controller, spec).await.unwrap_err();
        assert!(error.ends_with("controller computed Never from the given PriorityClass name"), "{error}");
    }

    #[tokio::test]
    async fn an_update_keeps_the_priority_and_only_one_class_is_the_default() {
        let (controller, cluster) = controller();
        let pod = |spec: Value| json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": spec});
        let pods = GroupVersionResource::new("", "v1", "pods");
        let update = AdmissionRequest::update(pods, pod(json!({"priority": 9})), pod(json!({})));
        let expected =
            AdmissionResponse::AllowWithPatch(vec![PatchOperation::add("/spec/priority", json!(9))]);
        assert_eq!(controller.admit(&update).await, expected);

        let class =
            |name: &str| json!({"kind": "PriorityClass", "metadata": {"name": name}, "globalDefault": true});
        let classes = || GroupVersionResource::new("scheduling.k8s.io", "v1", "priorityclasses");
        let create = AdmissionRequest::create(classes(), class("b"));
        assert!(controller.validate(&create).await.is_allowed());
        cluster.put(Kind::PriorityClass, class("a"));
        let denied = controller.validate(&create).await;
        assert_eq!(
            denied.deny_reason(),
            Some("PriorityClass a is already marked as default. Only one default can exist")
        );
        let same = AdmissionRequest::update(classes(), class("a"), class("a"));
        assert!(controller.validate(&same).await.is_allowed());
    }
}
