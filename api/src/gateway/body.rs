//! What clients send: bounded bytes, and the objects in them.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Map, Value};

use super::{
    negotiate::{Encoding, encoding_of, served},
    object::Object,
    request::parameter,
    schema::{
        TypeId,
        decode::{self, DecodeError},
        defaults,
        protobuf::envelope::Envelope,
    },
    status::Status,
};

/// The largest body that is taken: upstream's.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// How long a body may take from its first to its last byte.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What a client wants done about fields that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are left out.
    Ignore,
    /// They are left out, and it is told so.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// Reads `fieldValidation`.
    ///
    /// # Errors
    /// 422 for another word.
    pub fn from_query(query: Option<&str>) -> Result<Self, Status> {
        match parameter(query, "fieldValidation").as_deref() {
            None | Some("") => Ok(Self::default()),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Warn") => Ok(Self::Warn),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(Status::unprocessable(format!(
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: {other:?}: supported \
                 values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Reads a body whole.
///
/// # Errors
/// 413 when it is too large, 408 in spirit when it is too slow.
pub async fn read(body: Body) -> Result<Bytes, Status> {
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut whole = BytesMut::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|e| Status::bad_request(format!("the body cannot be read: {e}")))?;
            if whole.len() + part.len() > MAX_BODY_BYTES {
                return Err(Status::too_large(format!(
                    "Request entity too large: limit is {MAX_BODY_BYTES}"
                )));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    };
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(read) => read,
        Err(_) => Err(Status::timeout("the body of the request did not arrive in time")),
    }
}

/// The object in a body, and what was left out of it.
#[derive(Debug)]
pub struct Received {
    /// As upstream would print it.
    pub object: Object,
    /// One for each thing that was left out.
    pub warnings: Vec<String>,
}

/// What the object in a body must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its type.
    pub ty: TypeId,
    /// Its group and version as objects write them.
    pub api_version: &'a str,
    /// Its kind.
    pub kind: &'a str,
}

impl Expected<'_> {
    /// Reads the object in a body.
    ///
    /// # Errors
    /// 415 for a media type that is not read, 400 for anything else that is no such object.
    pub fn read(
        &self,
        body: &[u8],
        headers: &HeaderMap,
        validation: FieldValidation,
    ) -> Result<Received, Status> {
        let decoded = match media_type(headers)? {
            Encoding::Json => decode::json(self.ty, body),
            Encoding::Yaml => decode::yaml(self.ty, body),
            Encoding::Protobuf => {
                let object = self.protobuf(body)?;
                Ok(decode::Decoded { object, strict: Vec::new() })
            }
        };
        let mut decoded = decoded.map_err(|error| self.refused(&error))?;
        defaults::set(self.ty, &mut decoded.object);
        let mut object =
            Object::new(Value::Object(decoded.object)).map_err(|e| Status::bad_request(e.to_string()))?;
        self.check_type(&mut object)?;
        match validation {
            FieldValidation::Strict if !decoded.strict.is_empty() => Err(self.strict(&decoded.strict)),
            FieldValidation::Ignore => Ok(Received { object, warnings: Vec::new() }),
            _ => Ok(Received { object, warnings: decoded.strict }),
        }
    }

    fn protobuf(&self, body: &[u8]) -> Result<Map<String, Value>, Status> {
        let read = Envelope::read(body).and_then(|envelope| envelope.object_as(self.ty));
        read.map_err(|e| {
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {e}",
                self.kind
            ))
        })
    }

    /// A body may leave its type out; another one than the URL's is refused.
    fn check_type(&self, object: &mut Object) -> Result<(), Status> {
        let (kind, version) = (object.text_at("/kind"), object.text_at("/apiVersion"));
        if !version.is_empty() && version != self.api_version {
            return Err(Status::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                self.api_version
            )));
        }
        if !kind.is_empty() && kind != self.kind {
            return Err(Status::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {}: converting ({kind}) to ({}): unknown conversion",
                self.version(),
                self.kind,
                self.kind
            )));
        }
        object.set_type(self.api_version, self.kind);
        Ok(())
    }

    fn refused(&self, error: &DecodeError) -> Status {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            self.kind,
            self.version(),
            self.kind
        ))
    }

    fn strict(&self, found: &[String]) -> Status {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            self.kind,
            self.version(),
            self.kind,
            found.join(", ")
        ))
    }

    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or(self.api_version)
    }
}

/// The encoding of a body; JSON where nothing is said.
///
/// # Errors
/// 415 for another media type.
pub fn media_type(headers: &HeaderMap) -> Result<Encoding, Status> {
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")) {
        None | Some("") => Ok(Encoding::Json),
        Some(name) => encoding_of(name).ok_or_else(|| Status::unsupported_media_type(&served())),
    }
}
