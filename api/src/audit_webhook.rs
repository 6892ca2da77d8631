//! The audit webhook: posts what the gateway records to somebody else, as kube-apiserver's does.

use std::{io, time::Duration};

use async_trait::async_trait;
use axum::http::StatusCode;
use bytes::Bytes;
use ingest::output::{Bounds, DeliveryError, Output};
use reqwest::header::CONTENT_TYPE;

use crate::kubeconfig::Endpoint;

/// How long one post may take. kube-apiserver waits as long.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of events in one post.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Posts each batch as an `EventList` of `audit.k8s.io/v1`.
///
/// Every answer of 2xx is taken for a receipt of the whole batch. With 400, 413 and 422 the receiver says that it does
/// not want these events; whatever else it answers may pass.
#[derive(Debug)]
pub struct Webhook {
    endpoint: Endpoint,
    max_events: usize,
}

/// Why a post has no receipt.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("the file of its token cannot be read")]
    Token(#[source] io::Error),
    #[error("it cannot be reached")]
    Http(#[source] reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl Webhook {
    /// A webhook that gets at most so many events at once.
    pub const fn new(endpoint: Endpoint, max_events: usize) -> Self {
        Self { endpoint, max_events }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), PostError> {
        let request = self.endpoint.post().map_err(PostError::Token)?;
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let sent = request.send().await;
        let status = sent.map_err(|e| PostError::Http(e.without_url()))?.status();
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }
}

#[async_trait]
impl Output for Webhook {
    fn bounds(&self) -> Bounds {
        Bounds { events: self.max_events, bytes: MAX_BYTES }
    }

    async fn deliver(&self, events: &[Bytes]) -> Result<(), DeliveryError> {
        match self.post(list(events)).await {
            Ok(()) => Ok(()),
            Err(PostError::Status(
                status @ (StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY),
            )) => Err(DeliveryError::Refused(status.to_string())),
            Err(error) => Err(DeliveryError::Unavailable(error.into())),
        }
    }
}

fn list(events: &[Bytes]) -> Vec<u8> {
    let mut list = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (n, event) in events.iter().enumerate() {
        if n > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event);
    }
    list.extend_from_slice(b"]}\n");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_list() {
        let events = [Bytes::from_static(br#"{"n":1}"#), Bytes::from_static(br#"{"n":2}"#)];
        let list: serde_json::Value = serde_json::from_slice(&list(&events)).unwrap();
        assert_eq!(list["kind"], "EventList");
        assert_eq!(list["items"], serde_json::json!([{ "n": 1 }, { "n": 2 }]));
    }
}
