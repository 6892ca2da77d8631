//! Where requests for the Kubernetes API leave the way of all others.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};

use super::serve::Gateway;

/// Serves what is the gateway's, and lets the rest pass.
pub(crate) async fn divert(State(gateway): State<Option<Gateway>>, request: Request, next: Next) -> Response {
    let Some(gateway) = gateway.filter(|_| Gateway::owns(request.uri().path())) else {
        return next.run(request).await;
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    gateway.serve(request, peer).await
}
