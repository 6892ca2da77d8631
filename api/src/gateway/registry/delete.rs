//! The end of an object: at once, or when its finalizers and its grace period are through.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Registry, Target, seconds, version};
use crate::gateway::{
    object::Object,
    status::Status,
    store::{Read, Revision, StoreError, Unreadable, WriteError},
    strategy,
};
use ingest::time::Timestamp;

/// What a client says of how an object is to end. Unknown members are what another version knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Seconds that it may live on; negative ones count as one.
    pub grace_period_seconds: Option<i64>,
    /// Only where the object is this one.
    pub preconditions: Option<Preconditions>,
    /// The former way to say [`Propagation::Orphan`].
    pub orphan_dependents: Option<bool>,
    /// What becomes of what it owns.
    pub propagation_policy: Option<Propagation>,
    /// `All`, or nothing.
    pub dry_run: Vec<String>,
    /// Whether to delete what is there even when it cannot be read, unseen.
    #[serde(rename = "ignoreStoreReadErrorWithClusterBreakingPotential")]
    pub ignore_read_error: bool,
}

/// Which object is meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// The one with this uid.
    pub uid: Option<String>,
    /// The one that was last changed at this revision.
    pub resource_version: Option<String>,
}

/// What becomes of what an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    /// It stays.
    Orphan,
    /// It goes later.
    Background,
    /// It goes first.
    Foreground,
}

/// What became of the object.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; this was its last state.
    Gone(Object),
    /// It will go when what it waits for is through.
    Later(Object),
}

impl Registry {
    /// Ends an object, or begins its end. One that was read before, at a revision, is not read again unless it has
    /// changed.
    ///
    /// # Errors
    /// 404 when it is not there, 409 when it is another one than the preconditions say.
    pub async fn delete(
        &self,
        target: &Target<'_>,
        seen: Option<(Object, Revision)>,
        options: &DeleteOptions,
        is_dry_run: bool,
    ) -> Result<Deleted, Status> {
        let key = target.key();
        let (mut old, mut modified) = match seen {
            Some(seen) => seen,
            None => match self.store.get(&key).await {
                Err(StoreError::Unreadable(value)) if options.ignore_read_error && !is_dry_run => {
                    return self.delete_unseen(target, value).await;
                }
                read => self.there(target, read?)?,
            },
        };
        loop {
            options.check(target, &old)?;
            let ending = Ending::of(target, &old, options, self.now());
            if is_dry_run {
                return Ok(ending.into_deleted(old));
            }
            let written = match &ending {
                Ending::Now => self.store.delete(&key, modified).await,
                Ending::Unchanged => return Ok(Deleted::Later(old)),
                Ending::Later(marked) => {
                    let ttl = strategy::time_to_live(target.resource);
                    let bytes = version::stored(target.resource, marked)?;
                    self.store.update(&key, bytes, modified, ttl).await
                }
            };
            match written {
                Ok(revision) => {
                    let mut deleted = ending.into_deleted(old);
                    deleted.object_mut().set_text("resourceVersion", &revision.to_string());
                    return Ok(deleted);
                }
                Err(WriteError::Conflict(now)) => (old, modified) = self.there(target, now)?,
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// The object that was read, and the change that wrote it.
    fn there(&self, target: &Target<'_>, read: Read) -> Result<(Object, Revision), Status> {
        let current = read.value.ok_or_else(|| Status::not_found(target.what(), target.name))?;
        let object = self.object(target.resource, &current.value, current.modified)?;
        Ok((object, current.modified))
    }

    /// Deletes what cannot be read: its finalizers, and what it owns, are not known.
    async fn delete_unseen(&self, target: &Target<'_>, value: Unreadable) -> Result<Deleted, Status> {
        tracing::warn!(%value, "deleted unseen");
        match self.store.delete(&value.key, value.modified).await {
            Ok(revision) => {
                let object = json!({
                    "kind": target.resource.kind,
                    "apiVersion": target.resource.api_version(),
                    "metadata": {"name": target.name, "resourceVersion": revision.to_string()},
                });
                Object::new(object).map(Deleted::Gone).map_err(Status::internal)
            }
            Err(WriteError::Conflict(_)) => Err(Status::modified(target.what(), target.name)),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}

impl Deleted {
    fn object_mut(&mut self) -> &mut Object {
        match self {
            Self::Gone(object) | Self::Later(object) => object,
        }
    }
}

impl DeleteOptions {
    /// What only one of may be given.
    ///
    /// # Errors
    /// 422 when both are.
    pub fn validate(&self) -> Result<(), Status> {
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            return Err(Status::unprocessable(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and \
                 deletionPropagation cannot be both set",
            ));
        }
        Ok(())
    }

    fn check(&self, target: &Target<'_>, object: &Object) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let fails = |what: &str, wanted: &str, actual: &str| {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
            );
            Err(Status::conflict(target.what(), target.name, &why))
        };
        match (&wanted.uid, &wanted.resource_version) {
            (Some(uid), _) if uid != object.uid() => fails("UID", uid, object.uid()),
            (_, Some(rv)) if rv != object.resource_version() => {
                fails("ResourceVersion", rv, object.resource_version())
            }
            _ => Ok(()),
        }
    }

    fn propagation(&self) -> Option<Propagation> {
        self.propagation_policy.or(match self.orphan_dependents {
            Some(true) => Some(Propagation::Orphan),
            _ => None,
        })
    }
}

/// How an object ends.
enum Ending {
    Now,
    /// It is ending already, and nothing new was said.
    Unchanged,
    /// As this.
    Later(Object),
}

impl Ending {
    fn of(target: &Target<'_>, old: &Object, options: &DeleteOptions, now: Timestamp) -> Self {
        let mut marked = old.clone();
        add_finalizer(&mut marked, options.propagation());
        strategy::begin_end(target.resource, &mut marked);
        let grace = strategy::grace_seconds(target.resource, old, options.grace_period_seconds);
        if grace == 0 && strategy::keeps_nothing(target.resource, &marked) {
            return Self::Now;
        }
        let left = old.metadata().get("deletionGracePeriodSeconds").and_then(Value::as_i64);
        if !old.is_deleting() || left.is_some_and(|left| grace < left) {
            let at = Timestamp::from_micros(now.micros() + grace * 1_000_000);
            marked.set_text("deletionTimestamp", &seconds(at));
            marked.metadata_mut().insert("deletionGracePeriodSeconds".into(), grace.into());
            if !old.is_deleting() && old.generation() > 0 {
                marked.metadata_mut().insert("generation".into(), (old.generation() + 1).into());
            }
        }
        if marked == *old { Self::Unchanged } else { Self::Later(marked) }
    }

    fn into_deleted(self, old: Object) -> Deleted {
        match self {
            Self::Now => Deleted::Gone(old),
            Self::Unchanged => Deleted::Later(old),
            Self::Later(marked) => Deleted::Later(marked),
        }
    }
}

fn add_finalizer(object: &mut Object, propagation: Option<Propagation>) {
    let finalizer = match propagation {
        Some(Propagation::Orphan) => "orphan",
        Some(Propagation::Foreground) => "foregroundDeletion",
        Some(Propagation::Background) | None => return,
    };
    if object.finalizers().any(|f| f == finalizer) {
        return;
    }
    let finalizers = object.metadata_mut().entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = finalizers.as_array_mut() {
        list.push(finalizer.into());
    }
}
