//! A new object.

use super::{Registry, Target, birth, version};
use crate::gateway::{object::Object, status::Status, store::WriteError, strategy};

/// Names that are tried for one `generateName` before its client is told to try again.
const GENERATED_TRIES: usize = 8;

impl Registry {
    /// What a new object is before admission looks at it: in its namespace, and only with what a client may write.
    ///
    /// # Errors
    /// When it is for another namespace, or says what only the server may say.
    pub fn place(&self, target: &Target<'_>, object: &mut Object) -> Result<(), Status> {
        birth::place(object, target.namespace)
    }

    /// What a new object is once admission has changed it: with what the server alone writes.
    ///
    /// # Errors
    /// When it is for another namespace, or says what only the server may say.
    pub fn prepare(&self, target: &Target<'_>, object: &mut Object) -> Result<(), Status> {
        birth::prepare(object, target.namespace, self.now())?;
        strategy::prepare_create(target.resource, object);
        Ok(())
    }

    /// Stores a prepared object, and gives it its revision. A dry run only looks whether it could be stored.
    ///
    /// # Errors
    /// 409 when its name is taken.
    pub async fn create(
        &self,
        target: &Target<'_>,
        mut object: Object,
        is_dry_run: bool,
    ) -> Result<Object, Status> {
        let ttl = strategy::time_to_live(target.resource);
        for _ in 0..GENERATED_TRIES {
            let name = object.name().to_owned();
            let target = Target { name: &name, ..*target };
            if is_dry_run {
                return match self.store.get(&target.key()).await?.value {
                    None => Ok(object),
                    Some(_) => Err(Status::already_exists(target.what(), &name)),
                };
            }
            let bytes = version::stored(target.resource, &object)?;
            match self.store.create(&target.key(), bytes, ttl).await {
                Ok(revision) => {
                    object.set_text("resourceVersion", &revision.to_string());
                    return Ok(object);
                }
                Err(WriteError::Conflict(_)) if !object.generate_name().is_empty() => {
                    let another = birth::generate(object.generate_name());
                    object.set_text("name", &another);
                }
                Err(WriteError::Conflict(_)) => return Err(Status::already_exists(target.what(), &name)),
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        let name = object.generate_name().to_owned();
        Err(Status::already_exists(target.what(), &name).retry_after(1))
    }
}
