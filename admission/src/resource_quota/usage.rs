//! What an object uses, by the names that quotas give it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::quota::Quota;
use crate::{
    AdmissionRequest, Operation,
    pod::resources::{Amounts, Side, add, amounts, containers, pod_amounts},
    quantity::{Quantity, QuantityError},
};

/// Names that a quota can demand every container to set.
const DEMANDED: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// Kinds of the core group that are also counted by their bare name.
const BARE: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// What a request's object uses, and used before.
pub(super) struct Usage<'a> {
    pub(super) object: &'a Value,
    pub(super) is_pod: bool,
    resource: String,
    new: Amounts,
    old: Option<(&'a Value, Amounts)>,
}

impl<'a> Usage<'a> {
    /// The usage of a request; none where the request changes nothing that is counted.
    ///
    /// # Errors
    /// When an amount in the object cannot be read.
    pub(super) fn of(
        request: &'a AdmissionRequest,
        object: &'a Value,
    ) -> Result<Option<Self>, QuantityError> {
        let (subresource, created) = (request.subresource.as_str(), request.operation == Operation::Create);
        let counted = match (request.resource.to_string().as_str(), subresource) {
            ("pods", "resize") => !created,
            ("services" | "persistentvolumeclaims", "") => true,
            (_, "") => created,
            _ => false,
        };
        if !counted {
            return Ok(None);
        }
        let resource = request.resource.to_string();
        let old = request.old_object().filter(|_| !created);
        let old = old.map(|old| Ok((old, used(&resource, old)?))).transpose()?;
        let new = used(&resource, object)?;
        Ok(Some(Self { object, is_pod: resource == "pods", resource, new, old }))
    }

    /// Whether a name in a quota speaks of such objects at all.
    pub(super) fn counts(&self, name: &str) -> bool {
        counts(&self.resource, name)
    }

    /// What is charged to a quota: only what is more than before, where the quota knew the object before.
    pub(super) fn delta(&self, quota: &Quota<'_>) -> Amounts {
        let mut delta = self.new.clone();
        let known = self.old.as_ref().filter(|(old, _)| quota.is_in_scope(self, old));
        for (name, amount) in known.iter().flat_map(|(_, amounts)| amounts) {
            if let Some(new) = delta.get_mut(name) {
                *new = new.minus(*amount).max(Quantity::default());
            }
        }
        delta
    }

    /// The names among a quota's that containers have to set and do not, with those containers.
    pub(super) fn missing<'n>(&self, hard: impl Iterator<Item = &'n str>) -> BTreeMap<&'n str, Vec<&'a str>> {
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        if !self.is_pod {
            return missing;
        }
        let demanded: Vec<_> = hard.filter(|name| DEMANDED.contains(name)).collect();
        let whole = compute(&self.object["spec"]).unwrap_or_default();
        let all = ["containers", "initContainers"].into_iter().flat_map(|list| containers(self.object, list));
        for container in all {
            let set = compute(container).unwrap_or_default();
            for name in
                demanded.iter().filter(|name| !set.contains_key(**name) && !whole.contains_key(**name))
            {
                missing.entry(name).or_default().push(container["name"].as_str().unwrap_or_default());
            }
        }
        missing.values_mut().for_each(|containers| containers.sort_unstable());
        missing
    }
}

/// Whether a name in a quota speaks of objects of a resource.
pub(super) fn counts(resource: &str, name: &str) -> bool {
    if name.strip_prefix("count/") == Some(resource) || name == resource && is_bare(name) {
        return true;
    }
    match resource {
        "pods" => is_compute(name),
        "persistentvolumeclaims" => {
            name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/")
        }
        "services" => matches!(name, "services.loadbalancers" | "services.nodeports"),
        _ => false,
    }
}

fn is_bare(name: &str) -> bool {
    BARE.contains(&name) || matches!(name, "pods" | "persistentvolumeclaims" | "services")
}

fn is_compute(name: &str) -> bool {
    let plain = ["cpu", "memory", "ephemeral-storage"];
    let limited = name.strip_prefix("limits.").is_some_and(|name| plain.contains(&name));
    let requested = name.strip_prefix("requests.").is_some_and(|name| name != "storage");
    plain.contains(&name) || limited || requested || name.starts_with("hugepages-")
}

/// What one object uses, under every name that it is counted by.
pub(super) fn used(resource: &str, object: &Value) -> Result<Amounts, QuantityError> {
    let mut used = Amounts::from([(format!("count/{resource}"), Quantity::whole(1))]);
    match resource {
        "pods" if !is_over(object) => {
            used.insert("pods".to_owned(), Quantity::whole(1));
            used.extend(of_pod(object)?);
        }
        "persistentvolumeclaims" => used.extend(of_claim(object)?),
        "services" => used.extend(of_service(object)),
        bare if BARE.contains(&bare) => {
            used.insert(bare.to_owned(), Quantity::whole(1));
        }
        _ => {}
    }
    Ok(used)
}

/// A Pod that has ended uses nothing but its place in the store.
fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn of_pod(pod: &Value) -> Result<Amounts, QuantityError> {
    let mut requests = pod_amounts(pod, Side::Requests)?;
    let mut limits = pod_amounts(pod, Side::Limits)?;
    let overhead = pod["spec"]["overhead"].as_object();
    let overhead: Result<Amounts, _> = overhead
        .into_iter()
        .flatten()
        .map(|(name, value)| Ok((name.clone(), Quantity::of(value)?)))
        .collect();
    let overhead = overhead?;
    add(&mut requests, &overhead);
    // What is not limited is not limited by what the runtime takes either.
    let limited = overhead.into_iter().filter(|(name, _)| limits.contains_key(name)).collect();
    add(&mut limits, &limited);
    Ok(named(requests, limits))
}

/// What one container, or the Pod as a whole, sets.
fn compute(holder: &Value) -> Result<Amounts, QuantityError> {
    Ok(named(amounts(holder, Side::Requests)?, amounts(holder, Side::Limits)?))
}

/// Amounts under the names of quotas: extended resources only as requests.
fn named(requests: Amounts, limits: Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let is_plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if is_plain || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount);
        } else if !name.contains('/') {
            continue;
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), amount);
        }
    }
    used
}

fn of_claim(claim: &Value) -> Result<Amounts, QuantityError> {
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), Quantity::whole(1))]);
    let read = |amount: &Value| {
        if amount.is_null() { Ok(Quantity::default()) } else { Quantity::of(amount) }
    };
    let asked = read(&claim["spec"]["resources"]["requests"]["storage"])?;
    let storage = asked.max(read(&claim["status"]["allocatedResources"]["storage"])?).rounded_up();
    if !storage.is_zero() {
        used.insert("requests.storage".to_owned(), storage);
    }
    const BEFORE_CLASSES: &str = "volume.beta.kubernetes.io/storage-class";
    let class = claim["metadata"]["annotations"][BEFORE_CLASSES].as_str();
    if let Some(class) =
        class.or(claim["spec"]["storageClassName"].as_str()).filter(|class| !class.is_empty())
    {
        let of_class = format!("{class}.storageclass.storage.k8s.io/");
        used.insert(format!("{of_class}persistentvolumeclaims"), Quantity::whole(1));
        if !storage.is_zero() {
            used.insert(format!("{of_class}requests.storage"), storage);
        }
    }
    Ok(used)
}

fn of_service(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let with_node_port =
        || ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|port| port != 0));
    let (balancers, node_ports) = match spec["type"].as_str() {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => {
            (1, with_node_port().count())
        }
        Some("LoadBalancer") => (1, ports.len()),
        _ => (0, 0),
    };
    let whole = |number: usize| Quantity::whole(i64::try_from(number).unwrap_or(i64::MAX));
    Amounts::from([
        ("services".to_owned(), Quantity::whole(1)),
        ("services.loadbalancers".to_owned(), whole(balancers)),
        ("services.nodeports".to_owned(), whole(node_ports)),
    ])
}
