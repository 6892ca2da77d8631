//! `eviction`: a Pod ends where its disruption budget has room.

use async_trait::async_trait;
use axum::body::Body;
use serde_json::{Value, json};

use super::{Call, change::settle};
use crate::gateway::{
    answer::Answer,
    audit::Trail,
    body::{self, Expected, FieldValidation},
    object::Object,
    registry::{DeleteOptions, Edit, ListOptions, Registry, Target, seconds},
    resources::{Resource, resources},
    schema::schema,
    selectors::{LabelSelector, Selectors},
    status::{Cause, Qualified, Status},
    tables,
};

/// When a client may ask again for what its budget has no room for now.
const RETRY_AFTER_SECONDS: u32 = 10;

const BUDGETS: (&str, &str, &str) = ("policy", "v1", "poddisruptionbudgets");

impl Call<'_> {
    pub(super) async fn evict(&self, body: Body, trail: &mut Trail) -> Result<Answer, Status> {
        let bytes = body::read(body).await?;
        let ty = schema().kind("policy", "v1", "Eviction").ok_or_else(Status::no_such_resource)?;
        let expected = Expected { ty, api_version: "policy/v1", kind: "Eviction" };
        let validation = FieldValidation::from_query(self.query)?;
        let eviction = expected.read(&bytes, self.headers, validation)?.object;
        trail.request_object(&eviction);
        if eviction.name() != self.info.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let is_dry_run = self.is_dry_run(&options(&eviction)?.dry_run)?;
        let mut warnings = Vec::new();
        let eviction = self.hear(eviction, trail, is_dry_run, &mut warnings).await?;
        let options = options(&eviction)?;
        let target = self.target();
        let (pod, revision) = self.registry.seen(&target).await?;
        if !is_outside_budgets(&pod) {
            self.take_from_budget(&pod, is_dry_run).await?;
        }
        self.registry.delete(&target, Some((pod, revision)), &options, is_dry_run).await?;
        Ok(self.done(warnings))
    }

    async fn take_from_budget(&self, pod: &Object, is_dry_run: bool) -> Result<(), Status> {
        let (group, version, plural) = BUDGETS;
        let resource = resources().get(group, version, plural).ok_or_else(Status::no_such_resource)?;
        let mut budgets = self.budgets(resource, pod).await?;
        let Some(budget) = budgets.pop() else { return Ok(()) };
        if !budgets.is_empty() {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        if !is_ready(pod) && spares_unready(&budget) {
            return Ok(());
        }
        let target = Target { resource, namespace: budget.namespace(), name: budget.name() };
        let mut edit = Take { target, pod: pod.name(), registry: self.registry };
        self.registry.update(&target, is_dry_run, &mut edit).await.map(drop)
    }

    /// The budgets that select a Pod.
    async fn budgets(&self, resource: &'static Resource, pod: &Object) -> Result<Vec<Object>, Status> {
        let all = ListOptions::newest();
        let page = self.registry.list(resource, pod.namespace(), &Selectors::default(), &all).await?;
        let labels = pod.metadata().get("labels");
        let mut found = Vec::new();
        for raw in &page.items {
            let budget =
                crate::gateway::stored::decode(&raw.value, raw.revision.0).map_err(Status::internal)?;
            let Some(selector) = budget.at("/spec/selector") else { continue };
            let selector: Result<LabelSelector, _> = tables::selector(selector, false).parse();
            if selector.is_ok_and(|selector| selector.matches(labels)) {
                found.push(budget);
            }
        }
        Ok(found)
    }
}

/// How the Pod is to end.
fn options(eviction: &Object) -> Result<DeleteOptions, Status> {
    let options: DeleteOptions = match eviction.at("/deleteOptions") {
        Some(options) => {
            serde_json::from_value(options.clone()).map_err(|e| Status::bad_request(e.to_string()))?
        }
        None => DeleteOptions::default(),
    };
    options.validate()?;
    Ok(options)
}

/// What does not run disturbs nobody by its end.
fn is_outside_budgets(pod: &Object) -> bool {
    matches!(pod.text_at("/status/phase"), "Succeeded" | "Failed" | "Pending") || pod.is_deleting()
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.at("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a Pod that is not ready may go without being counted.
fn spares_unready(budget: &Object) -> bool {
    let number = |pointer| budget.at(pointer).and_then(Value::as_i64).unwrap_or_default();
    let (healthy, wanted) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
    budget.text_at("/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || (healthy >= wanted && wanted > 0)
}

/// One disruption less is allowed.
struct Take<'t> {
    target: Target<'t>,
    pod: &'t str,
    registry: &'t Registry,
}

#[async_trait]
impl Edit for Take<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let number = |pointer| old.at(pointer).and_then(Value::as_i64).unwrap_or_default();
        let name = self.target.name;
        if number("/status/observedGeneration") < old.generation() {
            return Err(no_room(format!(
                "The disruption budget {name} is still being processed by the server."
            )));
        }
        let allowed = number("/status/disruptionsAllowed");
        if allowed < 0 {
            let what = Qualified { group: "policy", name: "poddisruptionbudgets" };
            return Err(Status::forbidden(what, name, "pdb disruptions allowed is negative"));
        }
        if allowed == 0 {
            return Err(no_room(format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                number("/status/desiredHealthy"),
                number("/status/currentHealthy")
            )));
        }
        let mut new = old.clone();
        let status = new.members_mut().entry("status").or_insert_with(|| json!({}));
        status["disruptionsAllowed"] = (allowed - 1).into();
        if !status["disruptedPods"].is_object() {
            status["disruptedPods"] = json!({});
        }
        status["disruptedPods"][self.pod] = seconds(self.registry.now()).into();
        settle(&self.target, "status", &mut new, old)?;
        Ok(new)
    }
}

fn no_room(message: String) -> Status {
    let cause = Cause { reason: "DisruptionBudget".into(), message, field: String::new() };
    Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        RETRY_AFTER_SECONDS,
    )
    .with_causes(vec![cause])
}
