//! Changing an object: read, edit, write where it has not changed meanwhile, and again where it has.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Registry, Target, version};
use crate::gateway::{
    object::Object,
    status::Status,
    store::{Read, Versioned, WriteError},
    stored, strategy,
};

/// What a client wants an object to become. It may be asked again when somebody else was faster.
#[async_trait]
pub trait Edit: Send {
    /// The object to store, from the one that is there.
    async fn edit(&mut self, old: &Object) -> Result<Object, Status>;
}

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was written, or was like that already.
    Stored(Object),
    /// Nothing kept it any longer: it is gone. This was its last state.
    Gone(Object),
}

impl Outcome {
    /// The object, whatever became of it.
    pub fn into_object(self) -> Object {
        match self {
            Self::Stored(object) | Self::Gone(object) => object,
        }
    }
}

impl Registry {
    /// Applies an edit to an object that is there.
    ///
    /// Until the edit itself refuses, it is tried again when others change the object; the caller bounds the time.
    ///
    /// # Errors
    /// 404 when it is not there, 409 when the edit is for another revision, and what the edit says.
    pub async fn update(
        &self,
        target: &Target<'_>,
        is_dry_run: bool,
        edit: &mut dyn Edit,
    ) -> Result<Outcome, Status> {
        let key = target.key();
        let mut read = self.store.get(&key).await?;
        loop {
            let Read { value: Some(current), .. } = read else {
                return Err(Status::not_found(target.what(), target.name));
            };
            let old = self.object(target.resource, &current.value, current.modified)?;
            let mut new = edit.edit(&old).await?;
            let is_last = old.is_deleting() && strategy::keeps_nothing(target.resource, &new);
            let written = match Step::of(target, &current, &old, &new)? {
                _ if is_dry_run => Ok(current.modified),
                _ if is_last => self.store.delete(&key, current.modified).await,
                Step::Keep => Ok(current.modified),
                Step::Write(bytes) => {
                    let ttl = strategy::time_to_live(target.resource);
                    self.store.update(&key, bytes, current.modified, ttl).await
                }
            };
            match written {
                Ok(revision) => {
                    new.set_text("resourceVersion", &revision.to_string());
                    return Ok(if is_last { Outcome::Gone(new) } else { Outcome::Stored(new) });
                }
                Err(WriteError::Conflict(now)) => read = now,
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
    }
}

/// What a new state means for what is stored.
enum Step {
    /// It says the same already.
    Keep,
    /// It becomes this.
    Write(Bytes),
}

impl Step {
    fn of(target: &Target<'_>, current: &Versioned, old: &Object, new: &Object) -> Result<Self, Status> {
        let bytes = version::stored(target.resource, new)?;
        let is_same = bytes == current.value
            || stored::is_foreign(&current.value) && bytes == version::stored(target.resource, old)?;
        Ok(if is_same && !current.stale { Self::Keep } else { Self::Write(bytes) })
    }
}
