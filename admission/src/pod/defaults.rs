//! The defaults of a Pod that controllers see: what the API server fills in when it reads one.

use serde_json::{Map, Value, json};

use super::template::place;
use crate::request::GroupVersionResource;

/// Fills in what the API server does: an empty folder for a volume without a source; for Pods, and not for templates,
/// the ports of the node where it shares its network, and requests where there are only limits.
///
/// A source that is unknown here is left alone, and not replaced by an empty folder.
pub fn fill_defaults(resource: &GroupVersionResource, object: &mut Value) {
    let place = place(&resource.group, &resource.resource);
    let Some(pod) = place.and_then(|place| object.pointer_mut(place)) else { return };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for volume in items(spec, "volumes") {
        if !volume.iter().any(|(key, value)| key != "name" && !value.is_null()) {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
    }
    if !resource.is("", "pods") {
        return;
    }
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            if on_host {
                take_ports(container);
            }
            request_limits(container);
        }
    }
}

fn take_ports(container: &mut Map<String, Value>) {
    for port in items(container, "ports") {
        let is_set = port.get("hostPort").and_then(Value::as_i64).is_some_and(|port| port != 0);
        if let (false, Some(own)) = (is_set, port.get("containerPort").cloned()) {
            port.insert("hostPort".to_owned(), own);
        }
    }
}

fn request_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = resources.entry("requests").or_insert(Value::Null);
    if requests.is_null() {
        *requests = json!({});
    }
    let Some(requests) = requests.as_object_mut() else { return };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// The objects in a list of an object.
fn items<'a>(
    object: &'a mut Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = object.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_what_the_api_server_fills_in() {
        let mut pod = json!({"odd": 1, "spec": {
            "hostNetwork": true,
            "volumes": [{"name": "a"}, {"name": "b", "secret": null}, {"name": "c", "new": {}}],
            "containers": [{
                "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 9}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            }],
        }});
        fill_defaults(&GroupVersionResource::new("", "v1", "pods"), &mut pod);
        assert_eq!(
            pod,
            json!({"odd": 1, "spec": {
                "hostNetwork": true,
                "volumes": [
                    {"name": "a", "emptyDir": {}}, {"name": "b", "secret": null, "emptyDir": {}}, {"name": "c", "new": {}},
                ],
                "containers": [{
                    "ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 9}],
                    "resources": {
                        "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"},
                    },
                }],
            }})
        );
    }

    #[test]
    fn a_template_gets_volumes_only() {
        let port = json!([{"containerPort": 80}]);
        let spec = json!({"hostNetwork": true, "volumes": [{"name": "a"}], "containers": [{"ports": port}]});
        let mut deployment = json!({"spec": {"template": {"spec": spec}}});
        fill_defaults(&GroupVersionResource::new("apps", "v1", "deployments"), &mut deployment);
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"][0], json!({"name": "a", "emptyDir": {}}));
        assert_eq!(spec["containers"][0]["ports"], port);
    }
}
