//! What the server alone writes into the metadata of an object at its creation.

use serde_json::Value;
use uuid::Uuid;

use super::seconds;
use crate::gateway::{object::Object, status::Status};
use ingest::time::Timestamp;

/// What a client may send and the server never takes at a creation.
const SERVER_OWNED: [&str; 5] =
    ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"];

/// Letters of generated names: no vowels, so that no words come out, and nothing that looks like another.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Letters behind the prefix of a generated name, and how long the prefix may be.
const SUFFIX: usize = 5;
const MAX_PREFIX: usize = 63 - SUFFIX;

/// Puts a new object into its namespace, without what a client has no say in.
pub(super) fn place(object: &mut Object, namespace: &str) -> Result<(), Status> {
    if !object.resource_version().is_empty() {
        return Err(Status::internal("resourceVersion should not be set on objects to be created"));
    }
    if !namespace.is_empty() && !object.namespace().is_empty() && object.namespace() != namespace {
        return Err(namespace_mismatch());
    }
    let metadata = object.metadata_mut();
    for key in SERVER_OWNED {
        metadata.shift_remove(key);
    }
    object.set_text("namespace", namespace);
    Ok(())
}

/// Gives a new object in its namespace its uid and time, and a name where it only has the prefix of one.
pub(super) fn prepare(object: &mut Object, namespace: &str, now: Timestamp) -> Result<(), Status> {
    place(object, namespace)?;
    let name = match (object.name(), object.generate_name()) {
        ("", "") => String::new(),
        ("", prefix) => generate(prefix),
        (name, _) => name.to_owned(),
    };
    object.metadata_mut().insert("creationTimestamp".into(), Value::String(seconds(now)));
    object.set_text("name", &name);
    object.set_text("uid", &Uuid::new_v4().to_string());
    Ok(())
}

/// The body is for another namespace than the URL.
pub(super) fn namespace_mismatch() -> Status {
    Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    )
}

/// A prefix with random letters behind it.
pub(super) fn generate(prefix: &str) -> String {
    let cut = (0..=MAX_PREFIX.min(prefix.len())).rev().find(|at| prefix.is_char_boundary(*at)).unwrap_or(0);
    let random = Uuid::new_v4().into_bytes();
    // The last five bytes of a version 4 UUID are random throughout.
    let letters = random[16 - SUFFIX..].iter().map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]));
    prefix[..cut].chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_server_owns_uid_time_and_what_comes_later() {
        let mut object = Object::new(json!({"metadata": {
            "name": "a", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "x",
        }}))
        .unwrap();
        prepare(&mut object, "shop", Timestamp::from_micros(1_700_000_000_900_000)).unwrap();
        assert_eq!(object.metadata()["creationTimestamp"], "2023-11-14T22:13:20Z");
        assert_ne!(object.uid(), "mine");
        assert!(!object.is_deleting());
        assert_eq!(object.namespace(), "shop");
    }

    #[test]
    fn a_generated_name_fits_and_differs() {
        let long = "x".repeat(80);
        assert_eq!(generate(&long).len(), 63);
        assert_ne!(generate("a-"), generate("a-"));
        let mut object = Object::new(json!({"metadata": {"generateName": "a-"}})).unwrap();
        prepare(&mut object, "", Timestamp::default()).unwrap();
        assert!(object.name().starts_with("a-") && object.name().len() == 7);
    }

    #[test]
    fn another_namespace_or_a_revision_is_refused() {
        let mut other = Object::new(json!({"metadata": {"name": "a", "namespace": "b"}})).unwrap();
        assert_eq!(prepare(&mut other, "shop", Timestamp::default()).unwrap_err().code, 400);
        let mut again = Object::new(json!({"metadata": {"name": "a", "resourceVersion": "1"}})).unwrap();
        assert_eq!(prepare(&mut again, "shop", Timestamp::default()).unwrap_err().code, 500);
    }
}
