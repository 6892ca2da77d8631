//! `--ack log`: waiting until the log has what the journal took.

use std::time::Duration;

use axum::http::StatusCode;
use ingest::{
    log::{Offset, Safety},
    relay::Delivered,
};
use tokio::sync::watch;

use crate::{errors::ApiError, later::Later};

/// How long an answer waits for the log. The events are in the journal and go on to the log in any case.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// How far the relay has brought the journal into the log.
#[derive(Clone, Debug)]
pub struct Delivery(Later<watch::Receiver<Delivered>>);

impl Delivery {
    /// Follows what the relay publishes, once there is one.
    pub fn new(delivered: Later<watch::Receiver<Delivered>>) -> Self {
        Self(delivered)
    }

    /// Returns when everything before `next` is in the log, on all in-sync replicas and at least two of them.
    pub(super) async fn wait(&self, next: Offset) -> Result<(), ApiError> {
        match tokio::time::timeout(DELIVERY_TIMEOUT, self.reach(next)).await {
            Ok(Some(Safety::Safe)) => Ok(()),
            Ok(Some(Safety::OneReplica)) => {
                let message = "the log keeps only one replica, so --ack log cannot be promised; \
                               raise the topic's replication and min.insync.replicas to 2 or more";
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "log_unsafe", message))
            }
            Ok(None) | Err(_) => Err(ApiError::unavailable(
                "log_unavailable",
                "the log did not take the events in time; they are journaled and will be delivered, \
                 sending them again is harmless",
            )),
        }
    }

    /// Nothing when the relay ended.
    async fn reach(&self, next: Offset) -> Option<Safety> {
        let mut delivered = self.0.wait().await;
        let reached = delivered.wait_for(|delivered| delivered.next >= next).await.ok()?;
        Some(reached.safety.unwrap_or(Safety::OneReplica))
    }
}
