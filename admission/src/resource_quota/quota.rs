//! One quota: what it limits, what is used of it, and what may still come.

use serde_json::Value;

use super::{scope, usage::Usage};
use crate::{
    Denial,
    pod::resources::Amounts,
    quantity::{Quantity, QuantityError},
};

/// A quota of a namespace.
pub(super) struct Quota<'a> {
    pub(super) name: &'a str,
    pub(super) revision: &'a str,
    spec: &'a Value,
    hard: Amounts,
    used: Amounts,
}

impl<'a> Quota<'a> {
    /// Reads one. Until its status is known the limits of its specification count.
    ///
    /// # Errors
    /// When an amount cannot be read.
    pub(super) fn of(quota: &'a Value) -> Result<Self, QuantityError> {
        let (metadata, spec, status) = (&quota["metadata"], &quota["spec"], &quota["status"]);
        let hard = if status["hard"].is_object() { &status["hard"] } else { &spec["hard"] };
        Ok(Self {
            name: metadata["name"].as_str().unwrap_or_default(),
            revision: metadata["resourceVersion"].as_str().unwrap_or_default(),
            spec,
            hard: read(hard)?,
            used: read(&status["used"])?,
        })
    }

    /// Whether an object falls under the quota: it limits something of it, and all of its scopes hold.
    pub(super) fn covers(&self, usage: &Usage<'_>) -> bool {
        self.hard.keys().any(|name| usage.counts(name)) && self.is_in_scope(usage, usage.object)
    }

    /// Whether it was not counted yet how much is used of what an object is limited in.
    pub(super) fn is_uncounted(&self, usage: &Usage<'_>) -> bool {
        let of_object = |name: &&String| usage.counts(name);
        self.hard.keys().filter(of_object).any(|name| !self.used.contains_key(name))
    }

    /// Whether a state of the object is in the quota's scopes.
    pub(super) fn is_in_scope(&self, usage: &Usage<'_>, object: &Value) -> bool {
        scope::terms(self.spec).all(|term| usage.is_pod && term.holds(object))
    }

    /// Refuses a Pod that leaves open what the quota counts.
    pub(super) fn demands(&self, usage: &Usage<'_>) -> Result<(), Denial> {
        let missing = usage.missing(self.hard.keys().map(String::as_str));
        if missing.is_empty() {
            return Ok(());
        }
        let parts = missing.iter().map(|(name, containers)| format!("{name} for: {}", containers.join(",")));
        let parts: Vec<_> = parts.collect();
        Err(format!("failed quota: {}: must specify {}", self.name, parts.join("; ")).into())
    }

    /// What of an amount is limited here, and `status.used` with it; none where nothing of it is.
    pub(super) fn with(&self, delta: &Amounts) -> Result<Option<(Amounts, Amounts)>, Denial> {
        let limited = delta.iter().filter(|(name, _)| self.hard.contains_key(*name));
        let limited: Amounts = limited.map(|(name, amount)| (name.clone(), *amount)).collect();
        let negative: Vec<_> = names(&limited, |_, amount| amount.is_negative());
        if !negative.is_empty() {
            return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")).into());
        }
        let charged: Amounts = limited.into_iter().filter(|(_, amount)| !amount.is_zero()).collect();
        if charged.is_empty() {
            return Ok(None);
        }
        let unknown = names(&charged, |name, _| !self.used.contains_key(name));
        if !unknown.is_empty() {
            let name = self.name;
            return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")).into());
        }
        let mut used = self.used.clone();
        crate::pod::resources::add(&mut used, &charged);
        let exceeded = names(&charged, |name, _| used[name] > self.hard[name]);
        if !exceeded.is_empty() {
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                self.name,
                shown(&charged, &exceeded),
                shown(&self.used, &exceeded),
                shown(&self.hard, &exceeded)
            )
            .into());
        }
        Ok(Some((charged, used)))
    }
}

/// The amounts by their names.
pub(super) fn read(amounts: &Value) -> Result<Amounts, QuantityError> {
    let set = amounts.as_object();
    set.into_iter().flatten().map(|(name, value)| Ok((name.clone(), Quantity::of(value)?))).collect()
}

/// The names of some of the amounts, in their order.
fn names(amounts: &Amounts, which: impl Fn(&str, Quantity) -> bool) -> Vec<String> {
    amounts.iter().filter(|(name, amount)| which(name, **amount)).map(|(name, _)| name.clone()).collect()
}

fn shown(amounts: &Amounts, names: &[String]) -> String {
    let parts = names.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(name)?)));
    parts.collect::<Vec<_>>().join(",")
}
