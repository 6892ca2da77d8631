//! Whether what is asked for lies within a range, and the sentences about what does not.

use serde_json::Value;

use super::items;
use crate::{
    pod::resources::{Amounts, Side, amounts, containers, pod_amounts},
    quantity::{Quantity, QuantityError},
};

/// What somebody asks for and may take.
struct Asked {
    requests: Amounts,
    limits: Amounts,
}

/// Every violation of one range, in the order of its items and of the names of resources.
///
/// # Errors
/// When an amount cannot be read.
pub(super) fn violations(object: &Value, range: &Value, is_pod: bool) -> Result<Vec<String>, QuantityError> {
    let mut violations = Vec::new();
    if !is_pod {
        let claim = Asked { requests: amounts(&object["spec"], Side::Requests)?, limits: Amounts::new() };
        for item in items(range, "PersistentVolumeClaim") {
            each(item, "min", |bound| violations.extend(bound.least(&claim)))?;
            each(item, "max", |bound| violations.extend(bound.most_requested(&claim)))?;
        }
        return Ok(violations);
    }
    for item in range["spec"]["limits"].as_array().into_iter().flatten() {
        let asked = match item["type"].as_str() {
            Some("Container") => {
                let all = ["containers", "initContainers"].into_iter();
                let all = all.flat_map(|list| containers(object, list));
                all.map(|container| Asked::of(|side| amounts(container, side)))
                    .collect::<Result<Vec<_>, _>>()?
            }
            Some("Pod") => vec![Asked::of(|side| pod_amounts(object, side))?],
            _ => continue,
        };
        for asked in &asked {
            each(item, "min", |bound| violations.extend(bound.least(asked)))?;
            each(item, "max", |bound| violations.extend(bound.most(asked)))?;
            each(item, "maxLimitRequestRatio", |bound| violations.extend(bound.ratio(asked)))?;
        }
    }
    Ok(violations)
}

impl Asked {
    fn of(read: impl Fn(Side) -> Result<Amounts, QuantityError>) -> Result<Self, QuantityError> {
        Ok(Self { requests: read(Side::Requests)?, limits: read(Side::Limits)? })
    }
}

/// A bound of one resource.
struct Bound<'a> {
    resource: &'a str,
    kind: &'a str,
    amount: Quantity,
}

fn each<'a>(item: &'a Value, field: &str, mut look: impl FnMut(Bound<'a>)) -> Result<(), QuantityError> {
    let kind = item["type"].as_str().unwrap_or_default();
    let mut bounds: Vec<_> = item[field].as_object().into_iter().flatten().collect();
    bounds.sort_unstable_by_key(|(resource, _)| resource.as_str());
    for (resource, amount) in bounds {
        look(Bound { resource, kind, amount: Quantity::of(amount)? });
    }
    Ok(())
}

impl Bound<'_> {
    fn least(&self, asked: &Asked) -> Option<String> {
        let said = format!("minimum {} usage per {} is {}", self.resource, self.kind, self.amount);
        let Some(request) = asked.requests.get(self.resource) else {
            return Some(format!("{said}.  No request is specified"));
        };
        if *request < self.amount {
            return Some(format!("{said}, but request is {request}"));
        }
        let limit = asked.limits.get(self.resource).filter(|limit| **limit < self.amount);
        limit.map(|limit| format!("{said}, but limit is {limit}"))
    }

    fn most(&self, asked: &Asked) -> Option<String> {
        let said = format!("maximum {} usage per {} is {}", self.resource, self.kind, self.amount);
        let Some(limit) = asked.limits.get(self.resource) else {
            return Some(format!("{said}.  No limit is specified"));
        };
        if *limit > self.amount {
            return Some(format!("{said}, but limit is {limit}"));
        }
        let request = asked.requests.get(self.resource).filter(|request| **request > self.amount);
        request.map(|request| format!("{said}, but request is {request}"))
    }

    fn most_requested(&self, asked: &Asked) -> Option<String> {
        let said = format!("maximum {} usage per {} is {}", self.resource, self.kind, self.amount);
        let Some(request) = asked.requests.get(self.resource) else {
            return Some(format!("{said}.  No request is specified"));
        };
        (*request > self.amount).then(|| format!("{said}, but request is {request}"))
    }

    fn ratio(&self, asked: &Asked) -> Option<String> {
        let said =
            format!("{} max limit to request ratio per {} is {}", self.resource, self.kind, self.amount);
        let set = |amounts: &Amounts| amounts.get(self.resource).copied().filter(|amount| !amount.is_zero());
        let Some(request) = set(&asked.requests) else {
            return Some(format!("{said}, but no request is specified or request is 0"));
        };
        let Some(limit) = set(&asked.limits) else {
            return Some(format!("{said}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.ratio(request);
        (ratio > self.amount.ratio(Quantity::whole(1)))
            .then(|| format!("{said}, but provided ratio is {ratio:.6}"))
    }
}
