//! Looks up in the store what tokens are bound to.

use async_trait::async_trait;

use super::{Existing, Objects, Unknown};
use crate::gateway::{
    object::Object,
    registry::{Registry, Target},
    resources::resources,
};

#[async_trait]
impl Objects for Registry {
    async fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Existing>, Unknown> {
        let Some(resource) = resources().get("", "v1", resource) else { return Ok(None) };
        match self.get(&Target { resource, namespace, name }).await {
            Ok(object) => Ok(Some(existing(&object))),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(Unknown(status.message)),
        }
    }
}

/// One that is to go at a time that does not read counts as gone long ago.
fn existing(object: &Object) -> Existing {
    let deleted_at = object
        .is_deleting()
        .then(|| object.text_at("/metadata/deletionTimestamp").parse().unwrap_or_default());
    Existing { uid: object.uid().to_owned(), deleted_at }
}
