//! Charges against quotas: made before an object is stored, given back when it never is.
//!
//! A charge and the note of it are one write of the quota, by compare-and-set. While the note is there, whoever counts
//! the quota anew adds it to the objects that are stored, so that a count cannot free what a request is about to use.
//! The note goes with a later charge of the same process, or when a count finds the object. What a process that died
//! had noted is given back by the count, see `controllers::quotas`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use ::admission::{Charge, Charged};
use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::pending::{self, Pending};
use crate::gateway::{
    object::Object,
    registry::{Edit, Registry, Target},
    resources::resources,
    status::Status,
};

/// The charges of a process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Charges {
    registry: Registry,
    boot: Arc<str>,
    open: Arc<Mutex<Open>>,
}

/// A quota: its namespace and its name.
type Place = (String, String);

#[derive(Debug, Default)]
struct Made {
    places: Vec<Place>,
    /// Whether a new object was charged for, by which a count knows the charge.
    is_of_new: bool,
}

#[derive(Debug, Default)]
struct Open {
    /// Where requests on their way are charged.
    made: HashMap<String, Made>,
    /// Requests that are through, whose notes are still in a quota.
    through: HashMap<Place, BTreeSet<String>>,
}

impl Charges {
    /// None yet.
    pub fn new(registry: Registry) -> Self {
        Self { registry, boot: Uuid::new_v4().to_string().into(), open: Arc::default() }
    }

    /// By what this process is known in notes.
    pub fn boot(&self) -> &Arc<str> {
        &self.boot
    }

    /// Makes all of them, or none.
    pub(super) async fn make(&self, charges: &[Charge]) -> Result<Charged, Status> {
        let mut made = Vec::new();
        for charge in charges {
            let place = (charge.namespace.clone(), charge.name.clone());
            let outcome = self.draw(charge, &place).await;
            made.push(place);
            if let Err(status) = outcome {
                // The last one too: it may have been made although its answer was lost.
                self.give_back_at(&charge.request, &made).await;
                return if matches!(status.code, 404 | 409) { Ok(Charged::Changed) } else { Err(status) };
            }
        }
        if let Some(charge) = charges.first() {
            let made = Made { places: made, is_of_new: charge.object.is_some() };
            self.lock().made.insert(charge.request.clone(), made);
        }
        Ok(Charged::Done)
    }

    async fn draw(&self, charge: &Charge, place: &Place) -> Result<(), Status> {
        let through = self.lock().through.get(place).cloned().unwrap_or_default();
        let mut edit = Draw { charge, boot: &self.boot, through: &through };
        let drawn = self.edit(place, &mut edit).await;
        let mut open = self.lock();
        if drawn.is_ok()
            && let Some(left) = open.through.get_mut(place)
        {
            left.retain(|request| !through.contains(request));
        }
        if drawn.as_ref().is_err_and(|status| status.code == 404) {
            open.through.remove(place);
        }
        drawn
    }

    /// What a request was charged for is stored.
    pub(super) async fn keep(&self, request: &str) {
        let made = self.lock().made.remove(request).unwrap_or_default();
        if !made.is_of_new {
            // The sums of a count would hold the change twice while it is noted.
            return self.edit_all(&made.places, &mut Unnote { request, is_given_back: false }).await;
        }
        let mut open = self.lock();
        for place in made.places {
            open.through.entry(place).or_default().insert(request.to_owned());
        }
    }

    /// What a request was charged for is not stored, and will not be.
    pub(super) async fn give_back(&self, request: &str) {
        let made = self.lock().made.remove(request).unwrap_or_default();
        self.give_back_at(request, &made.places).await;
    }

    /// Whether what a request was charged for is stored is not known: a count will see.
    pub(super) fn forget(&self, request: &str) {
        self.lock().made.remove(request);
    }

    async fn give_back_at(&self, request: &str, places: &[Place]) {
        self.edit_all(places, &mut Unnote { request, is_given_back: true }).await;
    }

    async fn edit_all(&self, places: &[Place], edit: &mut Unnote<'_>) {
        for place in places {
            match self.edit(place, edit).await {
                Err(status) if status.code != 404 => {
                    let (namespace, quota) = place;
                    tracing::warn!(
                        namespace,
                        quota,
                        error = status.message,
                        "a charge stays until it is counted"
                    );
                }
                _ => {}
            }
        }
    }

    async fn edit(&self, (namespace, name): &Place, edit: &mut dyn Edit) -> Result<(), Status> {
        let resource = resources().get("", "v1", "resourcequotas").ok_or_else(Status::no_such_resource)?;
        self.registry.update(&Target { resource, namespace, name }, false, edit).await.map(drop)
    }

    /// A panic while the lock was held left nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Draw<'d> {
    charge: &'d Charge,
    boot: &'d Arc<str>,
    through: &'d BTreeSet<String>,
}

#[async_trait]
impl Edit for Draw<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        if old.resource_version() != self.charge.revision {
            let resource =
                resources().get("", "v1", "resourcequotas").ok_or_else(Status::no_such_resource)?;
            let target = Target { resource, namespace: old.namespace(), name: old.name() };
            return Err(Status::modified(target.what(), old.name()));
        }
        let mut new = old.clone();
        new.members_mut().entry("status").or_insert_with(|| json!({}))["used"] = json!(self.charge.used);
        let mut noted = pending::read(old);
        noted.retain(|request, _| !self.through.contains(request));
        noted.insert(self.charge.request.clone(), Pending::of(self.charge, self.boot));
        pending::write(&mut new, &noted);
        Ok(new)
    }
}

/// Takes a request's note away, and what was charged with it. It happens once, however often it is asked for.
struct Unnote<'u> {
    request: &'u str,
    is_given_back: bool,
}

#[async_trait]
impl Edit for Unnote<'_> {
    async fn edit(&mut self, old: &Object) -> Result<Object, Status> {
        let mut new = old.clone();
        let mut noted = pending::read(old);
        if let Some(charged) = noted.remove(self.request) {
            if self.is_given_back {
                pending::take_off(&mut new, &charged.used);
            }
            pending::write(&mut new, &noted);
        }
        Ok(new)
    }
}
