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
pub struct Delivery {
    delivered: Later<watch::Receiver<Delivered>>,
    patience: Duration,
}

impl Delivery {
    /// Follows what the relay publishes, once there is one.
    pub fn new(delivered: Later<watch::Receiver<Delivered>>) -> Self {
        Self { delivered, patience: DELIVERY_TIMEOUT }
    }

    /// Returns when everything before `next` is in the log, on all in-sync replicas and at least two of them.
    pub(super) async fn wait(&self, next: Offset) -> Result<(), ApiError> {
        match tokio::time::timeout(self.patience, self.reach(next)).await {
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
        let mut delivered = self.delivered.wait().await;
        let reached = delivered.wait_for(|delivered| delivered.next >= next).await.ok()?;
        Some(reached.safety.unwrap_or(Safety::OneReplica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(first: Delivered) -> (watch::Sender<Delivered>, Delivery) {
        let (relay, later) = (watch::Sender::new(first), Later::new());
        later.set(relay.subscribe());
        (relay, Delivery::new(later))
    }

    fn reached(next: u64, safety: Option<Safety>) -> Delivered {
        Delivered { next: Offset(next), safety }
    }

    async fn refused(delivery: &Delivery, next: u64, because: &str) {
        let hasty = Delivery { patience: Duration::from_millis(10), ..delivery.clone() };
        let error = hasty.wait(Offset(next)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.message().contains(because), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_waits_until_the_log_has_everything_on_two_replicas() {
        let (relay, delivery) = following(reached(3, Some(Safety::Safe)));
        delivery.wait(Offset(3)).await.unwrap();
        let waits = tokio::spawn({
            let delivery = delivery.clone();
            async move { delivery.wait(Offset(5)).await }
        });
        relay.send_replace(reached(4, Some(Safety::Safe)));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        relay.send_replace(reached(5, Some(Safety::Safe)));
        waits.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_replica_a_log_that_is_away_and_a_relay_that_ended_are_told_apart() {
        let away = "did not take the events in time";
        let (relay, delivery) = following(reached(3, Some(Safety::OneReplica)));
        refused(&delivery, 3, "only one replica").await;
        refused(&delivery, 4, away).await;
        drop(relay);
        refused(&delivery, 4, away).await;
        refused(&Delivery::new(Later::new()), 1, away).await;
    }
}
