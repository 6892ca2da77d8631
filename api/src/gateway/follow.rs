//! Keeps all objects of some kinds in memory, as the store has them.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use ingest::retry::Backoff;
use tokio_util::sync::CancellationToken;

use super::{
    object::Object,
    store::{Batch, Change, List, Store, StoreError, WatchError},
    stored,
};
use crate::errors::chain;

/// Between two tries to read the store.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is followed.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// As the log calls it.
    pub what: &'static str,
    /// Where it is kept.
    pub prefixes: &'static [&'static str],
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the store cannot be listed")]
    List(#[from] StoreError),
    #[error("the store cannot be watched")]
    Watch(#[from] WatchError),
    #[error("the store has closed")]
    Closed,
}

impl Followed {
    /// Follows the store until `stop`, and hands all objects on, by their keys, once they were read and after each
    /// change. While the store is away nothing is handed on.
    pub async fn follow(
        self,
        store: &dyn Store,
        stop: &CancellationToken,
        mut each: impl FnMut(&BTreeMap<String, Object>) + Send,
    ) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let followed = stop.run_until_cancelled(self.once(store, &mut each, &mut backoff)).await;
            let Some(ended) = followed else { return };
            tracing::warn!(what = self.what, error = chain(&ended), "objects are read anew");
            if stop.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.is_none() {
                return;
            }
        }
    }

    async fn once(
        self,
        store: &dyn Store,
        each: &mut (impl FnMut(&BTreeMap<String, Object>) + Send),
        backoff: &mut Backoff,
    ) -> Ended {
        let mut objects = BTreeMap::new();
        let mut watches = Vec::new();
        for &prefix in self.prefixes {
            let listing = match store.list(&List { prefix, ..List::default() }).await {
                Ok(listing) => listing,
                Err(error) => return error.into(),
            };
            for item in listing.items {
                self.keep(&mut objects, &item.key, Some(&item.object.value));
            }
            let watch = store.watch(prefix, listing.revision);
            watches.push(Box::pin(stream::unfold(watch, |mut watch| async {
                Some((watch.next().await?, watch))
            })));
        }
        backoff.reset();
        each(&objects);
        let mut changes = stream::select_all(watches);
        loop {
            match changes.next().await {
                Some(Ok(Batch { changes, .. })) if changes.is_empty() => {}
                Some(Ok(Batch { changes, .. })) => {
                    for Change { key, value, .. } in &changes {
                        self.keep(&mut objects, key, value.as_ref());
                    }
                    each(&objects);
                }
                Some(Err(error)) => return error.into(),
                None => return Ended::Closed,
            }
        }
    }

    fn keep(self, objects: &mut BTreeMap<String, Object>, key: &str, value: Option<&bytes::Bytes>) {
        match value.map(|value| stored::decode(value, 0)) {
            Some(Ok(object)) => drop(objects.insert(key.to_owned(), object)),
            Some(Err(error)) => {
                tracing::error!(
                    what = self.what,
                    key,
                    error = chain(&error),
                    "an object cannot be read: it has no effect"
                );
                objects.remove(key);
            }
            None => drop(objects.remove(key)),
        }
    }
}
