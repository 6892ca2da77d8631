//! Every route of the HTTP surface, in one list that tests can walk.

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRef,
    middleware,
    routing::{MethodRouter, delete, get, post},
};

use crate::{
    access::Access,
    bodies::routes::{self as days, Shredder},
    completeness, events,
    gateway::serve::Gateway,
    health,
    health::Health,
    histogram, intake,
    intake::Intake,
    keys,
    keys::Keys,
    prometheus,
    prometheus::MetricsPage,
    rebuild,
    rebuild::Rebuilder,
    reviews,
    reviews::Reviews,
    search::Search,
    server::note_route,
    tail,
    tail::Followers,
    token_routes,
    tokens::Tokens,
};

/// What the routes need. A role that this process does not run is `None`, and its routes are not there.
#[derive(Clone, Debug)]
pub struct Api {
    /// Who may call, and what for.
    pub access: Access,
    /// `/readyz`.
    pub health: Health,
    /// `/metrics`.
    pub metrics: MetricsPage,
    /// The role `intake`.
    pub intake: Option<Intake>,
    /// The role `gateway`: its paths are those of Kubernetes, and not among these routes.
    pub gateway: Option<Gateway>,
    /// The encryption of what the gateway stores.
    pub keys: Option<Keys>,
    /// The keys that seal the bodies of events.
    pub day_keys: Option<Shredder>,
    /// The gateway's admission chain, as a webhook.
    pub reviews: Option<Reviews>,
    /// The role `query`.
    pub query: Option<QueryRole>,
}

/// What the role `query` needs.
#[derive(Clone, Debug)]
pub struct QueryRole {
    /// Finds records.
    pub search: Search,
    /// Bounds who follows.
    pub followers: Followers,
    /// Makes the index anew.
    pub rebuilder: Rebuilder,
}

/// Gives handlers the part that they work with.
macro_rules! part {
    ($part:ty, $api:ident => $value:expr) => {
        impl FromRef<Arc<Api>> for $part {
            fn from_ref($api: &Arc<Api>) -> Self {
                $value
            }
        }
    };
}

part!(Tokens, api => api.access.tokens.clone());
part!(Health, api => api.health.clone());
part!(MetricsPage, api => api.metrics.clone());

impl FromRef<QueryRole> for Search {
    fn from_ref(role: &QueryRole) -> Self {
        role.search.clone()
    }
}

impl FromRef<QueryRole> for Followers {
    fn from_ref(role: &QueryRole) -> Self {
        role.followers.clone()
    }
}

/// A router that remembers its paths.
#[derive(Debug)]
pub struct Routes {
    router: Router<Arc<Api>>,
    paths: Vec<&'static str>,
}

impl Routes {
    /// The routes of a process with these parts.
    pub fn of(api: &Api) -> Self {
        let mut routes = Self { router: Router::new(), paths: Vec::new() };
        routes.add("/livez", get(health::livez));
        routes.add("/readyz", get(health::readyz));
        routes.add("/metrics", get(prometheus::page));
        routes.add("/v1/tokens", get(token_routes::list).post(token_routes::create));
        routes.add("/v1/tokens/{id}", get(token_routes::get).delete(token_routes::revoke));
        if let Some(intake) = &api.intake {
            routes.add("/v1/intake/audit/{cluster}", post(intake::receive).with_state(intake.clone()));
        }
        if let Some(keys) = &api.keys {
            routes.add("/v1/keys", get(keys::status).with_state(keys.clone()));
            routes.add("/v1/keys/rotation", get(keys::progress).post(keys::rotate).with_state(keys.clone()));
        }
        if let Some(shredder) = &api.day_keys {
            routes.add("/v1/keys/days", get(days::list).with_state(shredder.clone()));
            routes.add("/v1/keys/days/{day}", delete(days::shred).with_state(shredder.clone()));
        }
        if let Some(reviews) = &api.reviews {
            routes.add("/admission/v1/mutate", post(reviews::mutate).with_state(reviews.clone()));
            routes.add("/admission/v1/validate", post(reviews::validate).with_state(reviews.clone()));
        }
        if let Some(query) = &api.query {
            routes.add_query(query);
        }
        routes
    }

    fn add_query(&mut self, role: &QueryRole) {
        let search = || role.search.clone();
        self.add("/v1/events", get(events::list).with_state(search()));
        self.add("/v1/events/{id}", get(events::one).with_state(search()));
        self.add("/v1/histogram", get(histogram::histogram).with_state(search()));
        self.add("/v1/completeness", get(completeness::completeness).with_state(search()));
        self.add("/v1/tail", get(tail::tail).with_state(role.clone()));
        let rebuild = get(rebuild::progress).post(rebuild::start);
        self.add("/v1/rebuild", rebuild.with_state(role.rebuilder.clone()));
    }

    fn add(&mut self, path: &'static str, methods: MethodRouter<Arc<Api>>) {
        self.paths.push(path);
        self.router = std::mem::take(&mut self.router).route(path, methods);
    }

    /// Every path, with its parameters in braces.
    pub fn paths(&self) -> &[&'static str] {
        &self.paths
    }

    pub(crate) fn into_router(self) -> Router<Arc<Api>> {
        self.router.route_layer(middleware::from_fn(note_route))
    }
}
