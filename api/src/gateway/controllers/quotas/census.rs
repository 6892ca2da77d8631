//! The count of one namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::admission::Tally;
use axum::http::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::super::agent::Agent;
use crate::gateway::{
    admission::pending::{self, Pending},
    object::Object,
    registry::{ListOptions, Registry},
    resources::{Resource, resources},
    selectors::Selectors,
    status::{Qualified, Status},
    stored,
};

/// Objects that are read at once.
const CHUNK: usize = 500;

/// How long a charge is held whose object does not come and whose process may still run: a request's longest time, and
/// some for its last write to arrive.
const HELD: Duration = Duration::from_secs(45);

/// How long what went is remembered: as long as a charge for it may be noted. And how many at most; with more of them
/// in that time a charge is held for longer than it needs to be.
const REMEMBERED: usize = 100_000;

/// What a count found.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Where the objects are that the quotas speak of.
    pub(super) prefixes: BTreeSet<String>,
    /// Whether every charge that was noted has its object.
    pub(super) is_settled: bool,
}

/// Counts, and what it knows from one count to the next.
pub(super) struct Census<'c> {
    registry: &'c Registry,
    agent: &'c Agent,
    boot: Option<&'c str>,
    /// Since when each noted charge is known, by its request.
    known: HashMap<String, Instant>,
    /// Objects that went, by their uid.
    gone: HashMap<String, Instant>,
}

impl<'c> Census<'c> {
    pub(super) fn new(registry: &'c Registry, agent: &'c Agent, boot: Option<&'c str>) -> Self {
        Self { registry, agent, boot, known: HashMap::new(), gone: HashMap::new() }
    }

    /// Remembers an object that went, so that a charge for it is not held.
    pub(super) fn remember(&mut self, last: Option<&[u8]>) {
        let Some(object) = last.and_then(|bytes| stored::decode(bytes, 0).ok()) else { return };
        if self.gone.len() < REMEMBERED {
            self.gone.insert(object.uid().to_owned(), Instant::now());
        }
    }

    /// Counts the quotas of a namespace.
    ///
    /// # Errors
    /// 409 when one of them was charged meanwhile, and what the store says.
    pub(super) async fn count(&mut self, namespace: &str) -> Result<Counted, Status> {
        let held = |since: &mut Instant| since.elapsed() <= HELD * 2;
        self.gone.retain(|_, since| held(since));
        self.known.retain(|_, since| held(since));
        let countable: BTreeMap<String, &'static Resource> =
            countable().map(|resource| (name(resource), resource)).collect();
        let quotas = resources().get("", "v1", "resourcequotas").ok_or_else(Status::no_such_resource)?;
        let mut counts = Vec::new();
        for quota in self.all(quotas, namespace).await? {
            let names = countable.keys().map(String::as_str);
            // A quota that cannot be read refuses what it is asked; the others of the namespace are counted.
            match Tally::of(&Value::Object(quota.members().clone()), names) {
                Ok(tally) => counts.push((quota, tally)),
                Err(error) => {
                    tracing::warn!(namespace, quota = quota.name(), %error, "a quota cannot be read")
                }
            }
        }
        let wanted: BTreeSet<String> =
            counts.iter().flat_map(|(_, tally)| tally.resources()).cloned().collect();
        let mut counted = Counted { prefixes: BTreeSet::new(), is_settled: true };
        let mut noted: BTreeMap<String, bool> = counts
            .iter()
            .flat_map(|(quota, _)| pending::read(quota))
            .filter_map(|(_, p)| Some((p.object?, false)))
            .collect();
        for (name, resource) in countable.iter().filter(|(name, _)| wanted.contains(*name)) {
            counted.prefixes.insert(format!("{}/", resource.storage));
            for object in self.all(resource, namespace).await? {
                if let Some(is_there) = noted.get_mut(object.uid()) {
                    *is_there = true;
                }
                let object = object.into_value();
                for (_, tally) in &mut counts {
                    tally.count(name, &object).map_err(Status::internal)?;
                }
            }
        }
        for (quota, tally) in counts {
            counted.is_settled &= self.write(quota, tally, &noted).await?;
        }
        Ok(counted)
    }

    /// Whether no charge is held any more.
    async fn write(
        &mut self,
        quota: Object,
        mut tally: Tally,
        is_there: &BTreeMap<String, bool>,
    ) -> Result<bool, Status> {
        let mut held = pending::read(&quota);
        held.retain(|request, charge| self.is_held(request, charge, is_there));
        for charge in held.values() {
            tally.count_charge(&charge.used).map_err(Status::internal)?;
        }
        let mut new = quota.clone();
        pending::write(&mut new, &held);
        let hard = quota.at("/spec/hard").cloned().unwrap_or_else(|| json!({}));
        let status = json!({ "hard": hard, "used": tally.used() });
        new.members_mut().insert("status".to_owned(), status);
        if new != quota {
            let (namespace, name) = (quota.namespace(), quota.name());
            let path = format!("/api/v1/namespaces/{namespace}/resourcequotas/{name}/status");
            match self.agent.send(Method::PUT, &path, Some(&new.into_value())).await {
                // Gone meanwhile.
                Err(status) if status.code == 404 => {}
                sent => drop(sent?),
            }
        }
        Ok(held.is_empty())
    }

    /// Whether a request may still store what it was charged for.
    fn is_held(&mut self, request: &str, charge: &Pending, is_there: &BTreeMap<String, bool>) -> bool {
        let since = *self.known.entry(request.to_owned()).or_insert_with(Instant::now);
        let has_ended = self.boot.is_some_and(|boot| boot != &*charge.boot);
        let has_come = charge
            .object
            .as_ref()
            .is_some_and(|uid| is_there.get(uid).copied().unwrap_or_default() || self.gone.contains_key(uid));
        !has_come && !has_ended && since.elapsed() < HELD
    }

    async fn all(&self, resource: &'static Resource, namespace: &str) -> Result<Vec<Object>, Status> {
        let mut objects = Vec::new();
        let mut options = ListOptions::all(CHUNK);
        loop {
            let page = self.registry.list(resource, namespace, &Selectors::default(), &options).await?;
            if let Some(unreadable) = page.unreadable.first() {
                return Err(Status::internal(unreadable));
            }
            for raw in &page.items {
                objects.push(stored::decode(&raw.value, raw.revision.0).map_err(Status::internal)?);
            }
            let Some(token) = page.continues else { return Ok(objects) };
            options = ListOptions::after(&token, CHUNK)?;
        }
    }
}

/// What namespaces hold, each stored form once.
fn countable() -> impl Iterator<Item = &'static Resource> {
    resources().all().filter(|resource| {
        resource.namespaced && resource.verbs.contains(&"list") && resource.is_stored_as_it_is()
    })
}

/// As quotas name it.
fn name(resource: &Resource) -> String {
    Qualified { group: resource.group, name: resource.plural }.to_string()
}
