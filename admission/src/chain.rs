//! The chain: which controllers there are, and in what order they are asked.

use std::sync::Arc;

use crate::{
    built_in::Settings,
    cluster::{ClusterState, MemoryCluster},
    controller::AdmissionController,
    denial::Denial,
    request::AdmissionRequest,
};

mod apart;
mod entry;
mod outcome;
mod plugins;
mod run;
#[cfg(test)]
mod tests;

pub use entry::ControllerStatus;
pub use outcome::{Decision, Outcome, Verdict};
pub use plugins::PluginError;
pub use run::LONGEST_ADMISSION;

pub(crate) use entry::Place;
pub(crate) use plugins::known as known_plugin;

use entry::Entry;

/// What looks at the object between the two phases: the rules of its schema.
pub type Validation = dyn Fn(&AdmissionRequest) -> Result<(), Denial> + Send + Sync;

/// Controllers in their order.
///
/// A request goes through the mutating phase, the validation of the object, and the validating phase; the first
/// denial ends it. The built-in controllers stand in kube-apiserver's order, whatever the order of the calls below;
/// those that were added stand where webhooks do: behind all others but ResourceQuota, which charges last.
pub struct AdmissionChain {
    state: Arc<dyn ClusterState>,
    settings: Settings,
    validation: Option<Arc<Validation>>,
    entries: Vec<Entry>,
}

impl std::fmt::Debug for AdmissionChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(Entry::name)).finish()
    }
}

impl Default for AdmissionChain {
    fn default() -> Self {
        Self::new()
    }
}

impl AdmissionChain {
    /// A chain without controllers, before a new cluster that is in memory.
    pub fn new() -> Self {
        Self::before(Arc::new(MemoryCluster::new()))
    }

    /// A chain without controllers, before a cluster.
    pub fn before(state: Arc<dyn ClusterState>) -> Self {
        Self { state, settings: Settings::default(), validation: None, entries: Vec::new() }
    }

    /// Sets how the built-in controllers that are added after it behave.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets what looks at the object between the phases; without it no schema is checked.
    #[must_use]
    pub fn with_validation(mut self, validation: Arc<Validation>) -> Self {
        self.validation = Some(validation);
        self
    }

    /// Adds a controller. It runs on threads of its own, so that one that never yields stops nothing else.
    #[must_use]
    pub fn with_controller(mut self, controller: Arc<dyn AdmissionController>) -> Self {
        self.insert(Entry::new(controller, Place::Added));
        self
    }

    /// Puts a controller behind those of its own and of earlier places; one of the same name makes way for it.
    fn insert(&mut self, entry: Entry) {
        self.entries.retain(|other| other.name() != entry.name());
        let at = self.entries.partition_point(|other| other.place <= entry.place);
        self.entries.insert(at, entry);
    }

    /// The controllers in their order, each with how often it was called and whether it is set aside.
    pub fn controllers(&self) -> impl Iterator<Item = ControllerStatus<'_>> {
        self.entries.iter().map(Entry::status)
    }

    /// Calls a controller again that was set aside because it never yielded. Whether there was one.
    pub fn resume(&self, name: &str) -> bool {
        self.entries.iter().filter(|entry| entry.name() == name).any(Entry::resume)
    }
}
