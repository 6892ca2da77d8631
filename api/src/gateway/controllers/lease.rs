//! Which of the processes that share a store runs the controllers.
//!
//! A Lease object, as kube-controller-manager keeps one. Its holder renews it well within its time; another one takes
//! it when it was not renewed for that long by its own clock, so that clocks need not agree.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::agent::Agent;
use crate::gateway::{
    object::Object,
    registry::{Registry, Target},
    resources::resources,
    status::Status,
};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "muniment-controllers";
const FOLDER: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// How long a holder may be silent.
const TIME: Duration = Duration::from_secs(30);

/// Between two renewals, and between two looks at another one's lease.
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Lease {
    registry: Registry,
    agent: Agent,
    holder: String,
}

impl Lease {
    pub(super) fn new(registry: Registry, agent: Agent, holder: &str) -> Self {
        Self { registry, agent, holder: holder.to_owned() }
    }

    /// Waits until this process holds it.
    pub(super) async fn acquire(&self) {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(status) => tracing::warn!(error = status.message, "the controllers' lease cannot be had"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews it until it is lost.
    pub(super) async fn keep(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(_) if renewed.elapsed() < TIME - RENEW_EVERY => {}
                Err(_) => return,
            }
        }
    }

    /// Gives it up, so that another one need not wait.
    pub(super) async fn release(&self) {
        if let Ok(Some(lease)) = self.read().await
            && lease.text_at("/spec/holderIdentity") == self.holder
        {
            // Where this fails, the lease runs out.
            drop(self.write(Some(&lease), "").await);
        }
    }

    async fn try_acquire(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, Status> {
        let Some(lease) = self.read().await? else { return self.write(None, &self.holder).await };
        let holder = lease.text_at("/spec/holderIdentity");
        if holder.is_empty() || holder == self.holder {
            return self.write(Some(&lease), &self.holder).await;
        }
        let version = lease.resource_version();
        match seen {
            Some((known, since)) if known == version => {
                if since.elapsed() > TIME {
                    return self.write(Some(&lease), &self.holder).await;
                }
            }
            _ => *seen = Some((version.to_owned(), Instant::now())),
        }
        Ok(false)
    }

    async fn renew(&self) -> Result<bool, Status> {
        match self.read().await? {
            Some(lease) if lease.text_at("/spec/holderIdentity") == self.holder => {
                self.write(Some(&lease), &self.holder).await
            }
            _ => Ok(false),
        }
    }

    async fn read(&self) -> Result<Option<Object>, Status> {
        let resource =
            resources().get("coordination.k8s.io", "v1", "leases").ok_or_else(Status::no_such_resource)?;
        match self.registry.get(&Target { resource, namespace: NAMESPACE, name: NAME }).await {
            Ok(lease) => Ok(Some(lease)),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Whether the lease could be written: not when another one was faster.
    async fn write(&self, old: Option<&Object>, holder: &str) -> Result<bool, Status> {
        let now = micros(self.registry.now());
        let acquired = match old {
            Some(lease) if lease.text_at("/spec/holderIdentity") == holder => {
                lease.text_at("/spec/acquireTime")
            }
            _ => &now,
        };
        let mut metadata = json!({ "name": NAME, "namespace": NAMESPACE });
        if let Some(lease) = old {
            metadata["resourceVersion"] = lease.resource_version().into();
        }
        let lease = json!({
            "kind": "Lease",
            "apiVersion": "coordination.k8s.io/v1",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": TIME.as_secs(),
                "acquireTime": acquired,
                "renewTime": now,
            },
        });
        let sent: Result<Value, Status> = match old {
            None => self.agent.send(Method::POST, FOLDER, Some(&lease)).await,
            Some(_) => self.agent.send(Method::PUT, &format!("{FOLDER}/{NAME}"), Some(&lease)).await,
        };
        match sent {
            Ok(_) => Ok(true),
            Err(status) if status.code == 409 => Ok(false),
            Err(status) => Err(status),
        }
    }
}

/// As a MicroTime is written.
fn micros(at: ingest::time::Timestamp) -> String {
    at.to_string()
}
