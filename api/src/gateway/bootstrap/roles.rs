//! The roles and bindings of every cluster: made where they are missing, and completed where they lack something.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::{
    authz::{Rule, missing},
    object::Object,
    registry::{Edit, Registry, Target},
    resources::resources,
    status::Status,
};

const FILE: &str = include_str!("roles.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// An operator who sets this to something else keeps a role or binding as it is.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Makes and completes all of them.
pub(super) async fn make(registry: &Registry) -> Result<(), Status> {
    for (plural, object) in objects()? {
        let resource = resources().get(GROUP, "v1", plural).ok_or_else(Status::no_such_resource)?;
        let name = object.name().to_owned();
        let target = Target { resource, namespace: "", name: &name };
        let mut complete = Complete { wanted: object.clone() };
        match registry.update(&target, false, &mut complete).await {
            Ok(_) => continue,
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
        let mut object = object;
        registry.prepare(&target, &mut object)?;
        match registry.create(&target, object, false).await {
            Ok(_) => {}
            // Another gateway was faster.
            Err(status) if status.reason == "AlreadyExists" => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

/// Adds what a role or binding lacks. What it has beyond that stays.
struct Complete {
    wanted: Object,
}

#[async_trait]
impl Edit for Complete {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let mut new = old.clone();
        if old.annotation(AUTOUPDATE) != Some("true") {
            return Ok(new);
        }
        let list = |object: &Object, name: &str| {
            object.at(name).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        if self.wanted.at("/subjects").is_some() {
            let mut subjects = list(old, "/subjects");
            let lacking = list(&self.wanted, "/subjects").into_iter().filter(|s| !subjects.contains(s));
            let lacking: Vec<Value> = lacking.collect();
            if !lacking.is_empty() {
                subjects.extend(lacking);
                new.members_mut().insert("subjects".to_owned(), subjects.into());
            }
        } else if self.wanted.at("/aggregationRule").is_none() {
            let mut rules = list(old, "/rules");
            let held: Vec<Rule> = rules.iter().filter_map(|rule| Rule::deserialize(rule).ok()).collect();
            let held: Vec<&Rule> = held.iter().collect();
            let is_lacking = |rule: &Value| {
                let wanted = Rule::deserialize(rule).unwrap_or_default();
                missing(&held, &[wanted]).map_or(true, |missing| !missing.is_empty())
            };
            let lacking: Vec<Value> = list(&self.wanted, "/rules").into_iter().filter(is_lacking).collect();
            if !lacking.is_empty() {
                rules.extend(lacking);
                new.members_mut().insert("rules".to_owned(), rules.into());
            }
        }
        Ok(new)
    }
}

/// What the file holds, in its order: each with the plural of its resource.
fn objects() -> Result<Vec<(&'static str, Object)>, Status> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for line in FILE.lines().filter(|line| !line.starts_with('#')) {
        let (letter, rest) = line.split_at_checked(2).unwrap_or_default();
        let mut fields = rest.split('|');
        let mut field = || fields.next().unwrap_or_default();
        match letter {
            "c " => objects.push(("clusterroles", role(field(), field(), field()))),
            "b " => objects.push(("clusterrolebindings", binding(field(), field(), field()))),
            "r " => add(&mut objects, resource_rule(field(), field(), field(), field())),
            "p " => add(&mut objects, path_rule(field(), field())),
            _ => return Err(Status::internal(format!("roles.txt has a line that is none: {line:?}"))),
        }
    }
    let objects = objects
        .into_iter()
        .map(|(plural, value)| Ok((plural, Object::new(value).map_err(Status::internal)?)));
    objects.collect()
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTOUPDATE: "true" },
    })
}

fn role(name: &str, labels: &str, selected: &str) -> Value {
    let mut metadata = metadata(name);
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        metadata["labels"][format!("{GROUP_OF_LABELS}{label}")] = "true".into();
    }
    let mut role =
        json!({ "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata });
    role["rules"] = json!([]);
    if !selected.is_empty() {
        let labels = json!({ format!("{GROUP_OF_LABELS}{selected}"): "true" });
        role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
    }
    role
}

const GROUP_OF_LABELS: &str = "rbac.authorization.k8s.io/";

fn binding(name: &str, role: &str, subjects: &str) -> Value {
    let subjects = subjects.split(',').filter_map(|subject| {
        let (kind, name) = subject.split_once(' ')?;
        Some(match (kind, name.split_once('/')) {
            ("account", Some((namespace, name))) => {
                json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
            }
            ("user", _) => json!({ "kind": "User", "apiGroup": GROUP, "name": name }),
            _ => json!({ "kind": "Group", "apiGroup": GROUP, "name": name }),
        })
    });
    let subjects: Vec<Value> = subjects.collect();
    json!({
        "kind": "ClusterRoleBinding",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": metadata(name),
        "subjects": subjects,
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
    })
}

fn list(text: &str) -> Vec<&str> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(|word| if word == "core" { "" } else { word })
        .collect()
}

fn resource_rule(groups: &str, resources: &str, verbs: &str, names: &str) -> Value {
    let mut rule = json!({ "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources) });
    if !names.is_empty() {
        rule["resourceNames"] = json!(list(names));
    }
    rule
}

fn path_rule(paths: &str, verbs: &str) -> Value {
    json!({ "verbs": list(verbs), "nonResourceURLs": list(paths) })
}

/// A rule is that of the role before it.
fn add(objects: &mut [(&'static str, Value)], rule: Value) {
    if let Some(rules) = objects.last_mut().and_then(|(_, role)| role["rules"].as_array_mut()) {
        rules.push(rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::schema::decode;

    #[test]
    fn the_file_holds_objects_of_their_types_and_every_binding_names_a_role() {
        let objects = objects().unwrap();
        let names = |wanted: &str| -> Vec<String> {
            objects.iter().filter(|(p, _)| *p == wanted).map(|(_, o)| o.name().to_owned()).collect()
        };
        let roles = names("clusterroles");
        for name in ["cluster-admin", "admin", "edit", "view", "system:discovery", "muniment:auditor"] {
            assert!(roles.iter().any(|role| role == name), "{name}");
        }
        assert!(names("clusterrolebindings").len() >= 12);
        for (plural, object) in &objects {
            let ty = resources().get(GROUP, "v1", plural).unwrap().ty().unwrap();
            let json = serde_json::to_vec(object.members()).unwrap();
            assert_eq!(decode::json(ty, &json).unwrap().strict, Vec::<String>::new(), "{}", object.name());
            if *plural == "clusterrolebindings" {
                assert!(
                    roles.iter().any(|role| role == object.text_at("/roleRef/name")),
                    "{}",
                    object.name()
                );
            }
        }
    }

    #[tokio::test]
    async fn what_is_lacking_is_added_and_what_an_operator_keeps_is_left() {
        let objects = objects().unwrap();
        let wanted = objects.iter().find(|(_, o)| o.name() == "system:basic-user").unwrap().1.clone();
        let mut old = wanted.clone();
        let own = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] });
        old.members_mut()["rules"] = json!([own]);
        let new = Complete { wanted: wanted.clone() }.edit(&old).await.unwrap();
        let rules = new.at("/rules").unwrap().as_array().unwrap();
        assert_eq!((rules.len(), &rules[0]), (3, &own));
        assert_eq!(Complete { wanted: wanted.clone() }.edit(&new).await.unwrap(), new);
        old.metadata_mut()["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(Complete { wanted }.edit(&old).await.unwrap(), old);
    }
}
