//! Many objects, at one revision, page by page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{Raw, Registry};
use crate::gateway::{
    request::parameter,
    resources::Resource,
    selectors::Selectors,
    status::Status,
    store::{List, Listing, Revision, StoreError, Unreadable, Watch},
};

/// The version in continue tokens.
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Objects that are read at once where a selector leaves out some of them.
const SELECTED_CHUNK: usize = 500;

/// Which state a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The newest one.
    Newest,
    /// One that is not older than this.
    NotOlderThan(Revision),
    /// This one.
    Exact(Revision),
}

/// Which part of which state is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    at: Match,
    limit: Option<usize>,
    after: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order of their keys.
    pub items: Vec<Raw>,
    /// The state that they are of.
    pub revision: Revision,
    /// How the next page is asked for.
    pub continues: Option<String>,
    /// How many follow behind this page, where that is known.
    pub remaining: Option<u64>,
    /// What is there as well and cannot be decrypted.
    pub unreadable: Vec<Unreadable>,
}

/// What was taken from a listing.
struct Taken {
    /// The last key that was looked at.
    last: Option<String>,
    /// Whether nothing of the listing is left.
    is_all: bool,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// Below zero: what is newest.
    rv: i64,
    start: String,
}

impl ListOptions {
    /// Everything as it is now.
    pub fn newest() -> Self {
        Self { at: Match::Newest, limit: None, after: None }
    }

    /// Everything as it is now, page by page.
    pub fn all(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::newest() }
    }

    /// The page behind the one that gave this token.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn after(token: &str, limit: usize) -> Result<Self, Status> {
        Self::continued(token, Some(limit))
    }

    /// Reads `limit`, `continue`, `resourceVersion` and `resourceVersionMatch`.
    ///
    /// # Errors
    /// A 400 or 422 that says which of them cannot be.
    pub fn from_query(query: Option<&str>) -> Result<Self, Status> {
        let limit = match parameter(query, "limit") {
            Some(text) if !text.is_empty() => text.parse::<i64>().map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?,
            _ => 0,
        };
        let limit = usize::try_from(limit).ok().filter(|n| *n > 0);
        let version = parameter(query, "resourceVersion").unwrap_or_default();
        let matching = parameter(query, "resourceVersionMatch").unwrap_or_default();
        let continues = parameter(query, "continue").unwrap_or_default();
        if !continues.is_empty() {
            if !matches!(&*version, "" | "0") || !matching.is_empty() {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Self::continued(&continues, limit);
        }
        Ok(Self { at: state(&version, &matching, limit.is_some())?, limit, after: None })
    }

    fn continued(token: &str, limit: Option<usize>) -> Result<Self, Status> {
        let invalid = || Status::bad_request("continue key is not valid");
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let token: Token = serde_json::from_slice(&json).map_err(|_| invalid())?;
        if token.v != TOKEN_VERSION || token.start.is_empty() || token.rv == 0 {
            return Err(invalid());
        }
        let at = u64::try_from(token.rv).map_or(Match::Newest, |rv| Match::Exact(Revision(rv)));
        let after = token.start.strip_suffix('\0').unwrap_or(&token.start).to_owned();
        Ok(Self { at, limit, after: Some(after) })
    }
}

fn state(version: &str, matching: &str, is_limited: bool) -> Result<Match, Status> {
    let revision = match version {
        "" | "0" => None,
        text => Some(Revision(text.parse().map_err(|_| {
            Status::bad_request(format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
        })?)),
    };
    match (matching, revision) {
        ("" | "NotOlderThan", None) if version == "0" || matching.is_empty() => Ok(Match::Newest),
        ("", Some(revision)) if is_limited => Ok(Match::Exact(revision)),
        ("" | "NotOlderThan", Some(revision)) => Ok(Match::NotOlderThan(revision)),
        ("Exact", Some(revision)) => Ok(Match::Exact(revision)),
        ("Exact", None) if version == "0" => {
            Err(forbidden_match("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        ("Exact" | "NotOlderThan", _) => {
            Err(forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (other, _) => Err(forbidden_match(&format!(
            "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
        ))),
    }
}

fn forbidden_match(why: &str) -> Status {
    Status::unprocessable(format!(
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}"
    ))
}

/// The prefix of the keys of a resource, in one namespace or in all.
pub(super) fn prefix(resource: &Resource, namespace: &str) -> String {
    match namespace {
        "" => format!("{}/", resource.storage),
        namespace => format!("{}/{namespace}/", resource.storage),
    }
}

impl Registry {
    /// The objects of a resource in one namespace or, where it is empty, in all.
    ///
    /// # Errors
    /// 410 when the state is forgotten, 504 when it is yet to come.
    pub async fn list(
        &self,
        resource: &'static Resource,
        namespace: &str,
        selectors: &Selectors,
        options: &ListOptions,
    ) -> Result<Page, Status> {
        let prefix = prefix(resource, namespace);
        let mut page = Page {
            items: Vec::new(),
            revision: Revision(0),
            continues: None,
            remaining: None,
            unreadable: Vec::new(),
        };
        let mut at = if let Match::Exact(revision) = options.at { Some(revision) } else { None };
        let mut after = options.after.as_ref().map(|relative| format!("{prefix}{relative}"));
        loop {
            let limit = options.limit.map(|n| {
                let missing = n - page.items.len();
                if selectors.is_all() { missing } else { missing.max(SELECTED_CHUNK) }
            });
            let list = List { prefix: &prefix, at, after: after.as_deref(), limit };
            let listing =
                self.store.list(&list).await.map_err(|e| self.expired(e, &prefix, after.as_deref()))?;
            self.check_age(options.at, &listing)?;
            (page.revision, at) = (listing.revision, Some(listing.revision));
            let Taken { last, is_all } =
                self.take(resource, &mut page, &listing, selectors, options.limit)?;
            let Some(last) = last.filter(|_| listing.remaining > 0 || !is_all) else {
                return Ok(page);
            };
            if options.limit.is_some_and(|n| page.items.len() >= n) {
                let relative = last.strip_prefix(&prefix).unwrap_or(&last);
                page.continues = Some(token(page.revision, relative)?);
                page.remaining = selectors.is_all().then_some(listing.remaining);
                return Ok(page);
            }
            after = Some(last);
        }
    }

    /// The changes of a resource after a revision, in one namespace or, where it is empty, in all.
    pub fn watch(&self, resource: &'static Resource, namespace: &str, after: Revision) -> Watch {
        self.store.watch(&prefix(resource, namespace), after)
    }

    /// Takes what is selected, up to the limit.
    fn take(
        &self,
        resource: &Resource,
        page: &mut Page,
        listing: &Listing,
        selectors: &Selectors,
        limit: Option<usize>,
    ) -> Result<Taken, Status> {
        let mut taken = Taken { last: None, is_all: true };
        for item in &listing.items {
            if limit.is_some_and(|limit| page.items.len() >= limit) {
                taken.is_all = false;
                break;
            }
            let raw = Raw { value: item.object.value.clone(), revision: item.object.modified };
            let read = || self.object(resource, &raw.value, raw.revision);
            if selectors.is_all() || selectors.matches(&read()?.into_value()) {
                page.items.push(raw);
            }
            taken.last = Some(item.key.to_string());
        }
        for unreadable in &listing.unreadable {
            let key = &*unreadable.key;
            if taken.is_all || taken.last.as_deref().is_some_and(|last| key < last) {
                taken.last = taken.last.max(Some(key.to_owned()));
                page.unreadable.push(unreadable.clone());
            }
        }
        Ok(taken)
    }

    fn check_age(&self, wanted: Match, listing: &Listing) -> Result<(), Status> {
        match wanted {
            Match::NotOlderThan(revision) if listing.revision < revision => {
                Err(StoreError::Future { current: listing.revision }.into())
            }
            _ => Ok(()),
        }
    }

    /// A forgotten state: with a token that goes on in the newest one, where a page was to be continued.
    fn expired(&self, error: StoreError, prefix: &str, after: Option<&str>) -> Status {
        let (StoreError::Compacted { .. }, Some(after)) = (&error, after) else { return error.into() };
        let relative = after.strip_prefix(prefix).unwrap_or(after);
        let fresh = Token { v: TOKEN_VERSION.into(), rv: -1, start: format!("{relative}\0") };
        let status = Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        );
        match encode(&fresh) {
            Ok(token) => status.with_continue(token),
            Err(status) => status,
        }
    }
}

fn token(revision: Revision, relative: &str) -> Result<String, Status> {
    let rv = i64::try_from(revision.0).unwrap_or(i64::MAX);
    encode(&Token { v: TOKEN_VERSION.into(), rv, start: format!("{relative}\0") })
}

fn encode(token: &Token) -> Result<String, Status> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).map_err(Status::internal)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_told_from_version_and_match() {
        let state = |v: &str, m: &str| state(v, m, false);
        assert_eq!(state("", "").unwrap(), Match::Newest);
        assert_eq!(state("0", "").unwrap(), Match::Newest);
        assert_eq!(state("0", "NotOlderThan").unwrap(), Match::Newest);
        assert_eq!(state("7", "").unwrap(), Match::NotOlderThan(Revision(7)));
        assert_eq!(state("7", "Exact").unwrap(), Match::Exact(Revision(7)));
        assert_eq!(super::state("7", "", true).unwrap(), Match::Exact(Revision(7)));
        for (v, m) in [("", "Exact"), ("", "NotOlderThan"), ("0", "Exact"), ("7", "Other")] {
            assert_eq!(state(v, m).unwrap_err().code, 422, "{v} {m}");
        }
        assert_eq!(state("x", "").unwrap_err().code, 400);
    }

    #[test]
    fn a_token_gives_back_where_to_go_on_and_nothing_else_is_one() {
        let text = token(Revision(9), "shop/a").unwrap();
        let options = ListOptions::continued(&text, Some(2)).unwrap();
        assert_eq!(
            options,
            ListOptions { at: Match::Exact(Revision(9)), limit: Some(2), after: Some("shop/a".into()) }
        );
        for bad in ["", "x", "e30"] {
            assert_eq!(ListOptions::continued(bad, None).unwrap_err().code, 400, "{bad}");
        }
        assert!(ListOptions::from_query(Some("continue=abc&resourceVersion=3")).is_err());
    }
}
