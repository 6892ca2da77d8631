//! Answers that come before the request's body has ended: what is left of the body is let in first, within bounds.
//!
//! curl before 8.0 (Debian 12 has 7.88) shows "stream error" in place of an HTTP/2 answer that comes while it still
//! sends, and an HTTP/1.1 connection that is closed then may lose the answer on its way. So whoever made the mistake
//! would not read what it was. One layer does this for every answer, whichever part of the server gives it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};
use futures::{Stream, StreamExt};

use crate::intake::body::MAX_BODY_BYTES;

/// What is let in from somebody without a token: a small file of events.
const STRANGER: Bounds = Bounds { bytes: 1024 * 1024, time: Duration::from_secs(1) };

/// What is let in otherwise: as much again as the largest body, for as long as a person waits.
const CALLER: Bounds = Bounds { bytes: MAX_BODY_BYTES, time: Duration::from_secs(5) };

#[derive(Clone, Copy, Debug)]
struct Bounds {
    bytes: u64,
    time: Duration,
}

/// Holds an answer back until the request's body has ended, or a bound is passed. Nothing of the body is kept.
pub(crate) async fn hear_out(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits_for_go_ahead = expects_go_ahead(request.headers());
    let left = Left::default();
    let request = request.map(|body| Body::from_stream(Lent::new(body, left.clone())));
    let response = next.run(request).await;
    match left.take() {
        // It sends nothing until it is told to: the answer tells it not to.
        Some(rest) if rest.is_untouched && waits_for_go_ahead => {}
        Some(rest) => {
            let bounds = if response.status() == StatusCode::UNAUTHORIZED { STRANGER } else { CALLER };
            // Whatever came of it: the answer stands.
            let _ = tokio::time::timeout(bounds.time, rest.end(bounds.bytes)).await;
        }
        None => {}
    }
    response
}

fn expects_go_ahead(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What a handler left of a body.
struct Rest {
    stream: BodyDataStream,
    is_untouched: bool,
}

impl Rest {
    async fn end(mut self, bytes: u64) {
        let mut left = bytes;
        while let Some(Ok(chunk)) = self.stream.next().await {
            let Some(still) = left.checked_sub(chunk.len() as u64) else { return };
            left = still;
        }
    }
}

/// Where a body goes that was not read to its end.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Option<Rest>>>);

impl Left {
    fn take(&self) -> Option<Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, rest: Rest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }
}

/// A body while a handler has it.
struct Lent {
    rest: Option<Rest>,
    left: Left,
}

impl Lent {
    fn new(body: Body, left: Left) -> Self {
        Self { rest: Some(Rest { stream: body.into_data_stream(), is_untouched: true }), left }
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        rest.is_untouched = false;
        let polled = rest.stream.poll_next_unpin(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        polled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.left.put(rest);
        }
    }
}
