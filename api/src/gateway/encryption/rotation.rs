//! Writing everything anew that lies under another key than the first one.

use std::time::Duration;

use crypto::KeyTag;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep},
};

use super::{
    EncryptedStore,
    instances::Instances,
    inventory::Pages,
    place::{self, Place},
};
use crate::gateway::{
    store::{Item, List, Revision, Store, StoreError, WriteError},
    strategy,
};

/// Passes over a resource that may end with something stale, before the rotation gives up: each pass leaves only
/// what others wrote under an old key meanwhile, so there is somebody who has another configuration.
const PASSES: u32 = 10;

/// How long instances may take to agree on the first key: as long as a changed file takes to reach all of them.
const AGREE_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Between two looks at what they say.
const LOOK: Duration = Duration::from_millis(500);

/// What is written anew.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// One resource as configurations name it; all of them without a name.
    pub resource: Option<String>,
    /// Values that are written in a second at most, so that clients keep their share of the store.
    pub per_second: u32,
}

/// How far a rotation is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RotationState {
    /// None since the start.
    #[default]
    Idle,
    /// Under way.
    Running(Figures),
    /// Every value lies under the first key of its resource: true of the state at each resource's revision.
    Done(Figures),
    /// It ended before that. Asking again goes on.
    Failed {
        /// Why.
        error: String,
        /// How far it had come.
        #[serde(flatten)]
        figures: Figures,
    },
}

/// What a rotation has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Values that were looked at in the passes so far.
    pub seen: u64,
    /// Values that were written anew.
    pub rewritten: u64,
    /// What was proven, resource by resource.
    pub proofs: Vec<Proof>,
    /// What it waits for: instances that write under another key, a line for each.
    pub waits_for: Vec<String>,
}

/// That no value of a resource lies under an old key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// As configurations name it.
    pub resource: String,
    /// The key that every value lies under, which every instance writes under.
    pub key: KeyTag,
    /// The state that was read whole. The store's history before it holds old values until it is compacted up to it.
    pub revision: Revision,
    /// How many values that state has.
    pub count: u64,
    /// Whether the history before that state is gone, as far as that was looked at.
    pub is_forgotten: bool,
}

impl Proof {
    /// Looks whether the store's history still holds what was replaced up to the proof's revision.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn look_at_history(&mut self, store: &EncryptedStore) -> Result<(), StoreError> {
        let before = Revision(self.revision.0.saturating_sub(1));
        let list = List { prefix: &self.resource, at: Some(before), limit: Some(1), ..List::default() };
        match store.below().list(&list).await {
            Ok(_) => Ok(()),
            Err(StoreError::Compacted { .. }) => {
                self.is_forgotten = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Why a rotation ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RotationError {
    /// No resource of that name is stored.
    #[error(
        "no resource {0:?} is stored; give it as the configuration does, such as secrets or deployments.apps"
    )]
    NoResource(String),
    /// The configuration does not name the resource.
    #[error("no rule of the encryption configuration names {0}")]
    NoRule(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Values that nobody can decrypt keep their keys.
    #[error("{count} values of {resource} cannot be decrypted, the first: {first}")]
    Unreadable {
        /// The resource.
        resource: String,
        /// How many.
        count: u64,
        /// One of them, and why.
        first: String,
    },
    /// Other instances write under another key.
    #[error("instances do not agree on the first key after {AGREE_WITHIN:?}: {}", .0.join("; "))]
    Disagreement(Vec<String>),
    /// There is always something stale.
    #[error(
        "values of {0} are still written under an old key after {PASSES} passes: another server, which says nothing of \
         its keys, has another configuration"
    )]
    Restless(String),
}

/// Rotates, and tells how far it is. It can be ended at any time, and asked for again.
pub async fn rotation(store: &EncryptedStore, asked: &Rotation, told: &watch::Sender<RotationState>) {
    let mut figures = Figures::default();
    told.send_replace(RotationState::Running(figures.clone()));
    let outcome = rotate(store, asked, &mut figures, told).await;
    told.send_replace(match outcome {
        Ok(()) => RotationState::Done(figures),
        Err(error) => RotationState::Failed { error: crate::errors::chain(&error), figures },
    });
}

async fn rotate(
    store: &EncryptedStore,
    asked: &Rotation,
    figures: &mut Figures,
    told: &watch::Sender<RotationState>,
) -> Result<(), RotationError> {
    let mut pace = interval(Duration::from_secs(1) / asked.per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for place in places(store, asked.resource.as_deref())? {
        let proof = prove(store, place, &mut pace, figures, told).await?;
        figures.proofs.push(proof);
    }
    Ok(())
}

fn places(store: &EncryptedStore, name: Option<&str>) -> Result<Vec<&'static Place>, RotationError> {
    let has_rule = |place: &&Place| !store.transformer().passes(&place.name, b"");
    let Some(name) = name else { return Ok(place::all().into_iter().filter(has_rule).collect()) };
    let place = place::all().into_iter().find(|place| place.name == name);
    let place = place.ok_or_else(|| RotationError::NoResource(name.to_owned()))?;
    if has_rule(&place) { Ok(vec![place]) } else { Err(RotationError::NoRule(name.to_owned())) }
}

/// Passes over a resource until one finds nothing stale in a whole state.
async fn prove(
    store: &EncryptedStore,
    place: &Place,
    pace: &mut Interval,
    figures: &mut Figures,
    told: &watch::Sender<RotationState>,
) -> Result<Proof, RotationError> {
    let mut instances = Instances::default();
    for _ in 0..PASSES {
        agree(store, place, &mut instances, figures, told).await?;
        store.settled().await;
        let key = store.transformer().keys(&place.name).into_iter().next();
        let mut pass = Pass { revision: Revision(0), count: 0, stale: 0, unreadable: Vec::new() };
        match pass.run(store, place, pace, figures, told).await {
            Ok(()) => {}
            // The state was compacted away under a pass that took long: the next one reads a newer one.
            Err(StoreError::Compacted { .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(first) = pass.unreadable.first() {
            return Err(RotationError::Unreadable {
                resource: place.name.clone(),
                count: pass.unreadable.len() as u64,
                first: first.clone(),
            });
        }
        // Whoever changed meanwhile may have written under an old key behind the pass.
        if pass.stale == 0
            && key == store.transformer().keys(&place.name).into_iter().next()
            && instances.who_differs(store, &place.name).await?.is_empty()
            && let Some(key) = key
        {
            let Pass { revision, count, .. } = pass;
            return Ok(Proof { resource: place.name.clone(), key, revision, count, is_forgotten: false });
        }
    }
    Err(RotationError::Restless(place.name.clone()))
}

/// Waits until every instance that is not silent writes the resource under the same key as this one.
async fn agree(
    store: &EncryptedStore,
    place: &Place,
    instances: &mut Instances,
    figures: &mut Figures,
    told: &watch::Sender<RotationState>,
) -> Result<(), RotationError> {
    let until = Instant::now() + AGREE_WITHIN;
    loop {
        figures.waits_for = instances.who_differs(store, &place.name).await?;
        told.send_replace(RotationState::Running(figures.clone()));
        if figures.waits_for.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(RotationError::Disagreement(figures.waits_for.clone()));
        }
        sleep(LOOK).await;
    }
}

/// One reading of a whole state.
struct Pass {
    revision: Revision,
    count: u64,
    stale: u64,
    unreadable: Vec<String>,
}

impl Pass {
    async fn run(
        &mut self,
        store: &EncryptedStore,
        place: &Place,
        pace: &mut Interval,
        figures: &mut Figures,
        told: &watch::Sender<RotationState>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::of(place.prefix());
        while let Some(listing) = pages.next(store).await? {
            self.revision = listing.revision;
            for item in listing.items {
                self.count += 1;
                figures.seen += 1;
                figures.rewritten += u64::from(self.look(store, place, pace, item).await?);
            }
            told.send_replace(RotationState::Running(figures.clone()));
        }
        Ok(())
    }

    /// Writes a stale value anew. False when it need not be, cannot be read, or was changed by somebody meanwhile.
    async fn look(
        &mut self,
        store: &EncryptedStore,
        place: &Place,
        pace: &mut Interval,
        item: Item,
    ) -> Result<bool, StoreError> {
        let modified = item.object.modified;
        let plain = match store.open(&item.key, modified, &item.object.value).await {
            Ok((_, false)) => return Ok(false),
            Ok((plain, true)) => plain,
            Err(error) => {
                self.unreadable.push(error.to_string());
                return Ok(false);
            }
        };
        self.stale += 1;
        pace.tick().await;
        let ttl = strategy::time_to_live(place.resource);
        match store.update(&item.key, plain, modified, ttl).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            // Somebody else wrote a value meanwhile that we cannot read: the next pass reports it.
            Err(WriteError::Store(StoreError::Unreadable(_))) => Ok(false),
            Err(WriteError::Store(error)) => Err(error),
        }
    }
}
