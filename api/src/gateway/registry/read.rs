//! One object, as it is now.

use bytes::Bytes;

use super::{Registry, Target};
use crate::gateway::{
    object::Object,
    status::Status,
    store::{Read, Revision},
};

/// Stored bytes and their revision: enough for an answer, without reading what is in them.
#[derive(Clone, Debug)]
pub struct Raw {
    /// As stored.
    pub value: Bytes,
    /// The change that wrote them.
    pub revision: Revision,
}

impl Registry {
    /// The stored bytes of an object.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub async fn raw(&self, target: &Target<'_>) -> Result<Raw, Status> {
        let Read { value, .. } = self.store.get(&target.key()).await?;
        value
            .map(|v| Raw { value: v.value, revision: v.modified })
            .ok_or_else(|| Status::not_found(target.what(), target.name))
    }

    /// An object.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub async fn get(&self, target: &Target<'_>) -> Result<Object, Status> {
        self.seen(target).await.map(|(object, _)| object)
    }

    /// An object, and the change that wrote it.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub async fn seen(&self, target: &Target<'_>) -> Result<(Object, Revision), Status> {
        let Raw { value, revision } = self.raw(target).await?;
        Ok((self.object(target.resource, &value, revision)?, revision))
    }
}
