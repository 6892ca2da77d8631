//! Somebody who is known and calls our own interface.

use std::sync::Arc;

use tokio::sync::watch;

use super::scope::Scope;
use crate::gateway::{
    authz::{Attributes, RuleRequest, Snapshot, Verdict, refusal},
    user::{MASTERS, UserInfo},
};
use crate::tokens::{Scope as TokenScope, Token};

/// Somebody who is known.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Who sent the request.
    pub(crate) user: UserInfo,
    /// Whom it acts as, where that is somebody else.
    pub(crate) acts_as: Option<UserInfo>,
    /// What showed it: `token` for one of our own, else as the gateway names it.
    pub(crate) by: &'static str,
    /// Who may do what; nothing where there is no gateway, and then only holders of our own tokens are known.
    pub(crate) roles: Option<watch::Receiver<Arc<Snapshot>>>,
    /// The gateway's own cluster.
    pub(crate) own: Arc<str>,
}

/// The name of a token's holder, the same as in the gateway.
pub(crate) fn holder(token: &Token) -> UserInfo {
    let groups = match token.scope {
        TokenScope::Client => vec![MASTERS.to_owned()],
        TokenScope::Intake(_) => Vec::new(),
    };
    let username = format!("muniment:token:{}", token.id);
    UserInfo { username, groups, ..UserInfo::default() }.authenticated()
}

impl Caller {
    /// Whom the roles are asked about.
    pub(crate) fn effective(&self) -> &UserInfo {
        self.acts_as.as_ref().unwrap_or(&self.user)
    }

    /// Whether the roles allow it at the cluster's scope.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub(crate) fn may(&self, request: RuleRequest<'_>) -> Result<Verdict, String> {
        let attributes = Attributes { user: self.effective(), request, namespace: "" };
        let verdict = self.snapshot().authorize(&attributes);
        if verdict.is_allowed { Ok(verdict) } else { Err(refusal(&attributes, &verdict.reason)) }
    }

    /// Which records it may do `verb` to, as the roles are now.
    pub(crate) fn scope(&self, verb: &str) -> Scope {
        Scope::of(&self.snapshot(), self.effective(), verb, &self.own)
    }

    /// Without roles, what the group of those allows who may do everything.
    fn snapshot(&self) -> Arc<Snapshot> {
        self.roles.as_ref().map(|roles| roles.borrow().clone()).unwrap_or_default()
    }
}
