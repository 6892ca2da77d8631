//! One audit event as it was received: typed access to borrowed bytes, decoded only when asked for.
//!
//! `audit.k8s.io/v1` and `v1beta1` share this shape; items of an EventList carry neither `kind` nor `apiVersion`.
//! A pipeline fact (see [`crate::pipeline`]) is read through the same view: it has `type` and `message`.

mod names;
mod parts;

use std::borrow::Cow;

pub use names::{Level, Stage, UnknownName};
pub use parts::{ObjectRef, Status, UserInfo};

use crate::{
    json::{Flaw, Json, JsonError, Member, Scanner},
    time::Timestamp,
};

/// The members that an event is known to have, in the order of [`NAMES`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum Field {
    Kind,
    ApiVersion,
    Level,
    AuditId,
    Stage,
    RequestUri,
    Verb,
    User,
    ImpersonatedUser,
    AuthenticationMetadata,
    SourceIps,
    UserAgent,
    ObjectRef,
    ResponseStatus,
    RequestObject,
    ResponseObject,
    RequestReceived,
    StageTimestamp,
    Annotations,
    Timestamp,
    Type,
    Message,
}

const NAMES: [&str; 22] = [
    "kind",
    "apiVersion",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "authenticationMetadata",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
    "timestamp",
    "type",
    "message",
];

/// Why bytes are not an event's object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error("an event is a JSON object")]
    NotAnObject,
    /// A known member stands there twice, so that two readers could see two different events.
    #[error("the member {name:?} stands there twice, again at byte {at}")]
    Duplicate {
        /// Its name.
        name: &'static str,
        /// Where it stands again.
        at: usize,
    },
}

/// A borrowed view of one event. Parsing validates all of the bytes once; nothing is decoded or copied.
///
/// A member whose type is not the expected one reads as absent; its bytes are kept all the same.
#[derive(Clone, Debug)]
pub struct EventView<'a> {
    raw: Json<'a>,
    fields: [Option<Json<'a>>; NAMES.len()],
    run: Option<&'a str>,
}

impl<'a> EventView<'a> {
    /// Reads the bytes of one event.
    ///
    /// # Errors
    /// When they are not one JSON object in UTF-8, or hold a known member twice.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let text = crate::json::utf8(bytes)?;
        let mut view =
            Self { raw: Json::validated(text.trim_ascii()), fields: [None; NAMES.len()], run: None };
        let mut scanner = Scanner::new(bytes);
        scanner.space();
        if !scanner.take(b'{') {
            scanner.value(0)?;
            return Err(ParseError::NotAnObject);
        }
        scanner.space();
        if !scanner.take(b'}') {
            view.read_members(text, &mut scanner)?;
        }
        scanner.end()?;
        Ok(view)
    }

    fn read_members(&mut self, text: &'a str, scanner: &mut Scanner<'_>) -> Result<(), ParseError> {
        let mut run = Run::default();
        loop {
            let (at, member) = scanner.member(text)?;
            let field = field_of(&member);
            if let Some(n) = field {
                if self.fields[n].is_some() {
                    return Err(ParseError::Duplicate { name: NAMES[n], at });
                }
                self.fields[n] = Some(member.value);
            }
            let apart =
                matches!(field, Some(n) if n == Field::Kind as usize || n == Field::ApiVersion as usize);
            run.member(at, &member, apart);
            scanner.space();
            if !scanner.take(b',') {
                scanner.expect(b'}', Flaw::ExpectedCommaOrEnd)?;
                self.run = run.within(text);
                return Ok(());
            }
            scanner.space();
        }
    }

    /// The members other than `kind` and `apiVersion`, where they are one run of bytes without space between them.
    /// So Go writes them.
    pub(crate) const fn run(&self) -> Option<&'a str> {
        self.run
    }

    /// The event's object as it was received.
    pub const fn json(&self) -> Json<'a> {
        self.raw
    }

    /// Every member in order, the unknown ones too.
    pub fn members(&self) -> crate::json::Members<'a> {
        self.raw.members()
    }

    fn field(&self, field: Field) -> Option<Json<'a>> {
        self.fields[field as usize]
    }

    fn text(&self, field: Field) -> Option<Cow<'a, str>> {
        self.field(field)?.as_str()
    }

    fn instant(&self, field: Field) -> Option<Timestamp> {
        self.text(field)?.parse().ok()
    }

    /// `kind`: absent in items of an EventList.
    pub fn kind(&self) -> Option<Cow<'a, str>> {
        self.text(Field::Kind)
    }

    /// `apiVersion`: absent in items of an EventList.
    pub fn api_version(&self) -> Option<Cow<'a, str>> {
        self.text(Field::ApiVersion)
    }

    /// `level`, where it is a known one.
    pub fn level(&self) -> Option<Level> {
        self.text(Field::Level)?.parse().ok()
    }

    /// `stage`, where it is a known one.
    pub fn stage(&self) -> Option<Stage> {
        self.text(Field::Stage)?.parse().ok()
    }

    /// `auditID`: chosen by the client, no key.
    pub fn audit_id(&self) -> Option<Cow<'a, str>> {
        self.text(Field::AuditId)
    }

    /// `requestURI`: path and query.
    pub fn request_uri(&self) -> Option<Cow<'a, str>> {
        self.text(Field::RequestUri)
    }

    /// `verb`.
    pub fn verb(&self) -> Option<Cow<'a, str>> {
        self.text(Field::Verb)
    }

    /// `user`: who was authenticated.
    pub fn user(&self) -> Option<UserInfo<'a>> {
        self.field(Field::User).map(UserInfo::read)
    }

    /// `impersonatedUser`: on whose behalf.
    pub fn impersonated_user(&self) -> Option<UserInfo<'a>> {
        self.field(Field::ImpersonatedUser).map(UserInfo::read)
    }

    /// `authenticationMetadata`.
    pub fn authentication_metadata(&self) -> Option<Json<'a>> {
        self.field(Field::AuthenticationMetadata)
    }

    /// `sourceIPs`: only the last is trustworthy.
    pub fn source_ips(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        self.field(Field::SourceIps).into_iter().flat_map(Json::elements).filter_map(Json::as_str)
    }

    /// `userAgent`.
    pub fn user_agent(&self) -> Option<Cow<'a, str>> {
        self.text(Field::UserAgent)
    }

    /// `objectRef`: absent for requests that are not for a resource.
    pub fn object_ref(&self) -> Option<ObjectRef<'a>> {
        self.field(Field::ObjectRef).map(ObjectRef::read)
    }

    /// `responseStatus`.
    pub fn response_status(&self) -> Option<Status<'a>> {
        self.field(Field::ResponseStatus).map(Status::read)
    }

    /// `requestObject`: a patch may be an array, and before Kubernetes 1.37 anything.
    pub fn request_object(&self) -> Option<Json<'a>> {
        self.field(Field::RequestObject)
    }

    /// `responseObject`.
    pub fn response_object(&self) -> Option<Json<'a>> {
        self.field(Field::ResponseObject)
    }

    /// `requestReceivedTimestamp`.
    pub fn request_received(&self) -> Option<Timestamp> {
        self.instant(Field::RequestReceived)
    }

    /// `stageTimestamp`; for events of before Kubernetes 1.8, which have none, their `timestamp`.
    pub fn stage_timestamp(&self) -> Option<Timestamp> {
        self.instant(Field::StageTimestamp).or_else(|| self.instant(Field::Timestamp))
    }

    /// The text of the member that [`EventView::stage_timestamp`] reads.
    pub(crate) fn stage_timestamp_text(&self) -> Option<Cow<'a, str>> {
        let field = self.field(Field::StageTimestamp).or_else(|| self.field(Field::Timestamp))?;
        Some(field.as_str().unwrap_or_else(|| field.raw().into()))
    }

    /// `annotations`, in order.
    pub fn annotations(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let members = self.field(Field::Annotations).into_iter().flat_map(Json::members);
        members.filter_map(|m| Some((m.name(), m.value.as_str()?)))
    }

    /// The annotation with this key.
    pub fn annotation(&self, key: &str) -> Option<Cow<'a, str>> {
        self.field(Field::Annotations)?.get(key)?.as_str()
    }

    /// `type` of a pipeline fact.
    pub fn fact_type(&self) -> Option<Cow<'a, str>> {
        self.text(Field::Type)
    }

    /// The message: `responseStatus.message`, or `message` of a pipeline fact.
    pub fn message(&self) -> Option<Cow<'a, str>> {
        self.response_status().and_then(|s| s.message).or_else(|| self.text(Field::Message))
    }

    /// The value of a known member as it stands there, for readers that must tell absent from mistyped.
    pub fn known(&self, name: &str) -> Option<Json<'a>> {
        NAMES.iter().position(|n| *n == name).and_then(|n| self.fields[n])
    }
}

/// Whether the members stand side by side, and where.
#[derive(Default)]
struct Run {
    span: Option<(usize, usize)>,
    broken: bool,
}

impl Run {
    /// The next member; `apart` for one that does not belong to the run.
    fn member(&mut self, at: usize, member: &Member<'_>, apart: bool) {
        let after_name = at + member.key.raw().len() + 1;
        let name_to_value = member.value.raw().as_ptr() as usize - member.key.raw().as_ptr() as usize;
        let end = after_name + member.value.raw().len();
        match &mut self.span {
            None if apart => {}
            Some(_) if apart => self.broken = true,
            None => self.span = Some((at, end)),
            Some((_, last)) => {
                self.broken |= *last + 1 != at;
                *last = end;
            }
        }
        self.broken |= !apart && name_to_value != after_name - at;
    }

    fn within<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (start, end) = self.span.filter(|_| !self.broken)?;
        Some(&text[start..end])
    }
}

/// Which known field the member is.
fn field_of(member: &Member<'_>) -> Option<usize> {
    let raw = member.key.raw();
    let inner = &raw[1..raw.len() - 1];
    if inner.contains('\\') {
        let name = member.name();
        return NAMES.iter().position(|n| *n == name);
    }
    NAMES.iter().position(|n| *n == inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#" {"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/d/pods?a=1\u0026b=2","verb":"create","user":{"username":"alice","uid":"7","groups":["dev","system:authenticated"],"extra":{"k/x":["1","2"]}},"impersonatedUser":{"username":"bob"},"sourceIPs":["10.0.0.1","::1"],"userAgent":"kubectl","objectRef":{"resource":"pods","namespace":"d","name":"p","uid":"u","apiGroup":"g","apiVersion":"v1","resourceVersion":"9","subresource":"exec"},"responseStatus":{"metadata":{},"status":"Failure","message":"no \"way\"","reason":"Forbidden","code":403},"requestObject":[{"op":"add"}],"responseObject":{"a":1},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:05.100006Z","annotations":{"authorization.k8s.io/decision":"forbid"},"fresh":{"x":1}} "#;

    #[test]
    fn every_field_reads() {
        let e = EventView::parse(EVENT.as_bytes()).unwrap();
        assert_eq!(e.json().raw(), EVENT.trim());
        assert_eq!(e.kind().unwrap(), "Event");
        assert_eq!(e.api_version().unwrap(), "audit.k8s.io/v1");
        assert_eq!((e.level(), e.stage()), (Some(Level::Request), Some(Stage::ResponseComplete)));
        assert_eq!(e.audit_id().unwrap(), "a-1");
        assert_eq!(e.request_uri().unwrap(), "/api/v1/namespaces/d/pods?a=1&b=2");
        assert_eq!(e.verb().unwrap(), "create");
        let user = e.user().unwrap();
        assert_eq!((user.username.as_deref(), user.uid.as_deref()), (Some("alice"), Some("7")));
        assert_eq!(user.groups().collect::<Vec<_>>(), ["dev", "system:authenticated"]);
        assert_eq!(
            user.extra().map(|(k, v)| (k, v.raw())).collect::<Vec<_>>(),
            [("k/x".into(), r#"["1","2"]"#)]
        );
        assert_eq!(e.impersonated_user().unwrap().username.unwrap(), "bob");
        assert_eq!(e.source_ips().collect::<Vec<_>>(), ["10.0.0.1", "::1"]);
        let object = e.object_ref().unwrap();
        assert_eq!(object.resource.as_deref(), Some("pods"));
        assert_eq!(object.subresource.as_deref(), Some("exec"));
        assert_eq!(object.api_group.as_deref(), Some("g"));
        let status = e.response_status().unwrap();
        assert_eq!((status.code, status.reason.as_deref()), (Some(403), Some("Forbidden")));
        assert_eq!(e.message().unwrap(), "no \"way\"");
        assert_eq!(e.request_object().unwrap().elements().count(), 1);
        assert_eq!(e.response_object().unwrap().raw(), r#"{"a":1}"#);
        assert_eq!(e.stage_timestamp().unwrap().to_string(), "2026-01-02T03:04:05.100006Z");
        assert_eq!(e.request_received().unwrap().to_string(), "2026-01-02T03:04:05.000006Z");
        assert_eq!(e.annotation("authorization.k8s.io/decision").unwrap(), "forbid");
        assert_eq!(e.members().last().unwrap().name(), "fresh");
    }

    #[test]
    fn a_mistyped_member_reads_as_absent() {
        let e = EventView::parse(br#"{"user":5,"sourceIPs":{"a":1},"level":"Loud","objectRef":[]}"#).unwrap();
        assert_eq!(e.level(), None);
        assert_eq!(e.user().unwrap().username, None);
        assert_eq!(e.source_ips().count(), 0);
        assert_eq!(e.object_ref().unwrap().resource, None);
    }

    #[test]
    fn a_known_member_that_stands_twice_is_refused_even_when_escaped() {
        let twice = br#"{"verb":"get","v\u0065rb":"delete"}"#;
        assert_eq!(EventView::parse(twice).unwrap_err(), ParseError::Duplicate { name: "verb", at: 14 });
        assert!(EventView::parse(br#"{"own":1,"own":2}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(EventView::parse(b"[1]").unwrap_err(), ParseError::NotAnObject);
        assert!(
            matches!(EventView::parse(b"{\"a\":1"), Err(ParseError::Json(e)) if e.flaw == Flaw::UnexpectedEnd)
        );
        assert!(
            matches!(EventView::parse(b"{} {}"), Err(ParseError::Json(e)) if e.flaw == Flaw::TrailingBytes)
        );
        assert!(matches!(EventView::parse(b""), Err(ParseError::Json(e)) if e.flaw == Flaw::UnexpectedEnd));
    }

    #[test]
    fn an_event_of_before_stage_timestamps_reads_its_timestamp() {
        let e = EventView::parse(br#"{"timestamp":"2017-09-11T19:55:05Z"}"#).unwrap();
        assert_eq!(e.stage_timestamp().unwrap().to_string(), "2017-09-11T19:55:05.000000Z");
    }
}
