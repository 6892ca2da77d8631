//! Errors of the gateway as clients of Kubernetes know them: a `Status` object with reason, code and details.

use std::{borrow::Cow, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ingest::journal::AppendError;
use serde::{Serialize, ser::SerializeStruct};

use super::{answer::warn, request::RequestInfo};

/// What an answer that is not an object of the store says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(flatten)]
    ty: StatusType,
    metadata: ListMeta,
    /// `Success` or `Failure`.
    pub status: &'static str,
    /// For people; what upstream says in the same case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs; empty where upstream gives none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status.
    pub code: u16,
    /// What its reader is warned of beside it, in headers.
    #[serde(skip)]
    pub warnings: Arc<[String]>,
}

/// `kind` and `apiVersion`, which are always these. Every fallible function here returns room for a Status: it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusType;

impl Serialize for StatusType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("StatusType", 2)?;
        members.serialize_field("kind", "Status")?;
        members.serialize_field("apiVersion", "v1")?;
        members.end()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct ListMeta {
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    continues: String,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (plural), or the kind where the object is invalid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Each single thing that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When the same request may succeed.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// For programs, such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A group and resource (or kind) as messages write them: `deployments.apps`, `pods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qualified<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural, or the kind.
    pub name: &'a str,
}

impl<'a> Qualified<'a> {
    /// What `info` asks about.
    pub fn of(info: &'a RequestInfo) -> Self {
        Self { group: &info.group, name: &info.resource }
    }
}

impl std::fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl Status {
    fn failure(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            ty: StatusType,
            metadata: ListMeta::default(),
            status: "Failure",
            message: message.into(),
            reason: Cow::Borrowed(reason),
            details: None,
            code: code.as_u16(),
            warnings: Arc::default(),
        }
    }

    /// The same, with what its reader is warned of beside it.
    #[must_use]
    pub fn warning(self, warnings: &[String]) -> Self {
        Self { warnings: warnings.into(), ..self }
    }

    /// That something was done which leaves no object to show.
    pub fn success(details: Details) -> Self {
        Self { status: "Success", details: Some(Box::new(details)), ..Self::failure(StatusCode::OK, "", "") }
    }

    fn about(mut self, what: Qualified<'_>, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        what.group.clone_into(&mut details.group);
        what.name.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        self
    }

    /// Adds what is wrong in particular.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// Says when to come again, in the body and as `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// 400: what was sent cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401: nobody is known by what was shown.
    pub fn unauthorized() -> Self {
        Self::failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 403 for an object, or for a resource where `name` is empty.
    pub fn forbidden(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = match (what.name.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {name:?} is forbidden: {why}"),
        };
        let status = Self::failure(StatusCode::FORBIDDEN, "Forbidden", message);
        if what.name.is_empty() {
            Self { details: Some(Box::default()), ..status }
        } else {
            status.about(what, name)
        }
    }

    /// 404 for an object.
    pub fn not_found(what: Qualified<'_>, name: &str) -> Self {
        Self::failure(StatusCode::NOT_FOUND, "NotFound", format!("{what} {name:?} not found"))
            .about(what, name)
    }

    /// 404 for a resource that is not served.
    pub fn no_such_resource() -> Self {
        let status = Self::failure(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        );
        Self { details: Some(Box::default()), ..status }
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed(what: Qualified<'_>, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {:?}", what.to_string());
        Self::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(what, "")
    }

    /// 406: nothing that the client accepts can be written.
    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::failure(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(what: Qualified<'_>, name: &str) -> Self {
        Self::failure(StatusCode::CONFLICT, "AlreadyExists", format!("{what} {name:?} already exists"))
            .about(what, name)
    }

    /// 409: it is another one now.
    pub fn conflict(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Self::failure(StatusCode::CONFLICT, "Conflict", message).about(what, name)
    }

    /// 409: the resourceVersion that was sent is not the current one.
    pub fn modified(what: Qualified<'_>, name: &str) -> Self {
        Self::conflict(
            what,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: what was asked for is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::GONE, "Expired", message)
    }

    /// 413: more than is taken.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 415: no decoder for what was sent.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 422: the object is understood and wrong. `kind` is the kind here, not the resource.
    pub fn invalid(kind: Qualified<'_>, name: &str, causes: Vec<Cause>) -> Self {
        let mut each: Vec<String> =
            causes
                .iter()
                .map(|c| {
                    if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) }
                })
                .collect();
        each.dedup();
        let all = if each.len() == 1 { each.remove(0) } else { format!("[{}]", each.join(", ")) };
        let message = format!("{kind} {name:?} is invalid: {all}");
        Self::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .about(kind, name)
            .with_causes(causes)
    }

    /// 422 with a message of its own.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 429: come again later.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(seconds)
    }

    /// 500. The caller sees the message, the log has the causes.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {error}");
        let causes = vec![Cause { message: error.to_string(), ..Cause::default() }];
        Self::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message).with_causes(causes)
    }

    /// 501: upstream does this, and we do not.
    pub fn not_implemented(verb: &str, resource: &str, subresource: &str) -> Self {
        let slash = if subresource.is_empty() { "" } else { "/" };
        let message = format!("{verb} of {resource}{slash}{subresource} is not served by this gateway");
        Self::failure(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// 503: something that is needed is away.
    pub fn unavailable(message: impl Into<String>, seconds: u32) -> Self {
        Self::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(seconds)
    }

    /// 504: the request's time is over.
    pub fn timeout(message: &str) -> Self {
        let message = format!("Timeout: {message}");
        Self {
            details: Some(Box::default()),
            ..Self::failure(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
        }
    }

    /// With a token that the rest of a list can be asked for with.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.metadata.continues = token;
        self
    }

    /// With another code and reason, as admission may choose them.
    #[must_use]
    pub fn with_code(mut self, code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        self.code = code;
        self.reason = reason.into();
        self
    }

    /// With what it is about.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The bytes that are sent, without the line's end.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The journal cannot take the record of a request.
impl From<AppendError> for Status {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::too_many_requests(
                "the audit journal is full until the log and the ledger have caught up; nothing was done",
                1,
            ),
            AppendError::NoSpace | AppendError::NoKey | AppendError::Ended => {
                Self::unavailable(format!("the request cannot be recorded: {error}"), 1)
            }
        }
    }
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut body = self.to_json();
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        warn(headers, &self.warnings);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_kubernetes() {
        let deployments = Qualified { group: "apps", name: "deployments" };
        let pods = Qualified { group: "", name: "pods" };
        for (status, message, code) in [
            (Status::not_found(deployments, "x"), "deployments.apps \"x\" not found", 404),
            (Status::forbidden(pods, "", "no"), "pods is forbidden: no", 403),
            (Status::forbidden(pods, "p", "no"), "pods \"p\" is forbidden: no", 403),
            (Status::already_exists(pods, "p"), "pods \"p\" already exists", 409),
        ] {
            assert_eq!((status.message.as_str(), status.code), (message, code));
        }
    }

    #[test]
    fn an_invalid_object_names_every_field() {
        let cause = |field: &str, message: &str| Cause {
            reason: "FieldValueInvalid".into(),
            message: message.into(),
            field: field.into(),
        };
        let kind = Qualified { group: "", name: "Pod" };
        let one = Status::invalid(kind, "p", vec![cause("spec", "Required value")]);
        assert_eq!(one.message, "Pod \"p\" is invalid: spec: Required value");
        let two = Status::invalid(kind, "p", vec![cause("a", "x"), cause("b", "y")]);
        assert_eq!(two.message, "Pod \"p\" is invalid: [a: x, b: y]");
        let json: serde_json::Value = serde_json::from_slice(&two.to_json()).unwrap();
        assert_eq!(json["details"]["kind"], "Pod");
        assert_eq!(json["details"]["causes"][1]["field"], "b");
        assert_eq!(json["metadata"], serde_json::json!({}));
    }
}
