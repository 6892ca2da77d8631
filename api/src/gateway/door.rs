//! Who gets in, as whom, and whether it may: what a request passes before anything is done for it.

use std::{net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, request::Parts};
use axum_server::tls::TlsInfo;
use tokio::sync::watch;

use super::{
    authn::{Authenticator, Credentials, Scheme, account::ServiceAccounts},
    authz::{Attributes, Snapshot, Verdict, refusal},
    impersonation::impersonated,
    limits::{Class, Limits, Place},
    refusals::{Refusals, Sender},
    request::RequestInfo,
    status::{Qualified, Status},
    user::{MASTERS, UserInfo},
};

/// What decides.
#[derive(Clone, Debug)]
pub struct Door {
    /// Says who requests come from.
    pub authenticator: Authenticator,
    /// Makes and checks tokens of service accounts.
    pub accounts: Arc<ServiceAccounts>,
    /// Says when it is too much.
    pub limits: Limits,
    /// Counts who is refused.
    pub refusals: Refusals,
    /// Says who may do what.
    pub roles: watch::Receiver<Arc<Snapshot>>,
}

/// A request that came to its end before anybody was known.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    /// What its sender is told.
    pub(crate) told: Status,
    /// What is recorded of it; nothing when it was counted only.
    pub(crate) recorded: Option<Status>,
}

/// What became of a request of somebody who is known.
#[derive(Debug)]
pub(super) struct Admission {
    /// Whom its sender acts as, where that is somebody else.
    pub(super) acts_as: Option<UserInfo>,
    /// What the authorizer said, where it was asked.
    pub(super) verdict: Option<Verdict>,
    /// Its place among those in flight, or why it has none.
    pub(super) outcome: Result<Place, Status>,
    /// Whether it has records of its own.
    pub(super) is_recorded: bool,
}

impl Door {
    /// Who a request comes from.
    ///
    /// # Errors
    /// 429 when its address has asked for too much or guessed too often, 401 when nobody is known by what it shows.
    pub(super) async fn identify(
        &self,
        parts: &Parts,
        peer: Option<IpAddr>,
    ) -> Result<UserInfo, Box<TurnedAway>> {
        self.recognise(parts, peer).await.map(|(user, _)| user)
    }

    /// The same, with what showed it.
    ///
    /// # Errors
    /// As [`Door::identify`].
    pub(crate) async fn recognise(
        &self,
        parts: &Parts,
        peer: Option<IpAddr>,
    ) -> Result<(UserInfo, Scheme), Box<TurnedAway>> {
        if let Err(busy) = peer.map_or(Ok(()), |peer| self.limits.arrive(peer)) {
            let told = Status::from(busy);
            return Err(self.turn_away(told.clone(), told, peer));
        }
        let tls = parts.extensions.get::<Arc<TlsInfo>>().cloned();
        let credentials = Credentials::read(&parts.headers, parts.uri.query(), tls);
        self.authenticator.recognise(&credentials).await.map_err(|failure| {
            if let Some(peer) = peer {
                self.limits.failed(peer);
            }
            let told = Status::unauthorized();
            let mut recorded = told.clone();
            recorded.message = failure.to_string();
            self.turn_away(told, recorded, peer)
        })
    }

    /// Who a token belongs to, and for which of `audiences` it is; for those of the API where none are named.
    pub(super) async fn holder(&self, token: &str, audiences: &[String]) -> Option<(UserInfo, Vec<String>)> {
        let own = self.accounts.audiences();
        let wanted = if audiences.is_empty() { own } else { audiences };
        if let Some(checked) = self.accounts.check(token, wanted).await {
            return Some((checked.user.authenticated(), checked.audiences));
        }
        // Other tokens have no audiences of Kubernetes: they are for the API.
        let shared: Vec<String> = own.iter().filter(|name| wanted.contains(name)).cloned().collect();
        if shared.is_empty() {
            return None;
        }
        let user = self.authenticator.by_token(token).await?;
        Some((user.authenticated(), shared))
    }

    fn turn_away(&self, told: Status, recorded: Status, peer: Option<IpAddr>) -> Box<TurnedAway> {
        let sender = peer.map_or(Sender::Others, Sender::Address);
        let is_recorded = self.refusals.note(sender, told.code);
        Box::new(TurnedAway { told, recorded: is_recorded.then_some(recorded) })
    }

    /// Whom somebody who is known acts as, where it may ask for anything now. What it may do is for the roles to say.
    ///
    /// # Errors
    /// 503 while no roles are known, what [`impersonated`] says, and 429 for whoever has asked for too much.
    pub(crate) fn enter(&self, user: &UserInfo, headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        let roles = self.roles.borrow().clone();
        let acts_as = Self::acts_as(&roles, user, headers)?;
        self.limits.enter(&user.username)?;
        Ok(acts_as)
    }

    fn acts_as(roles: &Snapshot, user: &UserInfo, headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        if !roles.is_known && !user.is_in(MASTERS) {
            return Err(Status::unavailable(
                "the roles and bindings of the cluster have not been read yet",
                1,
            ));
        }
        impersonated(headers, user, |attributes| roles.authorize(attributes))
    }

    /// Whether somebody who is known may do this now, perhaps as somebody else. Nothing is waited for.
    pub(super) fn admit(&self, user: &UserInfo, info: &RequestInfo, headers: &HeaderMap) -> Admission {
        let roles = self.roles.borrow().clone();
        let mut admission = self.decide(&roles, user, info, headers);
        if let Err(status) = &admission.outcome {
            admission.is_recorded = self.refusals.note(Sender::User(user.username.clone()), status.code);
        }
        admission
    }

    fn decide(
        &self,
        roles: &Snapshot,
        user: &UserInfo,
        info: &RequestInfo,
        headers: &HeaderMap,
    ) -> Admission {
        let ended = |acts_as, verdict, outcome| Admission { acts_as, verdict, outcome, is_recorded: true };
        let acts_as = match Self::acts_as(roles, user, headers) {
            Ok(acts_as) => acts_as,
            Err(status) => return ended(None, None, Err(status)),
        };
        // The rate is the sender's own, whomever it acts as.
        let place = self.limits.enter(&user.username).and_then(|()| self.limits.start(Class::of(info)));
        let place = match place {
            Ok(place) => place,
            Err(busy) => return ended(acts_as, None, Err(busy.into())),
        };
        let attributes = Attributes::of(acts_as.as_ref().unwrap_or(user), info);
        let verdict = roles.authorize(&attributes);
        let outcome = if verdict.is_allowed {
            Ok(place)
        } else {
            let why = refusal(&attributes, &verdict.reason);
            Err(Status::forbidden(Qualified::of(info), &info.name, &why))
        };
        ended(acts_as, Some(verdict), outcome)
    }
}
