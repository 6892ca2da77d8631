//! Where requests for the Kubernetes API leave the way of all others.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    serve::{Gateway, Origin},
    user::{MASTERS, UserInfo},
};
use crate::{
    auth::bearer,
    tokens::{Scope, Token, Tokens},
};

/// Which API a request may be for, and who may ask.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The gateway, where this process runs one.
    pub(crate) gateway: Option<Gateway>,
    /// Who is known.
    pub(crate) tokens: Tokens,
}

/// Serves what is the gateway's, and lets the rest pass.
pub(crate) async fn divert(State(entry): State<Entry>, request: Request, next: Next) -> Response {
    let Some(gateway) = entry.gateway.filter(|_| Gateway::owns(request.uri().path())) else {
        return next.run(request).await;
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    match bearer(&request).map(|text| entry.tokens.check(text)) {
        Some(Some(token)) if token.scope == Scope::Client => {
            gateway.serve(request, Origin { user: user(&token), peer }).await
        }
        attempted => {
            let has_shown = attempted.is_some();
            let (parts, _) = request.into_parts();
            gateway.refuse(&parts, peer, has_shown).await.into_response()
        }
    }
}

/// Whoever holds a client token may do everything, as with the rest of this process.
fn user(token: &Token) -> UserInfo {
    UserInfo {
        username: format!("muniment:token:{}", token.id),
        groups: vec![MASTERS.to_owned()],
        ..UserInfo::default()
    }
    .authenticated()
}
