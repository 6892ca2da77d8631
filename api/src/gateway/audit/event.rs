//! One `audit.k8s.io/v1` event, as kube-apiserver writes it.

use std::{borrow::Cow, collections::BTreeMap};

use ingest::{
    event::{Level, Stage},
    time::Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::gateway::{object::Object, request::RequestInfo, status::Status, user::UserInfo};

/// A user agent longer than this is cut.
const MAX_AGENT_BYTES: usize = 1_024;
const CUT: &str = "...TRUNCATED";

/// What a request is recorded as.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) level: Level,
    #[serde(rename = "auditID")]
    pub(super) audit_id: String,
    pub(super) stage: Stage,
    #[serde(rename = "requestURI")]
    pub(super) request_uri: String,
    pub(super) verb: String,
    pub(super) user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<UserInfo>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Box<RawValue>>,
    pub(super) request_received_timestamp: Timestamp,
    pub(super) stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl ObjectRef {
    /// What the URL tells.
    pub fn of(info: &RequestInfo) -> Self {
        Self {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..Self::default()
        }
    }

    /// What a review is about; its names may be as long as its sender likes, and are cut.
    pub(crate) fn reviewed(question: &::admission::AdmissionRequest) -> Self {
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_AGENT_BYTES)].to_owned();
        Self {
            resource: cut(&question.resource.resource),
            namespace: cut(&question.namespace),
            name: cut(&question.name),
            api_group: cut(&question.resource.group),
            api_version: cut(&question.resource.version),
            subresource: cut(&question.subresource),
            ..Self::default()
        }
    }

    /// Fills in what only the body tells.
    pub(super) fn fill(&mut self, object: &Object) {
        for (field, value) in [
            (&mut self.namespace, object.namespace()),
            (&mut self.name, object.name()),
            (&mut self.uid, object.uid()),
            (&mut self.resource_version, object.resource_version()),
        ] {
            if field.is_empty() {
                value.clone_into(field);
            }
        }
    }
}

/// What an answer said, without what its metadata would add.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ResponseStatus {
    metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<crate::gateway::status::Details>>,
    code: u16,
}

impl ResponseStatus {
    /// An answer that is an object.
    pub(super) fn code(code: u16) -> Self {
        let metadata = serde_json::Map::new();
        Self { metadata, status: "", message: String::new(), reason: "".into(), details: None, code }
    }

    /// The HTTP status.
    pub(super) const fn number(&self) -> u16 {
        self.code
    }

    /// An answer that is a Status.
    pub(super) fn of(status: &Status) -> Self {
        Self {
            status: status.status,
            message: status.message.clone(),
            reason: status.reason.clone(),
            details: status.details.clone(),
            ..Self::code(status.code)
        }
    }
}

impl Event {
    /// The bytes of the event, with the three characters escaped that Go escapes.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let plain = serde_json::to_vec(self).unwrap_or_default();
        if memchr::memchr3(b'&', b'<', b'>', &plain).is_none() {
            return plain;
        }
        let mut escaped = Vec::with_capacity(plain.len() + 64);
        for byte in plain {
            match byte {
                b'&' => escaped.extend_from_slice(br"\u0026"),
                b'<' => escaped.extend_from_slice(br"\u003c"),
                b'>' => escaped.extend_from_slice(br"\u003e"),
                other => escaped.push(other),
            }
        }
        escaped
    }
}

/// A user agent as it is recorded.
pub(crate) fn agent(text: &str) -> String {
    if text.len() <= MAX_AGENT_BYTES {
        return text.to_owned();
    }
    let cut = (0..=MAX_AGENT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{CUT}", &text[..cut])
}
