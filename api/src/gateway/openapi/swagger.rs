//! OpenAPI v2, as far as it is needed: a document that names no types. kubectl before 1.29 reads it before it applies
//! anything, and goes by its own types where the document has none; the rest it takes from v3.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde_json::json;

use crate::gateway::discovery::KUBERNETES_VERSION;

const TITLE: &str = "Kubernetes";

/// What clients ask for, and what they get.
const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

pub(super) fn answer(headers: &HeaderMap) -> Response {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let wants_protobuf = accepted.any(|value| value.contains(ASKED));
    let (media_type, body) =
        if wants_protobuf { (PROTOBUF, protobuf()) } else { ("application/json", json()) };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn json() -> Vec<u8> {
    let info = json!({ "title": TITLE, "version": KUBERNETES_VERSION });
    let document = json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} });
    serde_json::to_vec(&document).unwrap_or_default()
}

/// `Document { swagger = 1, info = 2 { title = 1, version = 2 } }`
fn protobuf() -> Vec<u8> {
    let info = [text(1, TITLE.as_bytes()), text(2, KUBERNETES_VERSION.as_bytes())].concat();
    [text(1, b"2.0"), text(2, &info)].concat()
}

/// A field of bytes; all here are shorter than 128.
fn text(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, bytes.len() as u8];
    field.extend_from_slice(bytes);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_the_same_in_both_encodings() {
        assert_eq!(protobuf(), b"\x0a\x032.0\x12\x12\x0a\x0aKubernetes\x12\x041.36");
        let value: serde_json::Value = serde_json::from_slice(&json()).unwrap();
        assert_eq!(value["info"]["version"], "1.36");
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ASKED));
        assert_eq!(answer(&headers).headers()[header::CONTENT_TYPE], PROTOBUF);
    }
}
