//! What a Pod asks for and may take: the sums over its containers as the scheduler counts them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::{Quantity, QuantityError};

/// Amounts by the name of the resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// What a container asks for, or what it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Limits,
}

impl Side {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// The resources that a Pod can set for all of its containers together.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// The containers of a list, such as `initContainers`.
pub(crate) fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod["spec"][list].as_array().into_iter().flatten()
}

/// The amounts that a container, a Pod's specification or a claim sets on one side.
///
/// # Errors
/// The first value that is no amount.
pub(crate) fn amounts(holder: &Value, side: Side) -> Result<Amounts, QuantityError> {
    let set = holder["resources"][side.field()].as_object();
    set.into_iter().flatten().map(|(name, value)| Ok((name.clone(), Quantity::of(value)?))).collect()
}

/// The sums over a Pod. Containers that run before the others count only where one of them needs more than those;
/// those that go on running (`restartPolicy: Always`) count with both.
///
/// # Errors
/// The first value that is no amount.
pub(crate) fn pod_amounts(pod: &Value, side: Side) -> Result<Amounts, QuantityError> {
    let mut sum = Amounts::new();
    for container in containers(pod, "containers") {
        add(&mut sum, &amounts(container, side)?);
    }
    let mut running = Amounts::new();
    let mut highest = Amounts::new();
    for container in containers(pod, "initContainers") {
        let mut own = amounts(container, side)?;
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut running, &own);
            own.clone_from(&running);
        } else {
            add(&mut own, &running);
        }
        raise(&mut highest, own);
    }
    raise(&mut sum, highest);
    let whole = amounts(&pod["spec"], side)?;
    sum.extend(whole.into_iter().filter(|(name, _)| POD_LEVEL.contains(&name.as_str())));
    Ok(sum)
}

/// Adds amounts, name by name.
pub(crate) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let before = sum.get(name).copied().unwrap_or_default();
        sum.insert(name.clone(), before.plus(*amount));
    }
}

fn raise(highest: &mut Amounts, amounts: Amounts) {
    for (name, amount) in amounts {
        let before = highest.get(&name).copied();
        if before.is_none_or(|before| before < amount) {
            highest.insert(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_that_run_before_count_where_they_need_more() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let sum = |init: Value| {
            let pod = json!({"spec": {
                "containers": [{"resources": cpu("1")}, {"resources": cpu("500m")}, {}],
                "initContainers": init,
            }});
            pod_amounts(&pod, Side::Requests).unwrap()["cpu"].to_string()
        };
        assert_eq!(sum(json!([])), "1500m");
        assert_eq!(sum(json!([{"resources": cpu("1")}])), "1500m");
        assert_eq!(sum(json!([{"resources": cpu("2")}])), "2");
        let sidecar = json!({"restartPolicy": "Always", "resources": cpu("1")});
        assert_eq!(sum(json!([sidecar])), "2500m");
        assert_eq!(sum(json!([sidecar, {"resources": cpu("2")}])), "3");
        assert_eq!(sum(json!([{"resources": cpu("2")}, sidecar])), "2500m");
    }
}
