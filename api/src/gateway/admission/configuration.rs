//! What configures admission, kept in memory as the store has it, and compiled.

use std::{collections::BTreeMap, sync::Arc};

use ::admission::{Configuration, Configured};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gateway::{follow::Followed, object::Object, store::Store};

/// Where it is kept.
const CONFIGURATION: Followed = Followed {
    what: "admission configuration",
    prefixes: &[
        "mutatingadmissionpolicies/",
        "mutatingadmissionpolicybindings/",
        "validatingadmissionpolicies/",
        "validatingadmissionpolicybindings/",
        "mutatingwebhookconfigurations/",
        "validatingwebhookconfigurations/",
    ],
};

/// What is in force; none until the store was read.
pub type InForce = watch::Receiver<Option<Arc<Configuration>>>;

/// Follows the store until `stop`.
pub async fn follow(
    store: Arc<dyn Store>,
    in_force: watch::Sender<Option<Arc<Configuration>>>,
    stop: CancellationToken,
) {
    let told = |objects: &BTreeMap<String, Object>| {
        let former = in_force.borrow().clone().unwrap_or_default();
        let values: Vec<_> = objects
            .iter()
            .filter_map(|(key, object)| Some((kind(key)?, object.clone().into_value())))
            .collect();
        // Compiling takes as long as it takes: elsewhere the thread would serve requests.
        let read = || Configuration::read(values.iter().map(|(kind, value)| (*kind, value)), &former);
        let configuration = tokio::task::block_in_place(read);
        in_force.send_replace(Some(Arc::new(configuration)));
    };
    CONFIGURATION.follow(&*store, &stop, told).await;
}

fn kind(key: &str) -> Option<Configured> {
    let plural = key.split('/').next()?;
    Configured::ALL.into_iter().find(|kind| kind.plural() == plural)
}
