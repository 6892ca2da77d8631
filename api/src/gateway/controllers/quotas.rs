//! Quotas are counted: when one is made or changed, and when objects that it counts come and go.
//!
//! A count reads the quota first and the objects after it, and writes the sums only where the quota is still the one
//! that was read. So each charge that the sums would lose is either of an object that was listed, or noted in the quota
//! (see `gateway::admission::Charges`) and added, or made later, and then the count is made anew. Charges are thus never
//! freed while their request may still store something, in whichever process it runs.

mod census;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use ingest::retry::Backoff;
use tokio::time::{Instant, sleep_until};

use super::{AGAIN, Ended, FIRST_WAIT, LONGEST_WAIT, agent::Agent};
use crate::gateway::{
    registry::Registry,
    store::{Batch, Change, ChangeKind, List},
    stored,
};
use census::{Census, Counted};

/// Where quotas are.
const QUOTAS: &str = "resourcequotas/";

/// When a namespace is counted after something went, and after a quota was made or changed: what comes at once is
/// counted at once.
const SOON: Duration = Duration::from_millis(100);

/// And after anything else. What was charged for and came changes no sum.
const LATE: Duration = Duration::from_secs(2);

/// Namespaces to count, and when.
#[derive(Debug, Default)]
struct Due(BTreeMap<String, Instant>);

impl Due {
    /// No later than after this time.
    fn within(&mut self, namespace: &str, wait: Duration) {
        let at = Instant::now() + wait;
        let due = self.0.entry(namespace.to_owned()).or_insert(at);
        *due = at.min(*due);
    }

    fn next(&self) -> Option<(Instant, &str)> {
        self.0.iter().map(|(namespace, at)| (*at, namespace.as_str())).min()
    }
}

/// Counts the quotas of a store for as long as it is polled. `boot` is this process's start where no other process
/// writes to the store: what another one noted is of a process that has ended.
pub(super) async fn run(registry: &Registry, agent: &Agent, boot: Option<&str>) {
    let mut census = Census::new(registry, agent, boot);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    // Every resource that a quota has ever spoken of.
    let mut watched = BTreeSet::new();
    loop {
        match follow(registry, &mut census, &mut watched, &mut backoff).await {
            Ok(()) => tracing::debug!(?watched, "quotas speak of more"),
            Err(ended) => {
                tracing::warn!(error = crate::errors::chain(&ended), "quotas are read anew");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

/// Counts every namespace that has quotas, then those in which something changes. Ends well when a quota speaks of
/// something that is not followed yet.
async fn follow(
    registry: &Registry,
    census: &mut Census<'_>,
    watched: &mut BTreeSet<String>,
    backoff: &mut Backoff,
) -> Result<(), Ended> {
    let store = registry.store();
    let listing = store.list(&List { prefix: QUOTAS, ..List::default() }).await?;
    let prefixes = watched.iter().map(String::as_str).filter(|prefix| *prefix != QUOTAS).chain([QUOTAS]);
    let watches = prefixes.map(|prefix| {
        let watch = store.watch(prefix, listing.revision);
        Box::pin(stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) }))
    });
    let mut changes = stream::select_all(watches);
    let mut due = Due::default();
    let mut limited: BTreeSet<String> =
        listing.items.iter().filter_map(|item| namespace(&item.key)).map(ToOwned::to_owned).collect();
    limited.iter().for_each(|namespace| due.within(namespace, Duration::ZERO));
    backoff.reset();
    loop {
        let next = due.next().map(|(at, namespace)| (at, namespace.to_owned()));
        let turn = async {
            match &next {
                Some((at, namespace)) => {
                    sleep_until(*at).await;
                    namespace
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Batch { changes, .. })) => {
                    for change in &changes {
                        heed(change, &mut limited, &mut due, census);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Ended::Closed),
            },
            namespace = turn => {
                due.0.remove(namespace);
                match census.count(namespace).await {
                    Ok(Counted { prefixes, is_settled }) => {
                        if !is_settled {
                            due.within(namespace, LATE);
                        }
                        if !prefixes.is_subset(watched) {
                            watched.extend(prefixes);
                            return Ok(());
                        }
                    }
                    Err(status) if status.code == 409 => due.within(namespace, SOON),
                    Err(status) => {
                        tracing::warn!(namespace, error = status.message, "quotas could not be counted");
                        due.within(namespace, AGAIN);
                    }
                }
            }
        }
    }
}

/// What a change leaves to do.
fn heed(change: &Change, limited: &mut BTreeSet<String>, due: &mut Due, census: &mut Census<'_>) {
    let Some(namespace) = namespace(&change.key) else { return };
    if change.key.starts_with(QUOTAS) {
        limited.insert(namespace.to_owned());
        let is_other = change.kind == ChangeKind::Created || is_other(change);
        due.within(namespace, if is_other { SOON } else { LATE });
    } else if limited.contains(namespace) {
        if change.kind == ChangeKind::Deleted {
            census.remember(change.previous.as_deref());
        }
        due.within(namespace, if change.kind == ChangeKind::Deleted { SOON } else { LATE });
    }
}

/// Whether a quota wants something else than before. Its sums change with every charge.
fn is_other(change: &Change) -> bool {
    let spec = |bytes: Option<&bytes::Bytes>| stored::decode(bytes?, 0).ok()?.at("/spec").cloned();
    change.kind == ChangeKind::Modified && spec(change.value.as_ref()) != spec(change.previous.as_ref())
}

/// Of a key `resource/namespace/name`; a resource of another group has its group before it.
fn namespace(key: &str) -> Option<&str> {
    key.rsplit('/').nth(1)
}
