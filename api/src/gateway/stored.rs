//! What an object is in the store: JSON without its resourceVersion, which is the revision of its key. What a
//! kube-apiserver wrote there in protobuf is read as well.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    object::{NoObject, Object},
    schema::{
        decode::DecodeError,
        protobuf::{decode::ProtobufError, envelope::Envelope},
    },
};

/// What follows `kind` and `apiVersion` in what the gateway and kube-apiserver write as JSON.
const METADATA: &[u8] = br#","metadata":{"#;

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// They are neither JSON nor protobuf in Kubernetes' envelope.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// They are protobuf of something else.
    #[error("not protobuf of a kind that is known")]
    Protobuf(#[from] ProtobufError),
    /// They have no form in the version that is asked for.
    #[error("not convertible")]
    Version(#[from] DecodeError),
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

/// Whether stored bytes are what only kube-apiserver writes, which the same object here is never equal to.
pub fn is_foreign(stored: &Bytes) -> bool {
    Envelope::is(stored)
}

/// The object of stored bytes at a revision.
///
/// # Errors
/// See [`StoredError`].
pub fn decode(stored: &[u8], revision: u64) -> Result<Object, StoredError> {
    let value = if Envelope::is(stored) {
        Value::Object(Envelope::read(stored)?.object()?)
    } else {
        serde_json::from_slice(stored)?
    };
    let mut object = Object::new(value)?;
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
    fn what_is_stored_as_protobuf_reads_the_same() {
        let object = Object::new(json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": "y"},
        }))
        .unwrap();
        let ty = crate::gateway::schema::schema().kind("", "v1", "ConfigMap").unwrap();
        let stored =
            Bytes::from(crate::gateway::schema::protobuf::envelope::write(ty, object.members()).unwrap());
        let old = decode(&stored, 7).unwrap();
        assert_eq!((old.resource_version(), old.at("/data/x").unwrap()), ("7", &json!("y")));
        let mut out = BytesMut::new();
        with_revision(&stored, 7, &mut out).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), old.clone().into_value());
        assert!(is_foreign(&stored) && !is_foreign(&encode(&old)));
        assert!(decode(b"k8s\0\x0a", 7).is_err());
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
