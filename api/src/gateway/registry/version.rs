//! Objects in the version that their client speaks, of what the store holds in the version that all share.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use crate::gateway::{
    object::Object,
    resources::Resource,
    schema::convert,
    status::Status,
    stored::{self, StoredError},
};

/// The object of stored bytes, in its resource's version.
///
/// # Errors
/// When they are no object, or none that this version can show.
pub(in crate::gateway) fn read(
    resource: &Resource,
    stored: &[u8],
    revision: u64,
) -> Result<Object, StoredError> {
    let object = stored::decode(stored, revision)?;
    if resource.is_stored_as_it_is() {
        return Ok(object);
    }
    let shown = convert::convert(object.members(), (resource.group, resource.version))?;
    Ok(Object::new(Value::Object(shown))?)
}

/// The JSON of the same, at the end of `out`; what is stored as it is shown is copied.
///
/// # Errors
/// As [`read`].
pub(in crate::gateway) fn write_json(
    resource: &Resource,
    stored: &Bytes,
    revision: u64,
    out: &mut BytesMut,
) -> Result<(), StoredError> {
    if resource.is_stored_as_it_is() {
        return stored::with_revision(stored, revision, out);
    }
    let object = read(resource, stored, revision)?;
    Ok(serde_json::to_writer(out.writer(), object.members())?)
}

/// The bytes of an object for the store.
///
/// # Errors
/// 500 when its resource's version cannot be converted.
pub(super) fn stored(resource: &Resource, object: &Object) -> Result<Bytes, Status> {
    if resource.is_stored_as_it_is() {
        return Ok(stored::encode(object));
    }
    let shared = convert::convert(object.members(), resource.stored).map_err(Status::internal)?;
    Ok(stored::encode(&Object::new(Value::Object(shared)).map_err(Status::internal)?))
}
