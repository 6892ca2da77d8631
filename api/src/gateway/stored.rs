//! What an object is in the store: JSON without its resourceVersion, which is the revision of its key.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::object::{NoObject, Object};

/// What follows `kind` and `apiVersion` in what the gateway and kube-apiserver write as JSON.
const METADATA: &[u8] = br#","metadata":{"#;

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// They are not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// They are JSON of something else.
    #[error(transparent)]
    NoObject(#[from] NoObject),
}

/// The bytes of an object for the store.
pub fn encode(object: &Object) -> Bytes {
    let mut members = object.members().clone();
    if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("selfLink");
    }
    serde_json::to_vec(&members).unwrap_or_default().into()
}

/// The object of stored JSON at a revision.
///
/// # Errors
/// See [`StoredError`].
pub fn decode(json: &[u8], revision: u64) -> Result<Object, StoredError> {
    let mut object = Object::new(serde_json::from_slice(json)?)?;
    object.set_text("resourceVersion", &revision.to_string());
    Ok(object)
}

/// The JSON of a stored object with its resourceVersion, without reading the rest where it begins as ours do.
///
/// # Errors
/// See [`StoredError`].
pub fn with_revision(json: &Bytes, revision: u64, out: &mut BytesMut) -> Result<(), StoredError> {
    let Some(at) = metadata_begins(json) else {
        let value = decode(json, revision)?.into_value();
        out.extend_from_slice(&serde_json::to_vec(&value)?);
        return Ok(());
    };
    let (head, rest) = json.split_at(at);
    out.reserve(json.len() + 48);
    out.extend_from_slice(head);
    out.extend_from_slice(br#""resourceVersion":""#);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(if rest.starts_with(b"}") { b"\"" } else { b"\"," });
    out.extend_from_slice(rest);
    Ok(())
}

/// Where the members of `metadata` begin, in JSON that starts `{"kind":"…","apiVersion":"…","metadata":{`.
fn metadata_begins(json: &[u8]) -> Option<usize> {
    let plain = |from: usize, key: &[u8]| {
        let rest = json.get(from..)?.strip_prefix(key)?;
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        (rest[end] == b'"').then_some(from + key.len() + end + 1)
    };
    let kind = plain(0, br#"{"kind":""#)?;
    let version = plain(kind, br#","apiVersion":""#)?;
    json[version..].starts_with(METADATA).then_some(version + METADATA.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spliced(json: &str) -> Value {
        let mut out = BytesMut::new();
        with_revision(&Bytes::copy_from_slice(json.as_bytes()), 7, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_stored_object_gets_its_revision_back() {
        let object = Object::new(json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "a", "resourceVersion": "3"}, "data": {"metadata": "x"},
        }))
        .unwrap();
        let stored = encode(&object);
        assert!(!String::from_utf8_lossy(&stored).contains("resourceVersion"));
        let text = String::from_utf8(stored.to_vec()).unwrap();
        assert_eq!(spliced(&text)["metadata"], json!({"resourceVersion": "7", "name": "a"}));
        assert_eq!(decode(&stored, 7).unwrap().resource_version(), "7");
    }

    #[test]
    fn an_object_that_begins_otherwise_gets_it_too() {
        for json in [
            r#"{"apiVersion":"v1","kind":"K","metadata":{"name":"a"}}"#,
            r#"{"kind":"K","apiVersion":"v1","metadata":{}}"#,
            r#"{"kind":"K","apiVersion":"v1","spec":{},"metadata":{}}"#,
            r#"{"kind":"K\"","apiVersion":"v1","metadata":{}}"#,
            r#"{ "kind":"K","apiVersion":"v1"}"#,
        ] {
            assert_eq!(spliced(json)["metadata"]["resourceVersion"], "7", "{json}");
        }
    }
}
