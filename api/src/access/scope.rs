//! Which records somebody may see: the one place where queries, and records that are asked for by id, are held to it.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request};
use index::query::{Case, Clause, Core, Expr, Match, Pattern, Query, Test};
use ingest::{
    event::EventView,
    record::{Kind, Record},
};
use serde::Serialize;

use super::table::{EVENTS, GROUP};
use crate::gateway::{
    authz::{Rule, RuleRequest, Snapshot},
    user::{MASTERS, UserInfo},
};

/// Clusters and namespaces that one scope names: each is a condition of every query. Whoever is bound in more namespaces
/// needs a binding of the cluster.
pub const MAX_PARTS: usize = 1_000;

/// Which records somebody may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All of them.
    Everything,
    /// Those of some clusters and namespaces; without any, none.
    Only(Arc<Shares>),
}

/// What somebody sees who does not see everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// Of these clusters everything.
    pub clusters: BTreeSet<String>,
    /// Of this cluster, the gateway's own, audit events of these namespaces.
    pub own: Arc<str>,
    /// See there.
    pub namespaces: BTreeSet<String>,
}

/// A query that is held to a scope. Only [`Scope::narrow`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct Narrowed(Query);

impl Narrowed {
    pub(crate) const fn query(&self) -> &Query {
        &self.0
    }
}

impl Scope {
    /// What the roles let somebody see who does `verb` to events; `own` is the gateway's own cluster.
    pub fn of(roles: &Snapshot, user: &UserInfo, verb: &str, own: &Arc<str>) -> Self {
        if user.is_in(MASTERS) {
            return Self::Everything;
        }
        let allows = |rule: &Rule, name: &str| {
            let request =
                RuleRequest::Resource { verb, group: GROUP, resource: EVENTS, subresource: "", name };
            rule.allows(&request)
        };
        let mut shares = Shares { own: own.clone(), ..Shares::default() };
        // What is bound for the cluster as a whole names clusters by its resourceNames, or means all of them.
        for rule in roles.rules_of(user, "") {
            if rule.resource_names.is_empty() && allows(rule, "") {
                return Self::Everything;
            }
            let named = rule.resource_names.iter().filter(|name| allows(rule, name)).cloned();
            shares.clusters.extend(named);
        }
        // A binding of a namespace never reaches beyond this cluster, whatever its role names.
        if !shares.clusters.contains(&**own) {
            let bound = roles.namespaces_of(user, |rule| allows(rule, own));
            shares.namespaces.extend(bound.map(str::to_owned));
        }
        Self::Only(Arc::new(shares))
    }

    /// Whether nothing can be seen.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(shares) if shares.count() == 0)
    }

    /// Whether it names more than [`MAX_PARTS`].
    pub fn is_too_wide(&self) -> bool {
        matches!(self, Self::Only(shares) if shares.count() > MAX_PARTS)
    }

    /// Whether everything can be seen.
    pub const fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// The query for whoever has this scope: what it does not hold is not there.
    pub(crate) fn narrow(&self, query: Query) -> Narrowed {
        Narrowed(match self {
            Self::Everything => query,
            Self::Only(shares) => query.within(shares.filter()),
        })
    }

    /// Whether a record that was not searched for is within.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(shares) => shares.hold(record),
        }
    }
}

impl Shares {
    fn count(&self) -> usize {
        self.clusters.len() + self.namespaces.len()
    }

    fn filter(&self) -> Expr {
        if self.count() == 0 {
            return !Expr::everything();
        }
        let clusters = self.clusters.iter().map(|name| is(Core::Cluster, name));
        let namespaces = Expr::any(self.namespaces.iter().map(|name| is(Core::Ns, name)).collect());
        let own =
            Expr::all(vec![is(Core::Kind, Kind::Audit.as_str()), is(Core::Cluster, &self.own), namespaces]);
        Expr::any(clusters.chain((!self.namespaces.is_empty()).then_some(own)).collect())
    }

    /// Says of one record what [`Shares::filter`] says to the index.
    fn hold(&self, record: &Record) -> bool {
        let envelope = &record.envelope;
        if self.clusters.contains(&*envelope.cluster) {
            return true;
        }
        if envelope.kind != Kind::Audit || envelope.cluster != self.own {
            return false;
        }
        let view = EventView::parse(&record.event).ok();
        let object = view.as_ref().and_then(EventView::object_ref);
        object.and_then(|object| object.namespace).is_some_and(|name| self.namespaces.contains(&*name))
    }
}

/// The field is exactly this.
fn is(field: Core, text: &str) -> Expr {
    let pattern = Pattern::Phrase { text: text.to_owned(), slop: 0 };
    let test = Test::Match(Match { pattern, case: Case::Sensitive });
    Expr::Clause(Clause { field: field.into(), test })
}

/// The scope that the request was let in with; of one that was let in with none, nothing can be seen.
impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::Only(Arc::default())))
    }
}

#[cfg(test)]
mod tests;
