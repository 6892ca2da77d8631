//! Answers: what a verb gives, written the way its client asked for.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use ingest::time::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    negotiate::{Accepted, Encoding, Shape},
    object::Object,
    registry::{Page, Raw, version},
    resources::Resource,
    schema::{TypeId, protobuf::envelope},
    status::Status,
    tables::Tables,
};

/// What a verb gives.
#[derive(Debug)]
pub enum Content {
    /// An object that was made or read here.
    Object(Object),
    /// An object as it is stored.
    Stored(Raw),
    /// Many of them.
    Page(Page),
    /// That something was done.
    Status(Status),
    /// A text without a letter in it.
    NoText,
}

/// Content that is about to be written.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: StatusCode,
    /// What it holds.
    pub content: Content,
    /// The type of its objects.
    pub ty: Option<TypeId>,
    /// What it is about.
    pub resource: &'static Resource,
    /// Told in `Warning` headers.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The JSON of the whole content.
    ///
    /// # Errors
    /// 500 when what is stored is no object.
    pub fn json(&self) -> Result<Bytes, Status> {
        let mut out = BytesMut::new();
        match &self.content {
            Content::Object(object) => {
                serde_json::to_writer((&mut out).writer(), object.members()).map_err(Status::internal)?;
            }
            Content::Stored(raw) => raw.write_json(self.resource, &mut out)?,
            Content::Status(status) => out.extend_from_slice(&status.to_json()),
            Content::NoText => {}
            Content::Page(page) => self.write_page(page, &mut out)?,
        }
        Ok(out.freeze())
    }

    /// The items are copied as they are stored: nothing of them is read.
    fn write_page(&self, page: &Page, out: &mut BytesMut) -> Result<(), Status> {
        let head = json!({
            "kind": self.resource.list_kind(),
            "apiVersion": self.resource.api_version(),
            "metadata": list_metadata(page),
        });
        let head = serde_json::to_vec(&head).map_err(Status::internal)?;
        out.reserve(head.len() + page.items.iter().map(|raw| raw.value.len() + 64).sum::<usize>());
        out.extend_from_slice(&head[..head.len() - 1]);
        out.extend_from_slice(br#","items":["#);
        for (n, raw) in page.items.iter().enumerate() {
            if n > 0 {
                out.put_u8(b',');
            }
            raw.write_json(self.resource, out)?;
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// The answer as its client asked for it; `json` is what [`Answer::json`] gave, and ages are as they are at `now`.
    ///
    /// # Errors
    /// 500 when it cannot be written.
    pub fn write(&self, accepted: Accepted, json: Bytes, now: Timestamp) -> Result<Response, Status> {
        if matches!(self.content, Content::NoText) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = self.code;
            return Ok(response);
        }
        let shown = match accepted.shape {
            Shape::Metadata(version) => self.metadata_only(&json, version.api_version())?,
            Shape::Table(_) if matches!(self.content, Content::Status(_)) => None,
            Shape::Table(version) => {
                let value = serde_json::from_slice(&json).map_err(Status::internal)?;
                Some(Tables::of(self.resource, version, accepted.included, now).whole(value))
            }
            Shape::Whole => None,
        };
        let (media_type, mut body) = match (accepted.encoding, shown) {
            (Encoding::Yaml, shown) => {
                let value =
                    shown.map_or_else(|| serde_json::from_slice(&json), Ok).map_err(Status::internal)?;
                let yaml = serde_saphyr::to_string(&value).map_err(Status::internal)?;
                ("application/yaml", BytesMut::from(yaml.as_bytes()))
            }
            (Encoding::Protobuf, None) if self.ty.is_some() => {
                let value: Map<String, Value> = serde_json::from_slice(&json).map_err(Status::internal)?;
                let ty = self.ty.ok_or_else(|| Status::internal("no type"))?;
                let bytes = envelope::write(ty, &value).map_err(Status::internal)?;
                ("application/vnd.kubernetes.protobuf", BytesMut::from(&bytes[..]))
            }
            (_, Some(value)) => ("application/json", text(&value, accepted.is_pretty)?),
            (_, None) if accepted.is_pretty => {
                let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
                ("application/json", text(&value, true)?)
            }
            (_, None) => ("application/json", BytesMut::from(json)),
        };
        if media_type == "application/json" {
            body.put_u8(b'\n');
        }
        let mut response = Response::new(Body::from(body.freeze()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        warn(headers, &self.warnings);
        Ok(response)
    }

    /// Type and metadata of every object.
    fn metadata_only(&self, json: &[u8], api_version: &str) -> Result<Option<Value>, Status> {
        if matches!(self.content, Content::Status(_)) {
            return Ok(None);
        }
        let mut value: Value = serde_json::from_slice(json).map_err(Status::internal)?;
        let shorten = |object: &Value, kind: &str| json!({ "kind": kind, "apiVersion": api_version, "metadata": object["metadata"] });
        let shown = match value["items"].as_array() {
            Some(items) if matches!(self.content, Content::Page(_)) => {
                let items: Vec<Value> =
                    items.iter().map(|item| json!({ "metadata": item["metadata"] })).collect();
                let mut list = shorten(&value, "PartialObjectMetadataList");
                list["items"] = items.into();
                list
            }
            _ => shorten(&value.take(), "PartialObjectMetadata"),
        };
        Ok(Some(shown))
    }
}

/// Warns the reader of an answer, one header for each sentence.
pub(super) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", Value::from(warning.as_str()))) {
            headers.append(header::WARNING, value);
        }
    }
}

fn text(value: &Value, is_pretty: bool) -> Result<BytesMut, Status> {
    let json = if is_pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    Ok(BytesMut::from(&json.map_err(Status::internal)?[..]))
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
    if let Some(continues) = &page.continues {
        metadata["continue"] = continues.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

impl Raw {
    /// The JSON of the object in its resource's version and with its revision, at the end of `out`.
    ///
    /// # Errors
    /// 500 when what is stored is no object.
    pub fn write_json(&self, resource: &Resource, out: &mut BytesMut) -> Result<(), Status> {
        version::write_json(resource, &self.value, self.revision.0, out).map_err(Status::internal)
    }
}
