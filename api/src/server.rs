//! The one listener: TLS, HTTP/1.1 and HTTP/2, and what every request passes on its way to its handler.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use tracing::Instrument;

use crate::{
    access,
    connections::{MAX_CONNECTIONS, Places},
    early,
    errors::ApiError,
    gateway::entry,
    metrics,
    routes::{Api, Routes},
};

/// The largest body of a request that is not intake: a query or a token's description is far smaller.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a client may take for the head of a request, or the TLS handshake, before it is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 128;

/// Bytes that an HTTP/2 client may have on their way for one request, and for all of a connection: what it can make
/// us hold before a handler reads, times [`MAX_CONNECTIONS`]. A batch of a webhook fits: with half of it on their way,
/// senders on one connection wait for each other, and intake takes half as much.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// HTTP/2 connections that stay silent are asked whether they live, so that dead peers free their place.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// An address that is listened on.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the address. Clients that connect wait until [`Listener::serve`] runs.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets open requests end for at most `grace`.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        router: Router,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
        grace: Duration,
    ) -> io::Result<()> {
        let handle = Handle::new();
        let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
            .handshake_timeout(HEAD_TIMEOUT)
            .acceptor(Places::new(MAX_CONNECTIONS));
        let mut server = axum_server::from_tcp(self.socket)?.acceptor(acceptor).handle(handle.clone());
        server = server.first_request_timeout(HEAD_TIMEOUT);
        server.http_builder().http1().header_read_timeout(HEAD_TIMEOUT);
        let mut http2 = server.http_builder().http2();
        http2.max_concurrent_streams(MAX_STREAMS).keep_alive_interval(KEEP_ALIVE);
        http2.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        tokio::spawn(async move {
            stop.cancelled().await;
            handle.graceful_shutdown(Some(grace));
        });
        server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
    }
}

/// The whole HTTP surface.
pub fn router(api: Api) -> Router {
    // Every layer clones what it holds for each request.
    let access = Arc::new(api.access.clone());
    let gateway = api.gateway.clone();
    Routes::of(&api)
        .into_router()
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(Arc::new(api))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(access, access::guard))
        .layer(middleware::from_fn_with_state(gateway, entry::divert))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                "panic",
                "the request's handler panicked",
            )
            .into_response()
        }))
        .layer(middleware::from_fn(early::hear_out))
        .layer(middleware::from_fn(observe))
}

async fn unknown_route(request: Request) -> ApiError {
    ApiError::not_found(format!("there is no {}", request.uri().path()))
}

async fn unknown_method(request: Request) -> ApiError {
    ApiError::method_not_allowed(format!("{} does not take {}", request.uri().path(), request.method()))
}

/// Gives the request an id, a span, and a place in the metrics.
async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!(
        "request", id = %id, %method, %path, token = tracing::field::Empty
    );
    let route = Arc::new(std::sync::OnceLock::new());
    let mut request = request;
    request.extensions_mut().insert(RouteName(route.clone()));
    async {
        let mut response = next.run(request).await;
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID.clone(), value);
        }
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        let route: &str = route.get().map_or("unknown", |r: &MatchedPath| r.as_str());
        metrics::request(route, known(&method), status, elapsed.as_secs_f64());
        tracing::debug!(status, ?elapsed, "answered");
        response
    }
    .instrument(span)
    .await
}

/// A method's name, or one name for all that clients make up, so that metrics have a bound.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

/// Filled in where the route is known, read where the request is measured.
#[derive(Clone)]
pub(crate) struct RouteName(Arc<std::sync::OnceLock<MatchedPath>>);

/// Notes which route a request matched: unknown paths share one name, so that metrics have a bound.
pub(crate) async fn note_route(request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    if let (Some(name), Some(path)) = (extensions.get::<RouteName>(), extensions.get::<MatchedPath>()) {
        let _ = name.0.set(path.clone());
    }
    next.run(request).await
}

/// The client's own id where it is short and printable, else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(&REQUEST_ID).and_then(|v| v.to_str().ok());
    given
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}
