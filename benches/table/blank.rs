//! The listener of the API without its work: bodies are read and answered.

use std::{net::SocketAddr, time::Duration};

use api::{server::Listener, tls};
use axum::{Router, body::Body, extract::DefaultBodyLimit, http::StatusCode, routing::post};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::Args;

/// Serves until the process is killed.
pub(crate) async fn serve(address: SocketAddr, args: &Args) -> anyhow::Result<()> {
    let folder = args.folder()?;
    let listener = Listener::bind(address)?;
    let routes =
        Router::new().route("/v1/intake/audit/{cluster}", post(read)).layer(DefaultBodyLimit::disable());
    let names = vec!["localhost".to_owned()];
    let tls = tls::Identity::self_signed(folder.path(), names, &ingest::time::Clock::system())?
        .server_config(tls::Clients::Anonymous)?;
    Ok(listener.serve(routes, tls, CancellationToken::new(), Duration::ZERO).await?)
}

async fn read(body: Body) -> Result<StatusCode, StatusCode> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
    }
    Ok(StatusCode::OK)
}
