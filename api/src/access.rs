//! Who may use our own interface, for what, and that each use is recorded.
//!
//! Holders of our own tokens are known in every process; where the gateway runs, everybody is whom it knows. Stored roles
//! decide what these may do, under the group `muniment.io`, route by route as the [table](table::TABLE) says. Of events each caller
//! sees its own part, to which [`Scope`] holds every query. Each use leaves a record of kind `access`.

mod caller;
pub mod scope;
pub mod table;
mod used;
pub mod uses;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

pub(crate) use self::{caller::Caller, scope::Scope, used::Results};
use self::{
    caller::holder,
    scope::MAX_PARTS,
    table::{EVENTS, GROUP, Need, Row},
    used::Used,
    uses::Uses,
};
use crate::{
    errors::ApiError,
    gateway::{
        authz::RuleRequest,
        door::Door,
        impersonation,
        refusals::{Refusals, Sender},
        user::MASTERS,
    },
    reviews::Reviewed,
    tokens::{Scope as TokenScope, Token, Tokens},
};

/// The routes that answer without a token. They say nothing but whether the process is well; with a client's token they
/// say more.
pub const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What guards our own interface.
#[derive(Clone, Debug)]
pub struct Access {
    /// Tokens of our own.
    pub tokens: Tokens,
    /// Who else is known, and what they may do; nothing where no gateway runs.
    pub door: Option<Door>,
    /// The gateway's own cluster.
    pub own: Arc<str>,
    /// Counts who is refused.
    pub refusals: Refusals,
    /// Records uses.
    pub uses: Uses,
}

/// Why somebody is not let in, and whether that has a record of its own.
struct Refused {
    error: ApiError,
    is_recorded: bool,
}

/// Lets a request through when its sender may do what it asks for, and records it.
pub(crate) async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let own = bearer(request.headers()).and_then(|text| access.tokens.check(text));
    if let Some(token) = &own {
        tracing::Span::current().record("token", tracing::field::display(token.id));
    }
    if OPEN.contains(&request.uri().path()) {
        if let Some(token) = own.filter(|token| token.scope == TokenScope::Client) {
            request.extensions_mut().insert(token);
        }
        return next.run(request).await;
    }
    let row = row(&request);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let mut used = Used::new(&access.uses, &request, row, peer);
    let request = match access.let_in(request, own, row, peer, &mut used).await {
        Ok(request) => request,
        Err(Refused { error, is_recorded }) => {
            used.answered(error.status().as_u16(), Some(error.message()), is_recorded);
            return ended(used, error.into_response()).await;
        }
    };
    let caller = request.extensions().get::<Caller>().cloned();
    let response = next.run(request).await;
    let code = response.status();
    let is_refused = [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&code);
    let is_recorded = match caller {
        Some(caller) if is_refused && used.is_recorded() => access.note(&caller, code),
        _ => used.is_recorded(),
    };
    if let Some(reviewed) = response.extensions().get::<Reviewed>() {
        used.reviewed(reviewed);
    }
    used.answered(code.as_u16(), None, is_recorded);
    ended(used, response).await
}

async fn ended(used: Used, response: Response) -> Response {
    let results = response.extensions().get::<Results>().map(|results| results.0);
    match used.end(results).await {
        Ok(()) => response,
        Err(error) => error.into_response(),
    }
}

fn row(request: &Request) -> Option<&'static Row> {
    let pattern = request.extensions().get::<MatchedPath>()?;
    table::find(request.method(), pattern.as_str())
}

impl Access {
    /// The request with its [`Caller`] and its [`Scope`], when it may go on.
    async fn let_in(
        &self,
        request: Request,
        own: Option<Token>,
        row: Option<&'static Row>,
        peer: Option<IpAddr>,
        used: &mut Used,
    ) -> Result<Request, Refused> {
        let (mut parts, body) = request.into_parts();
        let caller = self.caller(&parts, own.as_ref(), peer).await?;
        used.by(&caller);
        let refused = |error: ApiError| Refused { is_recorded: self.note(&caller, error.status()), error };
        let caller = match self.enter(&parts, caller.clone(), own.as_ref()) {
            Ok(caller) => caller,
            Err(error) => return Err(refused(error)),
        };
        used.by(&caller);
        match decide(&caller, own.as_ref(), row, &parts) {
            Ok(Decision { scope, reason }) => {
                used.decided(true, &reason);
                used.within(&scope);
                parts.extensions.insert(scope);
            }
            Err(why) => {
                used.decided(false, &why);
                return Err(refused(ApiError::new(StatusCode::FORBIDDEN, "forbidden", why)));
            }
        }
        let is_change = row.is_some_and(|row| row.is_recorded && ["create", "delete"].contains(&row.verb));
        if is_change {
            used.changes().map_err(&refused)?;
        }
        parts.extensions.insert(caller);
        Ok(Request::from_parts(parts, body))
    }

    /// Who sent it.
    async fn caller(
        &self,
        parts: &Parts,
        own: Option<&Token>,
        peer: Option<IpAddr>,
    ) -> Result<Caller, Refused> {
        let known = |user, by| Caller {
            user,
            acts_as: None,
            by,
            roles: self.door.as_ref().map(|door| door.roles.clone()),
            own: self.own.clone(),
        };
        if let Some(token) = own {
            return Ok(known(holder(token), "token"));
        }
        let Some(door) = &self.door else {
            let sender = peer.map_or(Sender::Others, Sender::Address);
            let is_recorded = self.refusals.note(sender, StatusCode::UNAUTHORIZED.as_u16());
            return Err(Refused { error: unauthorized(), is_recorded });
        };
        match door.recognise(parts, peer).await {
            Ok((user, scheme)) => Ok(known(user, scheme.as_str())),
            Err(turned) => {
                let is_recorded = turned.recorded.is_some();
                let error = match turned.told.code {
                    401 => unauthorized(),
                    _ => turned.told.into(),
                };
                Err(Refused { error, is_recorded })
            }
        }
    }

    /// Whom it acts as. Holders of our own tokens are held to no rate.
    fn enter(&self, parts: &Parts, caller: Caller, own: Option<&Token>) -> Result<Caller, ApiError> {
        let is_claimed = impersonation::is_claimed(&parts.headers);
        let Some(door) = &self.door else {
            return if is_claimed {
                let message = "nobody can be impersonated here: this process does not run the role gateway";
                Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message))
            } else {
                Ok(caller)
            };
        };
        if own.is_some() && !is_claimed {
            return Ok(caller);
        }
        let acts_as = door.enter(&caller.user, &parts.headers)?;
        Ok(Caller { acts_as, ..caller })
    }

    /// Counts a refusal of somebody who is known. True when it has a record of its own.
    fn note(&self, caller: &Caller, code: StatusCode) -> bool {
        self.refusals.note(Sender::User(caller.user.username.clone()), code.as_u16())
    }
}

/// What somebody was let in for.
struct Decision {
    scope: Scope,
    reason: String,
}

/// Whether it may do what it asks for.
fn decide(
    caller: &Caller,
    own: Option<&Token>,
    row: Option<&'static Row>,
    parts: &Parts,
) -> Result<Decision, String> {
    let path = parts.uri.path();
    let nothing = Scope::Only(Arc::default());
    if let Some(token) = own
        && let TokenScope::Intake(cluster) = &token.scope
    {
        let named = path.strip_prefix("/v1/intake/audit/");
        return if named.is_some_and(|named| named == cluster.to_string()) {
            Ok(Decision { scope: nothing, reason: String::new() })
        } else {
            Err(format!("token {} allows {} and nothing else", token.id, token.scope))
        };
    }
    let verb = row.map_or_else(|| parts.method.as_str().to_ascii_lowercase(), |row| row.verb.to_owned());
    let on = |resource, subresource, name| RuleRequest::Resource {
        verb: &verb,
        group: GROUP,
        resource,
        subresource,
        name,
    };
    let request = match row {
        Some(Row { need: Need::Events, .. }) => {
            let scope = caller.scope(&verb);
            if scope.is_too_wide() {
                return Err(format!(
                    "{}: the roles name more than {MAX_PARTS} clusters and namespaces; bind a ClusterRole for all of them",
                    told(caller, &verb)
                ));
            }
            if scope.is_empty() {
                // Its own words say what a binding of the cluster would have allowed.
                return caller
                    .may(on(EVENTS, "", ""))
                    .map(|_| Decision { scope: nothing, reason: String::new() });
            }
            return Ok(Decision { scope, reason: String::new() });
        }
        Some(Row { need: Need::Resource(resource, subresource), path: pattern, .. }) => {
            on(resource, subresource, table::parameter(pattern, path))
        }
        _ => RuleRequest::Path { verb: &verb, path },
    };
    caller.may(request).map(|verdict| Decision { scope: nothing, reason: verdict.reason })
}

fn told(caller: &Caller, verb: &str) -> String {
    format!("User {:?} cannot {verb} resource {EVENTS:?} in API group {GROUP:?}", caller.effective().username)
}

impl Caller {
    /// Whether it may make a token of this scope: nobody gives away what they do not have.
    ///
    /// # Errors
    /// 403 when it may not.
    pub(crate) fn may_give(&self, scope: &TokenScope) -> Result<(), ApiError> {
        let forbidden = |why| ApiError::new(StatusCode::FORBIDDEN, "forbidden", why);
        let cluster;
        let request = match scope {
            TokenScope::Client if self.effective().is_in(MASTERS) => return Ok(()),
            TokenScope::Client => RuleRequest::Resource {
                verb: "escalate",
                group: GROUP,
                resource: table::TOKENS,
                subresource: "",
                name: "",
            },
            TokenScope::Intake(named) => {
                cluster = named.to_string();
                RuleRequest::Resource {
                    verb: "create",
                    group: GROUP,
                    resource: EVENTS,
                    subresource: "",
                    name: &cluster,
                }
            }
        };
        self.may(request).map(drop).map_err(forbidden)
    }
}

fn bearer(headers: &axum::http::HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> ApiError {
    let message = "a valid token is needed: send it as \"Authorization: Bearer …\"; \
                   `muniment token create` makes one, and <data folder>/client.token holds one";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}
