//! Acting as somebody else by headers, as kube-apiserver 1.36 allows it: everything that is claimed of the other one
//! is authorized singly, as the verb `impersonate` on users, groups, service accounts, uids and extras.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use super::{
    authz::{Attributes, RuleRequest, Verdict, refusal},
    status::{Qualified, Status},
    user::{AUTHENTICATED, UserInfo},
};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// How many things may be claimed in one request: each one is an answer of the authorizer.
const MAX_CLAIMS: usize = 1_000;

/// One thing that is claimed of the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    User(String),
    ServiceAccount { namespace: String, name: String },
    Group(String),
    Extra { key: String, value: String },
    Uid(String),
}

impl Claim {
    fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        let (group, resource, subresource, namespace, name) = match self {
            Self::User(name) => ("", "users", "", "", name),
            Self::ServiceAccount { namespace, name } => ("", "serviceaccounts", "", namespace.as_str(), name),
            Self::Group(name) => ("", "groups", "", "", name),
            Self::Extra { key, value } => (AUTHENTICATION, "userextras", key.as_str(), "", value),
            Self::Uid(uid) => (AUTHENTICATION, "uids", "", "", uid),
        };
        let request = RuleRequest::Resource { verb: "impersonate", group, resource, subresource, name };
        Attributes { user, request, namespace }
    }

    fn put_into(self, other: &mut UserInfo) {
        match self {
            Self::User(name) => other.username = name,
            Self::ServiceAccount { namespace, name } => other.username = account_name(&namespace, &name),
            Self::Group(group) => other.groups.push(group),
            Self::Extra { key, value } => other.extra.entry(key).or_default().push(value),
            Self::Uid(uid) => other.uid = uid,
        }
    }
}

/// The user name of a service account.
pub fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of a service account.
pub fn account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

/// Namespace and name of the service account whose user name this is.
fn account(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let is_label = |text: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
    };
    (is_label(namespace) && name.split('.').all(is_label)).then_some((namespace, name))
}

/// Whom `user` acts as, where the headers name somebody and `authorize` lets it; nothing where they name nobody.
///
/// # Errors
/// 400 when something is claimed of nobody, 403 for the first claim that is not allowed.
pub fn impersonated(
    headers: &HeaderMap,
    user: &UserInfo,
    authorize: impl Fn(&Attributes<'_>) -> Verdict,
) -> Result<Option<UserInfo>, Status> {
    let claims = claims(headers)?;
    let mut other = UserInfo::default();
    for claim in claims {
        let attributes = claim.attributes(user);
        let verdict = authorize(&attributes);
        if !verdict.is_allowed {
            return Err(forbidden(&attributes, &verdict));
        }
        if let Claim::ServiceAccount { namespace, .. } = &claim
            && !headers.contains_key(GROUP)
        {
            other.groups = account_groups(namespace);
        }
        claim.put_into(&mut other);
    }
    if other.username.is_empty() {
        return Ok(None);
    }
    join(&mut other);
    Ok(Some(other))
}

/// Whether the headers claim anything of somebody else.
pub fn is_claimed(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| [USER, UID, GROUP].contains(&name.as_str()) || name.as_str().starts_with(EXTRA))
}

/// Takes the headers away, so that nothing behind sees them.
pub fn strip(headers: &mut HeaderMap) {
    let extras = headers.keys().filter(|name| name.as_str().starts_with(EXTRA)).cloned();
    let named = [USER, UID, GROUP].map(HeaderName::from_static);
    let all: Vec<HeaderName> = extras.chain(named).collect();
    for name in all {
        headers.remove(name);
    }
}

fn claims(headers: &HeaderMap) -> Result<Vec<Claim>, Status> {
    let first = |name: &str| headers.get(name).map(text).transpose().map(Option::unwrap_or_default);
    let (username, uid) = (first(USER)?, first(UID)?);
    let mut claims = Vec::new();
    match account(&username) {
        _ if username.is_empty() => {}
        Some((namespace, name)) => {
            claims.push(Claim::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        None => claims.push(Claim::User(username.clone())),
    }
    for value in headers.get_all(GROUP) {
        claims.push(Claim::Group(text(value)?));
    }
    for (key, values) in extras(headers)? {
        claims.extend(values.into_iter().map(|value| Claim::Extra { key: key.clone(), value }));
    }
    if !uid.is_empty() {
        claims.push(Claim::Uid(uid));
    }
    if username.is_empty() && !claims.is_empty() {
        return Err(Status::bad_request("requested groups, extras or a uid without impersonating a user"));
    }
    if claims.len() > MAX_CLAIMS {
        return Err(Status::bad_request(format!("more than {MAX_CLAIMS} things are claimed of a user")));
    }
    Ok(claims)
}

/// By key, so that the order in which they are authorized is the same each time.
fn extras(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>, Status> {
    let mut extras: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(escaped) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_decode_str(escaped).decode_utf8().map_or(escaped.to_owned(), Into::into);
        extras.entry(key).or_default().push(text(value)?);
    }
    Ok(extras)
}

fn text(value: &axum::http::HeaderValue) -> Result<String, Status> {
    let read = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
    read.map_err(|_| Status::bad_request("a header of impersonation is not UTF-8"))
}

/// The group of those who are known, or of those who are not, unless the headers decide.
fn join(other: &mut UserInfo) {
    if other.username != ANONYMOUS {
        if !other.is_in(AUTHENTICATED) && !other.is_in(UNAUTHENTICATED) {
            other.groups.push(AUTHENTICATED.to_owned());
        }
    } else if !other.is_in(UNAUTHENTICATED) {
        other.groups.push(UNAUTHENTICATED.to_owned());
    }
}

fn forbidden(attributes: &Attributes<'_>, verdict: &Verdict) -> Status {
    let RuleRequest::Resource { group, resource, name, .. } = attributes.request else {
        return Status::forbidden(
            Qualified { group: "", name: "" },
            "",
            &refusal(attributes, &verdict.reason),
        );
    };
    Status::forbidden(Qualified { group, name: resource }, name, &refusal(attributes, &verdict.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    fn all(_: &Attributes<'_>) -> Verdict {
        Verdict { is_allowed: true, reason: String::new() }
    }

    fn root() -> UserInfo {
        UserInfo { username: "root".into(), ..UserInfo::default() }
    }

    fn acts_as(given: &[(&'static str, &str)]) -> Option<UserInfo> {
        impersonated(&headers(given), &root(), all).unwrap()
    }

    #[test]
    fn without_headers_nobody_is_impersonated() {
        assert_eq!(acts_as(&[("accept", "x")]), None);
    }

    #[test]
    fn a_user_has_what_is_claimed_of_it() {
        let alice = acts_as(&[
            (USER, "alice"),
            (GROUP, "dev"),
            (GROUP, "ops"),
            (UID, "u-1"),
            ("impersonate-extra-acme.com%2fscope", "a"),
            ("impersonate-extra-acme.com%2fscope", "b"),
        ])
        .unwrap();
        assert_eq!((alice.username.as_str(), alice.uid.as_str()), ("alice", "u-1"));
        assert_eq!(alice.groups, ["dev", "ops", AUTHENTICATED]);
        assert_eq!(alice.extra["acme.com/scope"], ["a", "b"]);
    }

    #[test]
    fn groups_follow_from_the_user_unless_they_are_given() {
        let groups = |given: &[(&'static str, &str)]| acts_as(given).unwrap().groups;
        let account = "system:serviceaccount:shop:web";
        assert_eq!(
            groups(&[(USER, account)]),
            ["system:serviceaccounts", "system:serviceaccounts:shop", AUTHENTICATED]
        );
        assert_eq!(groups(&[(USER, account), (GROUP, "x")]), ["x", AUTHENTICATED]);
        assert_eq!(groups(&[(USER, ANONYMOUS)]), [UNAUTHENTICATED]);
        assert_eq!(groups(&[(USER, "a"), (GROUP, UNAUTHENTICATED)]), [UNAUTHENTICATED]);
    }

    #[test]
    fn each_claim_is_asked_for_and_the_first_refusal_ends_it() {
        let given = headers(&[
            (USER, "system:serviceaccount:shop:web"),
            (GROUP, "dev"),
            (UID, "u"),
            ("impersonate-extra-scope", "s"),
        ]);
        let asked = std::cell::RefCell::new(Vec::new());
        let note = |attributes: &Attributes<'_>| {
            let RuleRequest::Resource { verb, group, resource, subresource, name } = attributes.request
            else {
                panic!("a path was asked for")
            };
            assert_eq!((verb, attributes.user.username.as_str()), ("impersonate", "root"));
            asked
                .borrow_mut()
                .push(format!("{group}/{resource}/{subresource}/{}/{name}", attributes.namespace));
            Verdict { is_allowed: true, reason: String::new() }
        };
        impersonated(&given, &root(), note).unwrap();
        let expected = [
            "/serviceaccounts//shop/web",
            "/groups///dev",
            "authentication.k8s.io/userextras/scope//s",
            "authentication.k8s.io/uids///u",
        ];
        assert_eq!(*asked.borrow(), expected);
        let refuses = |attributes: &Attributes<'_>| {
            let RuleRequest::Resource { resource, .. } = attributes.request else { panic!() };
            Verdict { is_allowed: resource != "groups", reason: String::new() }
        };
        let status = impersonated(&given, &root(), refuses).unwrap_err();
        assert_eq!(
            status.message,
            "groups \"dev\" is forbidden: User \"root\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope"
        );
    }

    #[test]
    fn what_is_claimed_of_nobody_is_refused() {
        for given in [(GROUP, "dev"), (UID, "u"), ("impersonate-extra-scope", "s")] {
            assert_eq!(impersonated(&headers(&[given]), &root(), all).unwrap_err().code, 400);
        }
    }

    #[test]
    fn the_headers_can_be_taken_away() {
        let mut given = headers(&[(USER, "a"), (GROUP, "b"), ("impersonate-extra-x", "c"), ("accept", "d")]);
        strip(&mut given);
        assert_eq!(given.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
