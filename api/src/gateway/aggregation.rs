//! Keeps the rules of ClusterRoles that gather others (`aggregationRule`) what the others allow together.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ingest::retry::Backoff;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    authz::Snapshot,
    object::Object,
    registry::{Edit, ListOptions, Registry, Target},
    resources::resources,
    selectors::{LabelSelector, Selectors},
    status::Status,
    stored,
};

/// Between two tries while the store is away.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Between two rounds: many changes at once are one round, and roles that gather each other in a circle, which never
/// come to rest, cost no more than this.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes what has to change with each change of the roles, until `stop`. Several gateways may do so at a time: each
/// writes the same.
pub async fn aggregate(
    registry: &Registry,
    mut roles: watch::Receiver<Arc<Snapshot>>,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        roles.borrow_and_update();
        let next = async {
            match once(registry).await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(PAUSE).await;
                    let _ = roles.changed().await;
                }
                Err(status) => {
                    tracing::warn!(error = status.message, "roles could not be gathered: retrying");
                    tokio::time::sleep(backoff.wait()).await;
                }
            }
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

async fn once(registry: &Registry) -> Result<(), Status> {
    let resource = resources()
        .get("rbac.authorization.k8s.io", "v1", "clusterroles")
        .ok_or_else(Status::no_such_resource)?;
    let page = registry.list(resource, "", &Selectors::default(), &ListOptions::newest()).await?;
    let objects = page.items.iter().map(|raw| stored::decode(&raw.value, raw.revision.0));
    let mut objects: Vec<Object> = objects.collect::<Result<_, _>>().map_err(Status::internal)?;
    for at in 0..objects.len() {
        let role = &objects[at];
        let Some(rules) = gathered(role, &objects) else { continue };
        if role.at("/rules").unwrap_or(&Value::Null).as_array().map_or(&[][..], Vec::as_slice) == rules {
            continue;
        }
        let name = role.name().to_owned();
        let target = Target { resource, namespace: "", name: &name };
        match registry.update(&target, false, &mut Gather { rules }).await {
            // What gathers this one gathers its new rules.
            Ok(outcome) => objects[at] = outcome.into_object(),
            // It went meanwhile.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

struct Gather {
    rules: Vec<Value>,
}

#[async_trait]
impl Edit for Gather {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let mut new = old.clone();
        new.members_mut().insert("rules".to_owned(), Value::Array(self.rules.clone()));
        Ok(new)
    }
}

/// The rules of the roles that a role selects, in the order of their names, each once; nothing where it selects none.
fn gathered(role: &Object, all: &[Object]) -> Option<Vec<Value>> {
    let selectors = role.at("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let mut rules = Vec::new();
    for selector in selectors.iter().filter_map(selector) {
        let mut selected: Vec<&Object> = all
            .iter()
            .filter(|other| other.name() != role.name() && selector.matches(other.at("/metadata/labels")))
            .collect();
        selected.sort_by_key(|other| other.name());
        for rule in selected.iter().filter_map(|other| other.at("/rules")?.as_array()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

/// A selector as objects carry it; nothing for one that cannot be read, which selects nothing.
fn selector(value: &Value) -> Option<LabelSelector> {
    let mut terms = Vec::new();
    for (key, value) in value["matchLabels"].as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str()?));
    }
    for expression in value["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    terms.join(",").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(name: &str, label: &str, rules: Value) -> Object {
        Object::new(json!({ "metadata": { "name": name, "labels": { label: "true" } }, "rules": rules }))
            .unwrap()
    }

    #[test]
    fn a_role_gathers_what_it_selects_in_order_and_each_rule_once() {
        let mut all = role("all", "mine", json!([]));
        let selectors = json!({ "clusterRoleSelectors": [
            { "matchLabels": { "to-all": "true" } },
            { "matchExpressions": [{ "key": "more", "operator": "In", "values": ["true", "yes"] }] },
            { "matchExpressions": [{ "key": "x", "operator": "unheard of" }] },
        ] });
        all.members_mut().insert("aggregationRule".into(), selectors);
        let (a, b) = (json!({ "verbs": ["get"] }), json!({ "verbs": ["list"] }));
        let roles = [
            all.clone(),
            role("z", "to-all", json!([a, b])),
            role("y", "to-all", json!([b])),
            role("x", "more", json!([{ "verbs": ["watch"] }])),
            role("w", "other", json!([{ "verbs": ["*"] }])),
        ];
        assert_eq!(gathered(&all, &roles).unwrap(), [b, a, json!({ "verbs": ["watch"] })]);
        assert_eq!(gathered(&roles[1], &roles), None);
    }
}
