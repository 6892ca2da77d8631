//! What happens in a cluster by itself: namespaces end, each gets its account and the authority's certificate, and
//! quotas are counted.
//!
//! One of the processes that share a store does it, the one that holds the lease. Whatever is written is asked for as
//! any client would, so that every change has its records.

mod account;
mod agent;
mod authority;
mod ending;
mod lease;
mod quotas;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use ingest::retry::Backoff;
use tokio_util::sync::CancellationToken;

use super::{
    registry::Registry,
    serve::Gateway,
    status::Status,
    store::{Batch, List, StoreError, WatchError},
    user::{MASTERS, UserInfo},
};
use agent::Agent;
use lease::Lease;

/// One thing that happens by itself. The names are kube-controller-manager's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// What is in an ending namespace is deleted, then the namespace.
    Namespaces,
    /// Every namespace has an account `default`.
    Accounts,
    /// Every namespace has the authority's certificate in `kube-root-ca.crt`.
    Authority,
    /// Every quota has its sums, and no charge stays whose object never came.
    Quotas,
}

impl Controller {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Namespaces, Self::Accounts, Self::Authority, Self::Quotas];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespace-controller",
            Self::Accounts => "serviceaccount-controller",
            Self::Authority => "root-ca-certificate-publisher-controller",
            Self::Quotas => "resourcequota-controller",
        }
    }

    fn user(self) -> UserInfo {
        UserInfo {
            username: format!("system:controller:{}", self.name()),
            groups: vec![MASTERS.to_owned()],
            ..UserInfo::default()
        }
        .authenticated()
    }
}

/// What runs, and for whom.
#[derive(Clone, Debug)]
pub struct Controllers {
    /// Those that run.
    pub enabled: BTreeSet<Controller>,
    /// Who holds the lease while they run here.
    pub instance: String,
    /// Whether other processes may share the store, so that a lease is needed.
    pub is_shared: bool,
    /// The certificates that the cluster's API is known by, in PEM.
    pub authority: Arc<str>,
}

/// Between two tries after something did not work.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// When a namespace that could not be finished is looked at again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is followed: a change of these may leave something to do in its namespace.
const FOLLOWED: [&str; 3] = ["configmaps/", "namespaces/", "serviceaccounts/"];

impl Controllers {
    /// Runs them while this process holds the lease, until `stop`.
    pub async fn run(self, gateway: Gateway, registry: Registry, stop: CancellationToken) {
        if self.enabled.is_empty() {
            return stop.cancelled().await;
        }
        if !self.is_shared {
            return stop.run_until_cancelled(self.work(&gateway, &registry)).await.unwrap_or_default();
        }
        let lease =
            Lease::new(registry.clone(), Agent::new(&gateway, Controller::Namespaces), &self.instance);
        while !stop.is_cancelled() {
            if stop.run_until_cancelled(lease.acquire()).await.is_none() {
                return;
            }
            tracing::info!("controllers run here");
            let lost = tokio::select! {
                () = stop.cancelled() => false,
                () = lease.keep() => true,
                () = self.work(&gateway, &registry) => false,
            };
            if lost {
                tracing::warn!("another process runs the controllers now");
            } else {
                lease.release().await;
            }
        }
    }

    async fn work(&self, gateway: &Gateway, registry: &Registry) {
        let count = async {
            if self.enabled.contains(&Controller::Quotas) {
                let boot = gateway.charges().boot();
                let boot = (!self.is_shared).then_some(&**boot);
                quotas::run(registry, &Agent::new(gateway, Controller::Quotas), boot).await;
            }
        };
        tokio::join!(self.tend_all(gateway, registry), count);
    }

    async fn tend_all(&self, gateway: &Gateway, registry: &Registry) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let ended = self.follow(gateway, registry, &mut backoff).await;
            tracing::warn!(error = crate::errors::chain(&ended), "controllers read the store anew");
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    /// Looks at every namespace, then at those that change.
    async fn follow(&self, gateway: &Gateway, registry: &Registry, backoff: &mut Backoff) -> Ended {
        let store = registry.store();
        let listing = match store.list(&List { prefix: "namespaces/", ..List::default() }).await {
            Ok(listing) => listing,
            Err(error) => return error.into(),
        };
        let watches = FOLLOWED.map(|prefix| store.watch(prefix, listing.revision));
        let watches = watches.map(|watch| {
            Box::pin(stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) }))
        });
        let mut changes = stream::select_all(watches);
        let mut waiting: BTreeSet<String> =
            listing.items.iter().filter_map(|item| touched(&item.key)).collect();
        backoff.reset();
        loop {
            let mut unfinished = BTreeSet::new();
            for namespace in std::mem::take(&mut waiting) {
                match self.tend(gateway, registry, &namespace).await {
                    Ok(true) => {}
                    Ok(false) => drop(unfinished.insert(namespace)),
                    Err(status) => {
                        tracing::warn!(namespace, error = status.message, "a controller could not finish");
                        unfinished.insert(namespace);
                    }
                }
            }
            let again = async {
                if unfinished.is_empty() {
                    std::future::pending().await
                } else {
                    tokio::time::sleep(AGAIN).await
                }
            };
            tokio::select! {
                () = again => {}
                change = changes.next() => match change {
                    Some(Ok(Batch { changes, .. })) => {
                        waiting.extend(changes.iter().filter_map(|change| touched(&change.key)));
                    }
                    Some(Err(error)) => return error.into(),
                    None => return Ended::Closed,
                },
            }
            waiting.append(&mut unfinished);
        }
    }

    /// Does what is to do in one namespace; whether nothing is left to do.
    async fn tend(&self, gateway: &Gateway, registry: &Registry, name: &str) -> Result<bool, Status> {
        let Some(namespace) = ending::namespace(registry, name).await? else { return Ok(true) };
        let mut is_done = true;
        for controller in &self.enabled {
            let agent = Agent::new(gateway, *controller);
            match (controller, namespace.is_deleting()) {
                (Controller::Namespaces, true) => {
                    is_done &= ending::finish(registry, &agent, &namespace).await?;
                }
                (Controller::Accounts, false) => account::ensure(registry, &agent, name).await?,
                (Controller::Authority, false) => {
                    authority::ensure(registry, &agent, name, &self.authority).await?;
                }
                _ => {}
            }
        }
        Ok(is_done)
    }
}

/// The namespace in which a change of this key may leave something to do.
fn touched(key: &str) -> Option<String> {
    let (prefix, rest) = key.split_once('/')?;
    match (prefix, rest.split_once('/')) {
        ("namespaces", None) => Some(rest.to_owned()),
        ("serviceaccounts", Some((namespace, account::NAME)))
        | ("configmaps", Some((namespace, authority::NAME))) => Some(namespace.to_owned()),
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("namespaces cannot be listed")]
    List(#[from] StoreError),
    #[error("namespaces cannot be watched")]
    Watch(#[from] WatchError),
    #[error("the store has closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_that_matter_lead_to_a_namespace() {
        assert_eq!(touched("namespaces/shop").as_deref(), Some("shop"));
        assert_eq!(touched("serviceaccounts/shop/default").as_deref(), Some("shop"));
        assert_eq!(touched("configmaps/shop/kube-root-ca.crt").as_deref(), Some("shop"));
        assert_eq!(touched("serviceaccounts/shop/other"), None);
        assert_eq!(touched("configmaps/shop/a"), None);
    }
}
