//! What all objects of a namespace use of one quota together, counted anew.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    quota::read,
    scope,
    usage::{counts, used},
    written,
};
use crate::{
    pod::resources::{Amounts, add},
    quantity::{Quantity, QuantityError},
};

/// The sums for one quota.
#[derive(Debug)]
pub struct Tally {
    spec: Value,
    resources: Vec<String>,
    sums: Amounts,
}

impl Tally {
    /// Nothing yet, of a quota's specification. `resources` are those that can be counted at all, written as errors
    /// name them: `pods`, `deployments.apps`. A name in the quota that is of none of them gets no sum.
    ///
    /// # Errors
    /// When a limit is no amount.
    pub fn of<'r>(
        quota: &Value,
        resources: impl IntoIterator<Item = &'r str>,
    ) -> Result<Self, QuantityError> {
        let hard = read(&quota["spec"]["hard"])?;
        let mut tally = Self { spec: quota["spec"].clone(), resources: Vec::new(), sums: Amounts::new() };
        for resource in resources {
            let names: Vec<_> = hard.keys().filter(|name| counts(resource, name)).collect();
            if !names.is_empty() {
                tally.resources.push(resource.to_owned());
            }
            tally.sums.extend(names.into_iter().map(|name| (name.clone(), Quantity::whole(0))));
        }
        Ok(tally)
    }

    /// The resources whose objects are to be counted.
    pub fn resources(&self) -> &[String] {
        &self.resources
    }

    /// Counts one object; one that the quota is not for changes nothing.
    ///
    /// # Errors
    /// When an amount in the object cannot be read.
    pub fn count(&mut self, resource: &str, object: &Value) -> Result<(), QuantityError> {
        let is_counted = self.resources.iter().any(|counted| counted == resource);
        let is_in_scope = || scope::terms(&self.spec).all(|term| resource == "pods" && term.holds(object));
        if is_counted && is_in_scope() {
            self.add(used(resource, object)?);
        }
        Ok(())
    }

    /// Counts what was charged for an object that is not there yet.
    ///
    /// # Errors
    /// When an amount cannot be read.
    pub fn count_charge(&mut self, delta: &BTreeMap<String, String>) -> Result<(), QuantityError> {
        let amounts: Result<Amounts, _> =
            delta.iter().map(|(name, amount)| Ok((name.clone(), amount.parse()?))).collect();
        self.add(amounts?);
        Ok(())
    }

    /// What is `status.used`.
    pub fn used(self) -> BTreeMap<String, String> {
        written(self.sums)
    }

    fn add(&mut self, mut amounts: Amounts) {
        amounts.retain(|name, _| self.sums.contains_key(name));
        add(&mut self.sums, &amounts);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RESOURCES: [&str; 4] = ["configmaps", "deployments.apps", "pods", "services"];

    fn tally(spec: Value) -> Tally {
        Tally::of(&json!({"spec": spec}), RESOURCES).unwrap()
    }

    #[test]
    fn what_is_limited_is_counted_and_nothing_else() {
        let mut tally = tally(json!({"hard": {
            "pods": "9", "requests.cpu": "9", "count/deployments.apps": "9", "services.nodeports": "9", "count/x": "9",
        }}));
        assert_eq!(tally.resources(), ["deployments.apps", "pods", "services"]);
        let container = json!({"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}});
        let pod = json!({"spec": {"containers": [container]}});
        tally.count("pods", &pod).unwrap();
        tally.count("pods", &pod).unwrap();
        tally.count("pods", &json!({"status": {"phase": "Failed"}})).unwrap();
        tally.count("configmaps", &json!({})).unwrap();
        tally.count("services", &json!({"spec": {"type": "NodePort", "ports": [{}, {}]}})).unwrap();
        tally.count_charge(&[("pods".to_owned(), "1".to_owned())].into()).unwrap();
        let used = [
            ("count/deployments.apps", "0"),
            ("pods", "3"),
            ("requests.cpu", "1"),
            ("services.nodeports", "2"),
        ];
        let used = used.map(|(name, amount)| (name.to_owned(), amount.to_owned()));
        assert_eq!(tally.used(), used.into());
    }

    #[test]
    fn scopes_choose_pods() {
        let mut tally =
            tally(json!({"hard": {"pods": "9", "count/configmaps": "1"}, "scopes": ["Terminating"]}));
        tally.count("pods", &json!({"spec": {"activeDeadlineSeconds": 5}})).unwrap();
        tally.count("pods", &json!({"spec": {}})).unwrap();
        tally.count("configmaps", &json!({})).unwrap();
        let used = [("count/configmaps", "0"), ("pods", "1")];
        assert_eq!(tally.used(), used.map(|(name, amount)| (name.to_owned(), amount.to_owned())).into());
    }
}
