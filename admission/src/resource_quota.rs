//! The built-in controller `ResourceQuota`: what a namespace may hold together, charged before anything is stored.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    AdmissionController, AdmissionRequest, AdmissionResponse, Charge, Charged, ClusterState, Denial,
    Freshness, Kind, Operation, Phases, pod::resources::Amounts,
};

mod quota;
mod scope;
mod tally;
mod usage;

pub use tally::Tally;

use quota::Quota;
use usage::Usage;

/// After what time a request that waits for its charge is refused.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a request waits for a quota that was just made to be counted, and how often it looks.
const COUNTED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often a charge is made anew because another server charged first. This server's own charges do not meet.
const ATTEMPTS: usize = 64;

/// Namespaces whose charges may be made at the same time. Two that fall together only wait for each other.
const LANES: usize = 64;

/// The controller.
pub(crate) struct ResourceQuota {
    state: Arc<dyn ClusterState>,
    lanes: Vec<Mutex<()>>,
    hasher: RandomState,
}

#[async_trait]
impl AdmissionController for ResourceQuota {
    fn name(&self) -> &str {
        "ResourceQuota"
    }

    fn supports_operation(&self, op: &Operation) -> bool {
        matches!(op, Operation::Create | Operation::Update)
    }

    async fn admit(&self, _: &AdmissionRequest) -> AdmissionResponse {
        AdmissionResponse::Allow
    }

    async fn validate(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.charge(request).await.into()
    }

    fn phases(&self) -> Phases {
        Phases::Validating
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

impl ResourceQuota {
    pub(crate) fn new(state: Arc<dyn ClusterState>) -> Self {
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        Self { state, lanes, hasher: RandomState::new() }
    }

    async fn charge(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, Denial> {
        if request.namespace.is_empty() || request.resource.is("", "namespaces") {
            return Ok(AdmissionResponse::Allow);
        }
        let Some(object) = request.object() else { return Ok(AdmissionResponse::Allow) };
        let Some(usage) = Usage::of(request, object).map_err(|why| Denial::bad_request(why.to_string()))?
        else {
            return Ok(AdmissionResponse::Allow);
        };
        if self.quotas(request, Freshness::Cached).await?.is_empty() {
            return Ok(AdmissionResponse::Allow);
        }
        self.until_counted(request, &usage).await?;
        let lane = self.hasher.hash_one(&request.namespace) as usize % LANES;
        let _turn = self.lanes[lane].lock().await;
        // What refuses must not be old, and what charges must not be either: after a conflict the whole request is
        // looked at again, so that no quota is overdrawn by a sum that was made on another's old state.
        for _ in 0..ATTEMPTS {
            let quotas = self.quotas(request, Freshness::Live).await?;
            let charges = charges(request, &usage, &quotas)?;
            if charges.is_empty() || request.dry_run {
                return Ok(AdmissionResponse::Allow);
            }
            match self.state.charge(&charges).await.map_err(Denial::internal)? {
                Charged::Done => return Ok(AdmissionResponse::Allow),
                Charged::Changed => tokio::task::yield_now().await,
            }
        }
        Err(Denial::conflict(format!(
            "the resource quotas of namespace {} were changed {ATTEMPTS} times meanwhile; try again",
            request.namespace
        )))
    }

    /// Waits a little where a quota has not been counted yet. One that stays so refuses later.
    async fn until_counted(&self, request: &AdmissionRequest, usage: &Usage<'_>) -> Result<(), Denial> {
        let ends = Instant::now() + COUNTED_WITHIN;
        loop {
            let quotas = self.quotas(request, Freshness::Live).await?;
            let mut quotas = quotas.iter().filter_map(|quota| Quota::of(quota).ok());
            let waits = quotas.any(|quota| quota.covers(usage) && quota.is_uncounted(usage));
            if !waits || Instant::now() >= ends {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn quotas(
        &self,
        request: &AdmissionRequest,
        freshness: Freshness,
    ) -> Result<Vec<Arc<Value>>, Denial> {
        let quotas = self.state.list(Kind::ResourceQuota, &request.namespace, freshness).await;
        quotas.map_err(Denial::internal)
    }
}

/// The charges of a request against the quotas that it falls under; or why one of them refuses it.
fn charges(
    request: &AdmissionRequest,
    usage: &Usage<'_>,
    quotas: &[Arc<Value>],
) -> Result<Vec<Charge>, Denial> {
    let quotas: Result<Vec<_>, _> = quotas.iter().map(|quota| Quota::of(quota)).collect();
    let quotas = quotas.map_err(|why| Denial::internal(format!("a resource quota is unreadable: {why}")))?;
    let matching: Vec<_> = quotas.iter().filter(|quota| quota.covers(usage)).collect();
    for quota in &matching {
        quota.demands(usage)?;
    }
    let is_made = request.operation == Operation::Create;
    let made = usage.object["metadata"]["uid"].as_str().filter(|_| is_made);
    let mut charges = Vec::new();
    for quota in matching {
        let delta: Amounts = usage.delta(quota);
        if let Some((delta, used)) = quota.with(&delta)? {
            charges.push(Charge {
                namespace: request.namespace.clone(),
                name: quota.name.to_owned(),
                revision: quota.revision.to_owned(),
                used: written(used),
                delta: written(delta),
                request: request.uid.clone(),
                object: made.map(ToOwned::to_owned),
            });
        }
    }
    Ok(charges)
}

/// Amounts as objects hold them.
fn written(amounts: Amounts) -> BTreeMap<String, String> {
    amounts.into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
}

#[cfg(test)]
mod tests;
