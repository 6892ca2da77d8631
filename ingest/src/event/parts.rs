//! The typed parts of an event: who asked, for what, and what the answer was.

use std::borrow::Cow;

use crate::json::Json;

/// `user` or `impersonatedUser`.
#[derive(Clone, Debug, Default)]
pub struct UserInfo<'a> {
    /// `username`.
    pub username: Option<Cow<'a, str>>,
    /// `uid`.
    pub uid: Option<Cow<'a, str>>,
    groups: Option<Json<'a>>,
    extra: Option<Json<'a>>,
}

impl<'a> UserInfo<'a> {
    pub(super) fn read(json: Json<'a>) -> Self {
        let mut user = Self::default();
        for member in json.members() {
            match &*member.name() {
                "username" => user.username = member.value.as_str(),
                "uid" => user.uid = member.value.as_str(),
                "groups" => user.groups = Some(member.value),
                "extra" => user.extra = Some(member.value),
                _ => {}
            }
        }
        user
    }

    /// `groups`, in order.
    pub fn groups(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        self.groups.into_iter().flat_map(Json::elements).filter_map(Json::as_str)
    }

    /// `extra`: each key with its array of texts.
    pub fn extra(&self) -> impl Iterator<Item = (Cow<'a, str>, Json<'a>)> + use<'a> {
        self.extra.into_iter().flat_map(Json::members).map(|m| (m.name(), m.value))
    }
}

/// `objectRef`.
#[derive(Clone, Debug, Default)]
pub struct ObjectRef<'a> {
    /// `resource`: lower-case plural.
    pub resource: Option<Cow<'a, str>>,
    /// `namespace`.
    pub namespace: Option<Cow<'a, str>>,
    /// `name`: empty for creates that have not decoded the body yet.
    pub name: Option<Cow<'a, str>>,
    /// `uid`.
    pub uid: Option<Cow<'a, str>>,
    /// `apiGroup`: absent for the core group.
    pub api_group: Option<Cow<'a, str>>,
    /// `apiVersion`.
    pub api_version: Option<Cow<'a, str>>,
    /// `resourceVersion`.
    pub resource_version: Option<Cow<'a, str>>,
    /// `subresource`.
    pub subresource: Option<Cow<'a, str>>,
}

impl<'a> ObjectRef<'a> {
    pub(super) fn read(json: Json<'a>) -> Self {
        let mut object = Self::default();
        for member in json.members() {
            let place = match &*member.name() {
                "resource" => &mut object.resource,
                "namespace" => &mut object.namespace,
                "name" => &mut object.name,
                "uid" => &mut object.uid,
                "apiGroup" => &mut object.api_group,
                "apiVersion" => &mut object.api_version,
                "resourceVersion" => &mut object.resource_version,
                "subresource" => &mut object.subresource,
                _ => continue,
            };
            *place = member.value.as_str();
        }
        object
    }
}

/// `responseStatus`.
#[derive(Clone, Debug, Default)]
pub struct Status<'a> {
    /// `code`: the HTTP status.
    pub code: Option<i64>,
    /// `status`: `Success` or `Failure`; absent on most successes.
    pub status: Option<Cow<'a, str>>,
    /// `reason`: the machine's word.
    pub reason: Option<Cow<'a, str>>,
    /// `message`: the words for a person.
    pub message: Option<Cow<'a, str>>,
    /// `details`.
    pub details: Option<Json<'a>>,
}

impl<'a> Status<'a> {
    pub(super) fn read(json: Json<'a>) -> Self {
        let mut status = Self::default();
        for member in json.members() {
            match &*member.name() {
                "code" => status.code = member.value.as_i64(),
                "status" => status.status = member.value.as_str(),
                "reason" => status.reason = member.value.as_str(),
                "message" => status.message = member.value.as_str(),
                "details" => status.details = Some(member.value),
                _ => {}
            }
        }
        status
    }
}
